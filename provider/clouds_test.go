package provider

import (
	"testing"
	"time"

	"github.com/weir-project/weir/limiter"
)

func documentedAzure(t *testing.T, met map[Rule]bool) {
	words := func(what, wait string) string {
		return "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-02-01 have exceeded " + what +
			" of your current OpenAI S0 pricing tier. Please retry after " + wait + " seconds. Please go here: https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit."
	}
	runDocumented(t, met, "azure", map[string]documented{
		"tokens": {
			"DmitryKatson/bc-code-interpreter issue 2, 2025-06-04",
			Answer{Status: 429, ErrorType: "429", Message: words("token rate limit", "60")},
			Reading{Class: limiter.ClassQuota, Named: limiter.Tokens, HasNamed: true, Refund: tokensBack, RetryAfter: time.Minute},
		},
		"calls": {
			"langchain-ai/langchain issue 12986, 2023-11-07",
			Answer{Status: 429, Message: words("call rate limit", "9")},
			Reading{Class: limiter.ClassQuota, Named: limiter.Requests, HasNamed: true, Refund: tokensBack, RetryAfter: 9 * time.Second},
		},
		"larger than the limit": {
			"vanderschaarlab/climb issue 1, 2025-01-23: a day's wait was for want of tokens per minute",
			Answer{Status: 429, Message: words("token rate limit", "86400")},
			Reading{Class: limiter.ClassCaller, Refund: tokensBack},
		},
		"peak load": {
			"pollinations/pollinations issue 6260, 2025-12-21",
			Answer{Status: 429, Message: "The system is currently experiencing high demand and cannot process your request. Your request exceeds the maximum usage size allowed during peak load. Please retry after 20 seconds."},
			Reading{Class: limiter.ClassOverload, Refund: tokensBack, RetryAfter: 20 * time.Second},
		},
		"milliseconds": {
			"Azure docs, Azure OpenAI quotas, 2026: retry-after-ms",
			Answer{Status: 429, Headers: entries("retry-after-ms", "720", "retry-after", "1", "x-ratelimit-remaining-tokens", "0", "x-ratelimit-reset-tokens", "13")},
			Reading{Class: limiter.ClassQuota, Refund: tokensBack, RetryAfter: 720 * time.Millisecond, Headers: [4]limiter.HeaderState{limiter.Tokens: {HasRemaining: true}}, Reset: 13 * time.Second},
		},
		"unknown": {
			"Microsoft Q&A 5625878: -1, -1 and 0 from the Responses API",
			Answer{Status: 200, Headers: entries("x-ratelimit-limit-tokens", "-1", "x-ratelimit-remaining-tokens", "-1", "x-ratelimit-remaining-tokens", "0", "x-ratelimit-reset-tokens", "0")},
			Reading{Class: limiter.ClassOK, Odd: OddHeader},
		},
		"Claude on Foundry": {
			"Anthropic docs, Claude in Microsoft Foundry, 2026: its own forms",
			Answer{Status: 429, ErrorType: "rate_limit_error", Message: "This request would exceed your rate limit of 5,000 output tokens per minute", Headers: entries("anthropic-ratelimit-output-tokens-limit", "5000")},
			Reading{Class: limiter.ClassQuota, Named: limiter.OutputTokens, HasNamed: true, Refund: Refund{Output: true}, Limit: 5000, Headers: [4]limiter.HeaderState{2: {Limit: 5000, HasLimit: true}}},
		},
	})
}

func documentedBedrock(t *testing.T, met map[Rule]bool) {
	tokens := Reading{Class: limiter.ClassQuota, Named: limiter.Tokens, HasNamed: true, Refund: tokensBack}
	overload := Reading{Class: limiter.ClassOverload, Refund: tokensBack}
	weighed := tokens
	weighed.Weight = 5
	runDocumented(t, met, "bedrock", map[string]documented{
		"tokens": {"RooCodeInc/Roo-Code issue 5050, 2025-06-23", Answer{Status: 429, ErrorType: "ThrottlingException", Message: "Too many tokens, please wait before trying again."}, tokens},
		"tokens, the type in a header": {
			"aws-samples/amazon-bedrock-client-for-mac issue 99, 2025-05-12",
			Answer{Status: 200, MidStream: true, Message: "Too many tokens, please wait before trying again.", Headers: entries("x-amzn-ErrorType", "ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/")},
			Reading{Class: limiter.ClassQuota, Named: limiter.Tokens, HasNamed: true, Begun: true},
		},
		"as a 400":             {"AWS docs, Common errors", Answer{Status: 400, ErrorType: "ThrottlingException", Message: "Too many requests, please wait before trying again."}, Reading{Class: limiter.ClassQuota, Named: limiter.Requests, HasNamed: true, Refund: tokensBack}},
		"with a namespace":     {"AWS docs, Smithy AWS JSON protocol: the type may have a namespace", Answer{Status: 400, ErrorType: "com.amazon.coral.service#ThrottlingException"}, Reading{Class: limiter.ClassQuota, Refund: tokensBack}},
		"tokens of a day":      {"Ivy-Interactive/Ivy-Tendril issue 1756, 2026-07-24", Answer{Status: 429, Message: "Too many tokens per day, please wait before trying again."}, Reading{Class: limiter.ClassSpend, Refund: allBack, Narrow: true}},
		"too many connections": {"anthropics/claude-code issue 562, 2025-03-19", Answer{Status: 503, Message: "Too many connections, please wait before trying again."}, overload},
		"no capacity":          {"darko-mesaros/bedrust issue 47, 2025-01-05", Answer{Status: 503, ErrorType: "ServiceUnavailableException", Message: "Bedrock is unable to process your request."}, overload},
		"no capacity as 400":   {"aws-samples/foundation-model-benchmarking-tool issue 247, 2024-11-28", Answer{Status: 400, ErrorType: "serviceUnavailableException", Message: "Bedrock is unable to process your request."}, overload},
		"model not ready":      {"AWS docs, InvokeModel: ModelNotReadyException", Answer{Status: 429, ErrorType: "ModelNotReadyException"}, overload},
		"in a stream":          {"AWS docs, ConverseStream: throttlingException", Answer{Status: 200, ErrorType: "throttlingException", MidStream: true}, Reading{Class: limiter.ClassQuota, Begun: true}},
		"model failed":         {"AWS docs, InvokeModel: ModelErrorException", Answer{Status: 424, ErrorType: "ModelErrorException"}, Reading{Class: limiter.ClassServer, Begun: true}},
		"model timed out":      {"AWS docs, InvokeModel: ModelTimeoutException", Answer{Status: 408, ErrorType: "ModelTimeoutException"}, Reading{Class: limiter.ClassServer, Begun: true}},
		"stream failed":        {"AWS docs, ConverseStream: modelStreamErrorException", Answer{Status: 424, ErrorType: "ModelStreamErrorException"}, Reading{Class: limiter.ClassServer, Begun: true}},
		"service quota":        {"AWS docs, InvokeModel: ServiceQuotaExceededException", Answer{Status: 400, ErrorType: "ServiceQuotaExceededException"}, Reading{Class: limiter.ClassQuota, Refund: tokensBack}},
		"invalid":              {"AWS docs, InvokeModel: ValidationException", Answer{Status: 400, ErrorType: "ValidationException"}, Reading{Class: limiter.ClassCaller, Refund: tokensBack}},
		"burndown": {
			"AWS docs, Bedrock token burndown, 2026",
			Answer{Status: 429, ErrorType: "ThrottlingException", Model: "us.anthropic.claude-sonnet-4-5-20250929-v1:0", Message: "Too many tokens, please wait before trying again."},
			weighed,
		},
	})
}

func documentedGoogle(t *testing.T, met map[Rule]bool) {
	overload := Reading{Class: limiter.ClassOverload, Refund: tokensBack}
	quotas := func(ids string) string {
		return "You exceeded your current quota, please check your plan and billing details. {'@type': 'type.googleapis.com/google.rpc.QuotaFailure', 'violations': [" + ids + "]}"
	}
	tokens := "{'quotaMetric': 'generativelanguage.googleapis.com/generate_content_free_tier_input_token_count', 'quotaId': 'GenerateContentInputTokensPerModelPerMinute-FreeTier'}"
	requests := "{'quotaMetric': 'generativelanguage.googleapis.com/generate_content_free_tier_requests', 'quotaId': 'GenerateRequestsPerMinutePerProjectPerModel-FreeTier'}"
	day := "{'quotaMetric': 'generativelanguage.googleapis.com/generate_content_free_tier_requests', 'quotaId': 'GenerateRequestsPerDayPerProjectPerModel-FreeTier'}"
	delay := `, {'@type': 'type.googleapis.com/google.rpc.RetryInfo', 'retryDelay': '37s'}`
	for _, name := range []string{"gemini", "vertex"} {
		runDocumented(t, met, name, map[string]documented{
			"tokens and requests of a minute": {
				"google-gemini/gemini-cli issue 8437, 2025-09-14",
				Answer{Status: 429, ErrorType: "RESOURCE_EXHAUSTED", Message: quotas(tokens+", "+requests) + delay},
				Reading{Class: limiter.ClassQuota, Named: limiter.InputTokens, HasNamed: true, Refund: tokensBack, RetryAfter: 37 * time.Second},
			},
			"requests of a minute": {
				"google-gemini/gemini-cli issue 8437, 2025-09-14",
				Answer{Status: 429, ErrorType: "RESOURCE_EXHAUSTED", Message: quotas(requests) + `, "retryDelay": "0.5s"`},
				Reading{Class: limiter.ClassQuota, Named: limiter.Requests, HasNamed: true, Refund: tokensBack, RetryAfter: 500 * time.Millisecond},
			},
			"requests of a day": {
				"google-gemini/gemini-cli issue 8437, 2025-09-14; that it stays until midnight: gke-labs/gemini-for-kubernetes-development issue 1215",
				Answer{Status: 429, ErrorType: "RESOURCE_EXHAUSTED", Message: quotas(tokens+", "+requests+", "+day) + delay},
				Reading{Class: limiter.ClassSpend, Refund: allBack, Narrow: true},
			},
			"tokens, in the message": {
				"continuedev/continue issue 9570, 2026-01-16 (there with limit 0)",
				Answer{Status: 429, Message: "You exceeded your current quota. * Quota exceeded for metric: generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 15, model: gemini-3-pro\n* Quota exceeded for metric: generativelanguage.googleapis.com/generate_content_free_tier_input_token_count, limit: 250000, model: gemini-3-pro\nPlease retry in 45.578569677s."},
				Reading{Class: limiter.ClassQuota, Named: limiter.InputTokens, HasNamed: true, Refund: tokensBack, RetryAfter: 45578569677, Limit: 250_000},
			},
			"Claude's requests":       {"Aider-AI/aider issue 1912, 2024-10-03", Answer{Status: 429, ErrorType: "RESOURCE_EXHAUSTED", Message: "Quota exceeded for aiplatform.googleapis.com/online_prediction_requests_per_base_model with base model: anthropic-claude-3-5-sonnet."}, Reading{Class: limiter.ClassQuota, Named: limiter.Requests, HasNamed: true, Refund: tokensBack}},
			"embedded tokens":         {"cocoindex-io/cocoindex issue 1151, 2025-10-06", Answer{Status: 429, ErrorType: "RESOURCE_EXHAUSTED", Message: "Quota exceeded for aiplatform.googleapis.com/embed_content_input_tokens_per_minute_per_base_model with base model: gemini-embedding."}, Reading{Class: limiter.ClassQuota, Named: limiter.InputTokens, HasNamed: true, Refund: tokensBack}},
			"unnamed":                 {"google-gemini/gemini-cli issue 2020, 2025-06-26", Answer{Status: 429, Message: "Resource has been exhausted (e.g. check quota)."}, Reading{Class: limiter.ClassQuota, Refund: tokensBack}},
			"shared capacity":         {"google-gemini/gemini-cli issue 14811", Answer{Status: 429, ErrorType: "RESOURCE_EXHAUSTED", Message: "Resource exhausted. Please try again later. Please refer to https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details."}, overload},
			"out of capacity":         {"googleapis/google-cloud-java issue 11054, 2024-08-01", Answer{Status: 429, ErrorType: "RESOURCE_EXHAUSTED", Message: "Unable to submit request because the service is temporarily out of capacity. Try again later."}, overload},
			"overloaded":              {"google-gemini/gemini-cli issue 5191, 2025-07-30", Answer{Status: 503, ErrorType: "UNAVAILABLE", Message: "The model is overloaded. Please try again later."}, overload},
			"high demand":             {"continuedev/continue issue 10639, 2026-02-19", Answer{Status: 503, ErrorType: "UNAVAILABLE", Message: "This model is currently experiencing high demand. Spikes in demand are usually temporary."}, overload},
			"no capacity":             {"su-kaka/gcli2api issue 313, 2026-02-03", Answer{Status: 429, ErrorType: "RESOURCE_EXHAUSTED", Message: `{"error":{"message":"No capacity available for model gemini-3-pro-preview on the server","details":[{"reason":"MODEL_CAPACITY_EXHAUSTED"}]}}`}, overload},
			"deadline":                {"Gemini docs, Troubleshooting: DEADLINE_EXCEEDED", Answer{Status: 504, ErrorType: "DEADLINE_EXCEEDED"}, Reading{Class: limiter.ClassServer, Begun: true}},
			"cancelled":               {"google.rpc.Code: CANCELLED", Answer{Status: 499, ErrorType: "CANCELLED"}, Reading{Class: limiter.ClassUnknown, Begun: true}},
			"denied":                  {"google.rpc.Code: PERMISSION_DENIED", Answer{Status: 403, ErrorType: "PERMISSION_DENIED"}, Reading{Class: limiter.ClassCredential, Refund: tokensBack}},
			"Claude, overloaded":      {"Anthropic docs, Claude on Vertex AI: its own forms", Answer{Status: 529, ErrorType: "overloaded_error"}, overload},
			"unavailable in a stream": {"google.rpc.Code: UNAVAILABLE", Answer{Status: 200, ErrorType: "UNAVAILABLE", MidStream: true}, Reading{Class: limiter.ClassOverload, Begun: true}},
		})
	}
}

func documentedOthers(t *testing.T, met map[Rule]bool) {
	runDocumented(t, met, "groq", map[string]documented{
		"headers": {
			"Groq docs, Rate limits, as quoted in Pythagora-io/gpt-pilot issue 862: requests are a day's",
			Answer{Status: 429, Headers: entries("retry-after", "2", "x-ratelimit-limit-requests", "14400", "x-ratelimit-limit-tokens", "18000", "x-ratelimit-remaining-requests", "14370", "x-ratelimit-remaining-tokens", "0",
				"x-ratelimit-reset-requests", "2m59.56s", "x-ratelimit-reset-tokens", "7.66s")},
			Reading{Class: limiter.ClassQuota, Refund: tokensBack, RetryAfter: 2 * time.Second, Headers: [4]limiter.HeaderState{limiter.Tokens: limitOf(18_000, 0)}, Reset: 7660 * time.Millisecond, Aside: 3},
		},
		"tokens": {
			"crewAIInc/crewAI issue 494, 2024-04-23",
			Answer{Status: 429, ErrorType: "tokens", Message: "Rate limit reached for model `llama3-70b-8192` in organization `org_123` on tokens per minute (TPM): Limit 5000, Used 5747, Requested ~4251. Please try again in 59.977s."},
			Reading{Class: limiter.ClassQuota, Named: limiter.Tokens, HasNamed: true, Refund: tokensBack, RetryAfter: 59977 * time.Millisecond, Limit: 5000, Requested: 4251},
		},
		"tokens of a day": {
			"continuedev/continue issue 10920, 2026-02-28",
			Answer{Status: 429, Message: "429 Rate limit reached for model `llama-3.3-70b-versatile` in organization `x` service tier `on_demand` on tokens per day (TPD): Limit 100000, Used 97050, Requested 3619. Please try again in 9m38.016s."},
			Reading{Class: limiter.ClassSpend, Refund: allBack, Narrow: true, RetryAfter: 9*time.Minute + 38016*time.Millisecond},
		},
		"flex": {"Groq docs, Errors: 498", Answer{Status: 498}, Reading{Class: limiter.ClassOverload, Refund: tokensBack}},
	})
	runDocumented(t, met, "mistral", map[string]documented{
		"headers": {
			"mistralai/client-ts issue 169, 2026-02-12",
			Answer{Status: 200, Headers: entries("x-ratelimit-limit-tokens-minute", "5000000", "x-ratelimit-remaining-tokens-minute", "4999911", "x-ratelimit-tokens-query-cost", "52", "x-ratelimit-limit-req-minute", "720",
				"x-ratelimit-remaining-req-minute", "717", "x-ratelimit-limit-tokens-month", "4000000000")},
			Reading{Class: limiter.ClassOK, Headers: [4]limiter.HeaderState{limiter.Requests: limitOf(720, 717), limiter.Tokens: limitOf(5_000_000, 4_999_911)}, Aside: 2},
		},
		"refused": {"Mistral docs, Errors: code 1300", Answer{Status: 429, ErrorType: "rate_limited", Message: "Rate limit exceeded", Headers: entries("Retry-After", "3")}, Reading{Class: limiter.ClassQuota, Refund: tokensBack, RetryAfter: 3 * time.Second}},
	})
	runDocumented(t, met, "openrouter", map[string]documented{
		"a minute's": {
			"huggingface/smolagents issue 361, 2025-01-26",
			Answer{Status: 429, Message: "Rate limit exceeded: free-models-per-min. ", Headers: entries("X-RateLimit-Limit", "20", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1787227230000")},
			Reading{Class: limiter.ClassQuota, Named: limiter.Requests, HasNamed: true, Refund: tokensBack, RetryAfter: 30 * time.Second, Aside: 3},
		},
		"a day's": {
			"Gitlawb/openclaude issue 936, 2026-04-28",
			Answer{Status: 429, Message: "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day", Headers: entries("X-RateLimit-Limit", "50", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1787270400000")},
			Reading{Class: limiter.ClassSpend, Refund: allBack, Narrow: true, RetryAfter: time.Hour, Aside: 3},
		},
		"from behind":           {"OpenRouter docs, Errors: metadata.provider_code", Answer{Status: 429, Message: `{"error":{"message":"Provider returned error","metadata":{"provider_code":429}}}`}, Reading{Class: limiter.ClassOverload, Refund: tokensBack}},
		"from behind, in words": {"BerriAI/litellm issue 8448, 2025-02-11", Answer{Status: 429, Message: "Provider returned error"}, Reading{Class: limiter.ClassOverload, Refund: tokensBack}},
		"no credit":             {"OpenRouter docs, Errors: 402", Answer{Status: 402, Headers: entries("Retry-After", "60")}, Reading{Class: limiter.ClassSpend, Refund: allBack, RetryAfter: time.Minute}},
	})
}

func documentedGateways(t *testing.T, met map[Rule]bool) {
	runDocumented(t, met, "a gateway", map[string]documented{
		"policies": {
			"draft-ietf-httpapi-ratelimit-headers-10",
			Answer{Status: 200, Headers: entries("RateLimit-Policy", `"burst";q=100;w=60,"daily";q=1000;w=86400`, "RateLimit", `"burst";r=50;t=30`)},
			Reading{Class: limiter.ClassOK, Headers: [4]limiter.HeaderState{limitOf(100, 50)}, Aside: 1},
		},
		"a second's": {
			"draft-ietf-httpapi-ratelimit-headers-10",
			Answer{Status: 429, Headers: entries("ratelimit-policy", `"s;,x";q=10;w=1;qu="requests";pk=:cHsdsRa894==:`, "ratelimit", `"s;,x";r=0;t=1`)},
			Reading{Class: limiter.ClassQuota, Refund: tokensBack, RetryAfter: time.Second, Headers: [4]limiter.HeaderState{{Limit: 600, HasLimit: true}}, Aside: 1},
		},
		"bytes and calls at a time": {
			"draft-ietf-httpapi-ratelimit-headers-10",
			Answer{Status: 200, Headers: entries("RateLimit-Policy", `"peruser";q=65535;qu="content-bytes";w=10, "c";q=5;qu="concurrent-requests"`, "RateLimit", `"peruser";r=0;t=9`)},
			Reading{Class: limiter.ClassOK, Aside: 3},
		},
		"retry-after wins": {
			"draft-ietf-httpapi-ratelimit-headers-10",
			Answer{Status: 429, Headers: entries("RateLimit", `"default";r=0;t=30`, "Retry-After", "20")},
			Reading{Class: limiter.ClassQuota, Refund: tokensBack, RetryAfter: 20 * time.Second, Aside: 1},
		},
		"not of that form": {
			"draft-ietf-httpapi-ratelimit-headers-03: another form of the same name",
			Answer{Status: 200, Headers: entries("RateLimit", "limit=100, remaining=50, reset=30", "RateLimit-Policy", "-;q=-1;w=60")},
			Reading{Class: limiter.ClassOK, Aside: 3, Odd: OddHeader},
		},
		"Anthropic's words": {"FoundationAgents/OpenManus issue 746: gateways pass on Anthropic's words", Answer{Status: 429, Message: "would exceed your organization's rate limit of 50 requests per minute"}, Reading{Class: limiter.ClassQuota, Named: limiter.Requests, HasNamed: true, Refund: tokensBack, Limit: 50}},
		"OpenAI's headers":  {"OpenAI docs, Rate limits, 2026-09, with more left than there is", Answer{Status: 200, Headers: entries("x-ratelimit-limit-tokens", "1000", "x-ratelimit-remaining-tokens", "1200")}, Reading{Class: limiter.ClassOK, Headers: [4]limiter.HeaderState{limiter.Tokens: limitOf(1000, 1000)}, Odd: OddHeader}},
	})
}
