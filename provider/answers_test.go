package provider

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-project/weir/limiter"
)

// noon is when the answers of these tests come.
var noon = limiter.InstantOf(time.Date(2026, 8, 20, 12, 0, 0, 0, time.UTC))

// documented is an answer that was documented or captured, and what it means.
type documented struct {
	source string // where it stands
	answer Answer
	want   Reading
}

// entries are headers, by name and value in turn.
func entries(nv ...string) []limiter.Entry {
	var hs []limiter.Entry
	for i := 0; i+1 < len(nv); i += 2 {
		hs = append(hs, limiter.Entry{Key: nv[i], Value: nv[i+1]})
	}
	return hs
}

func limitOf(limit, remaining uint64) limiter.HeaderState {
	return limiter.HeaderState{Limit: limit, HasLimit: true, Remaining: remaining, HasRemaining: true}
}

// TestDocumented reads what upstreams were seen or said to answer, and sees to it that
// no rule is there without such an answer.
func TestDocumented(t *testing.T) {
	met := make(map[Rule]bool)
	for name, test := range map[string]func(*testing.T, map[Rule]bool){
		"anthropic: limits": documentedAnthropicLimits, "anthropic: ramps": documentedAnthropicRamps, "anthropic: money": documentedAnthropicEntitlementsAndMoney,
		"anthropic: failures": documentedAnthropicFailures, "openai: limits": documentedOpenAILimits, "openai: failures": documentedOpenAI, "azure": documentedAzure,
		"bedrock": documentedBedrock, "google": documentedGoogle, "others": documentedOthers, "gateways": documentedGateways,
	} {
		t.Run(name, func(t *testing.T) { test(t, met) })
	}
	for _, name := range Names() {
		for i, r := range Named(name).Rules {
			if !met[r] {
				t.Errorf("%s: no documented answer for rule %d, %+v", name, i, r)
			}
		}
	}
}

// runDocumented reads each answer by the profile of that name.
func runDocumented(t *testing.T, met map[Rule]bool, provider string, all map[string]documented) {
	t.Helper()
	for name, d := range all {
		t.Run(name, func(t *testing.T) {
			if d.source == "" {
				t.Error("no source")
			}
			p := Named(provider)
			got := p.Read(&d.answer, noon)
			p.meet(met, &d.answer)
			if d.want.Weight == 0 {
				d.want.Weight = 1
			}
			if diff := cmp.Diff(d.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", d.source, diff)
			}
		})
	}
}

// meet notes the rule that an answer is read by.
func (p *Profile) meet(met map[Rule]bool, a *Answer) {
	errorType := bareType(a.ErrorType)
	status := a.Status
	if status < 300 {
		status = p.statusOf(errorType)
	}
	if r := p.ruleFor(status, errorType, lowered(a.Message)); r != nil {
		met[*r] = true
	}
}

var (
	allBack    = Refund{Requests: true, Input: true, Output: true}
	tokensBack = Refund{Input: true, Output: true}
)

const (
	anthropicErrors = "Anthropic docs, Errors, 2026-10"
	anthropicLimits = "Anthropic docs, Rate limits, 2026-10"
)

func documentedAnthropicLimits(t *testing.T, met map[Rule]bool) {
	coday := entries(
		"anthropic-ratelimit-requests-limit", "4000", "anthropic-ratelimit-requests-remaining", "4000", "anthropic-ratelimit-requests-reset", "2026-08-20T12:00:00Z",
		"anthropic-ratelimit-input-tokens-limit", "200000", "anthropic-ratelimit-input-tokens-remaining", "0", "anthropic-ratelimit-input-tokens-reset", "2026-08-20T12:01:03Z",
		"anthropic-ratelimit-output-tokens-limit", "80000", "anthropic-ratelimit-output-tokens-remaining", "80000", "anthropic-ratelimit-output-tokens-reset", "2026-08-20T12:00:00Z",
		"anthropic-ratelimit-tokens-limit", "280000", "anthropic-ratelimit-tokens-remaining", "80000", "anthropic-ratelimit-tokens-reset", "2026-08-20T12:00:00Z",
		"Retry-After", "16", "X-Should-Retry", "true",
	)
	runDocumented(t, met, "anthropic", map[string]documented{
		"input tokens": {
			"whoz-oss/coday issue 110 (headers, 2025-06-02) and " + anthropicLimits,
			Answer{Status: 429, ErrorType: "rate_limit_error", Headers: coday, Message: "This request would exceed your organization’s rate limit of 200,000 input tokens per minute (org: x, model: y)."},
			Reading{
				Class: limiter.ClassQuota, Named: limiter.InputTokens, HasNamed: true, Refund: allBack, RetryAfter: 16 * time.Second, Retry: RetryYes,
				Limit: 200_000, Headers: [4]limiter.HeaderState{limitOf(4000, 4000), limitOf(200_000, 0), limitOf(80_000, 80_000)}, Reset: 63 * time.Second, Aside: 3,
			},
		},
		"input tokens, through a gateway": {
			"FoundationAgents/OpenManus issue 746, 2025-03-16",
			Answer{Status: 429, ErrorType: "invalid_request_error", Message: "This request would exceed the rate limit for your organization of 20,000 input tokens per minute. For details, refer to: https://docs.anthropic.com/en/api/rate-limits."},
			Reading{Class: limiter.ClassQuota, Named: limiter.InputTokens, HasNamed: true, Refund: allBack, Limit: 20_000},
		},
		"input tokens, older words": {
			anthropicLimits,
			Answer{Status: 429, ErrorType: "rate_limit_error", Message: "Number of request tokens has exceeded your per-minute rate limit"},
			Reading{Class: limiter.ClassQuota, Named: limiter.InputTokens, HasNamed: true, Refund: allBack},
		},
		"output tokens": {
			anthropicLimits,
			Answer{Status: 429, ErrorType: "rate_limit_error", Message: "This request would exceed your organization's rate limit of 8,000 output tokens per minute"},
			Reading{Class: limiter.ClassQuota, Named: limiter.OutputTokens, HasNamed: true, Refund: Refund{Output: true}, Limit: 8000},
		},
		"requests": {
			anthropicLimits,
			Answer{Status: 429, ErrorType: "rate_limit_error", Message: "would exceed your organization's rate limit of 50 requests per minute"},
			Reading{Class: limiter.ClassQuota, Named: limiter.Requests, HasNamed: true, Refund: allBack, Limit: 50},
		},
		"a subscription's": {
			"a text of subscriptions, published 2026, without headers",
			Answer{Status: 429, ErrorType: "rate_limit_error", Message: "This request would exceed your account's rate limit. Please try again later."},
			Reading{Class: limiter.ClassQuota, Refund: allBack},
		},
		"a subscription's, with its headers": {
			"anthropic-ratelimit-unified-* as captured from subscriptions, 2026",
			Answer{Status: 429, Headers: entries("anthropic-ratelimit-unified-status", "rejected", "anthropic-ratelimit-unified-5h-utilization", "1", "anthropic-ratelimit-unified-5h-reset", "1787230800",
				"anthropic-priority-input-tokens-limit", "10000", "anthropic-fast-input-tokens-limit", "0")},
			Reading{Class: limiter.ClassQuota, Refund: allBack, Aside: 5},
		},
		"headers of a success": {
			anthropicLimits,
			Answer{Status: 200, Headers: entries("anthropic-ratelimit-input-tokens-limit", "80000", "anthropic-ratelimit-input-tokens-remaining", "79000", "request-id", "req_1", "retry-after", "5")},
			Reading{Class: limiter.ClassOK, Headers: [4]limiter.HeaderState{1: limitOf(80_000, 79_000)}},
		},
	})
}

func documentedAnthropicRamps(t *testing.T, met map[Rule]bool) {
	runDocumented(t, met, "anthropic", map[string]documented{
		"acceleration with numbers": {
			"a 429 captured 2026-03, of the form that " + anthropicLimits + " describes",
			Answer{Status: 429, ErrorType: "rate_limit_error", Message: "This request would exceed your organization's maximum usage increase rate for input tokens per minute (org: x, model: y). Your current limit is 58,276 input tokens per minute, and will increase to 68,276 at the next minute boundary. Please scale up your input tokens usage more gradually to stay within the acceleration limit."},
			Reading{Class: limiter.ClassAcceleration, Named: limiter.InputTokens, HasNamed: true, Refund: allBack, Ramp: 58_276, RampNext: 68_276},
		},
		"acceleration without": {
			"a 429 captured 2025-09",
			Answer{Status: 429, ErrorType: "rate_limit_error", Message: "This request would exceed your organization's maximum usage increase rate for input tokens per minute.", Headers: entries("retry-after", "1200")},
			Reading{Class: limiter.ClassAcceleration, Named: limiter.InputTokens, HasNamed: true, Refund: allBack, RetryAfter: 20 * time.Minute},
		},
		"acceleration, in other words": {
			anthropicLimits + ": what such a refusal is called",
			Answer{Status: 429, ErrorType: "rate_limit_error", Message: "You have hit the acceleration limit of your organization."},
			Reading{Class: limiter.ClassAcceleration, Refund: allBack},
		},
		"concurrency": {
			"429s of this text published 2024 to 2026, none with rate-limit headers",
			Answer{Status: 429, ErrorType: "rate_limit_error", Message: "Number of concurrent connections has exceeded your rate limit. Please try again later or contact sales."},
			Reading{Class: limiter.ClassConcurrency, Refund: allBack},
		},
	})
}

func documentedAnthropicEntitlementsAndMoney(t *testing.T, met map[Rule]bool) {
	sep1 := limiter.InstantOf(time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC))
	entitlement := Reading{Class: limiter.ClassEntitlement, Refund: allBack}
	spend := Reading{Class: limiter.ClassSpend, Refund: allBack}
	narrow := Reading{Class: limiter.ClassSpend, Refund: allBack, Narrow: true}
	runDocumented(t, met, "anthropic", map[string]documented{
		"long context, before":   {"Wei-Shaw/sub2api issue 572", Answer{Status: 429, ErrorType: "rate_limit_error", Message: "Extra usage is required for long context requests."}, entitlement},
		"long context, now":      {"as published since 2026-06", Answer{Status: 429, ErrorType: "rate_limit_error", Message: "Usage credits are required for long context requests."}, entitlement},
		"long context, as shown": {"as Claude Code shows it, published 2026", Answer{Status: 429, Message: "API Error: Usage credits are required for 1M context"}, entitlement},
		"out of extra usage":     {"as Claude Code shows it, published 2026", Answer{Status: 429, Message: "You're out of extra usage"}, entitlement},
		"the tier's cap": {
			anthropicErrors,
			Answer{Status: 429, ErrorType: "rate_limit_error", Message: "You have reached your API usage limits: monthly. You will regain access on 2026-09-01 at 00:00 UTC."},
			Reading{Class: limiter.ClassSpend, Refund: allBack, Until: sep1, RetryAfter: sep1.Sub(noon)},
		},
		"the tier's cap, whole body": {
			anthropicErrors,
			Answer{Status: 429, Message: `{"type":"error","error":{"type":"rate_limit_error","message":"Limit reached.","details":{"error_code":"enforced_spend_limit_reached"}}}`},
			spend,
		},
		"one's own cap":       {anthropicErrors, Answer{Status: 400, ErrorType: "invalid_request_error", Message: "You have reached your specified API usage limits."}, spend},
		"a workspace's cap":   {anthropicErrors, Answer{Status: 400, ErrorType: "invalid_request_error", Message: "You have reached your specified workspace API usage limits"}, narrow},
		"no credit":           {anthropicErrors, Answer{Status: 400, ErrorType: "invalid_request_error", Message: "Your credit balance is too low to access the Anthropic API."}, spend},
		"billing":             {anthropicErrors, Answer{Status: 402, ErrorType: "billing_error"}, spend},
		"billing as a 400":    {"the type of " + anthropicErrors + " with the status of its neighbours", Answer{Status: 400, ErrorType: "billing_error"}, spend},
		"billing as a 429":    {"the type of " + anthropicErrors + " with the status of its neighbours", Answer{Status: 429, ErrorType: "billing_error"}, spend},
		"a cap without words": {anthropicErrors, Answer{Status: 429, ErrorType: "enforced_spend_limit_reached"}, spend},
	})
}

func documentedAnthropicFailures(t *testing.T, met map[Rule]bool) {
	begun := func(c limiter.Class) Reading { return Reading{Class: c, Begun: true} }
	failed := func(c limiter.Class, back Refund) Reading { return Reading{Class: c, Refund: back} }
	caller, credential := failed(limiter.ClassCaller, tokensBack), failed(limiter.ClassCredential, tokensBack)
	overload, server := failed(limiter.ClassOverload, tokensBack), failed(limiter.ClassServer, Refund{Output: true})
	runDocumented(t, met, "anthropic", map[string]documented{
		"invalid request":     {anthropicErrors, Answer{Status: 400, ErrorType: "invalid_request_error", Message: "max_tokens: too large"}, caller},
		"not found":           {anthropicErrors, Answer{Status: 404, ErrorType: "not_found_error"}, caller},
		"too large":           {anthropicErrors, Answer{Status: 413, ErrorType: "request_too_large"}, caller},
		"conflict":            {anthropicErrors, Answer{Status: 409, ErrorType: "conflict_error"}, caller},
		"unauthenticated":     {anthropicErrors, Answer{Status: 401, ErrorType: "authentication_error"}, credential},
		"forbidden":           {anthropicErrors, Answer{Status: 403, ErrorType: "permission_error"}, credential},
		"overloaded":          {anthropicErrors, Answer{Status: 529, ErrorType: "overloaded_error", Message: "Overloaded"}, overload},
		"overloaded, no body": {anthropicErrors, Answer{Status: 529}, overload},
		"overloaded as 503":   {"a gateway's status with the text of " + anthropicErrors, Answer{Status: 503, Message: "Overloaded"}, overload},
		"overloaded as 500":   {"a gateway's status with the type of " + anthropicErrors, Answer{Status: 500, ErrorType: "overloaded_error"}, overload},
		"overloaded as 429":   {"a gateway's status with the type of " + anthropicErrors, Answer{Status: 429, ErrorType: "overloaded_error"}, overload},
		"overloaded, wait": {
			anthropicErrors + ": use it if it is there",
			Answer{Status: 529, ErrorType: "overloaded_error", Headers: entries("retry-after", "7")},
			Reading{Class: limiter.ClassOverload, Refund: tokensBack, RetryAfter: 7 * time.Second},
		},
		"api error":       {anthropicErrors, Answer{Status: 500, ErrorType: "api_error"}, server},
		"bad gateway":     {"RFC 9110 15.6.3", Answer{Status: 502}, server},
		"unavailable":     {"RFC 9110 15.6.4", Answer{Status: 503}, server},
		"timeout":         {anthropicErrors, Answer{Status: 504, ErrorType: "timeout_error"}, begun(limiter.ClassServer)},
		"request timeout": {"RFC 9110 15.5.9", Answer{Status: 408}, begun(limiter.ClassServer)},
		"overloaded in a stream": {
			anthropicErrors + ", and anthropics/anthropic-sdk-python issue 1258 (status 200)",
			Answer{Status: 200, ErrorType: "overloaded_error", Message: "Overloaded", MidStream: true},
			begun(limiter.ClassOverload),
		},
		"rate limit in a stream": {
			anthropicErrors,
			Answer{Status: 200, ErrorType: "rate_limit_error", Message: "your rate limit of 8,000 output tokens per minute", MidStream: true},
			Reading{Class: limiter.ClassQuota, Named: limiter.OutputTokens, HasNamed: true, Begun: true, Limit: 8000},
		},
		"api error in a stream":     {anthropicErrors, Answer{Status: 200, ErrorType: "api_error", MidStream: true}, begun(limiter.ClassServer)},
		"unheard error in a stream": {anthropicErrors + ": new types may come", Answer{Status: 200, ErrorType: "brand_new_error", MidStream: true}, begun(limiter.ClassServer)},
		"a type without a status":   {"what a client reports that has only the type", Answer{ErrorType: "overloaded_error"}, overload},
		"an unheard type alone":     {"what a client reports that has only the type", Answer{ErrorType: "brand_new_error"}, Reading{Class: limiter.ClassUnknown}},
		"nothing":                   {"no answer", Answer{}, Reading{}},
		"never sent":                {"no call", Answer{Unsent: true, Status: 429}, Reading{Class: limiter.ClassUnused, Refund: allBack}},
		"success":                   {"RFC 9110 15.3", Answer{Status: 201}, Reading{Class: limiter.ClassOK}},
		"redirect":                  {"RFC 9110 15.4", Answer{Status: 302}, Reading{Class: limiter.ClassUnknown}},
	})
}

const openaiErrors = "OpenAI docs, Error codes, 2026-09"

func documentedOpenAILimits(t *testing.T, met map[Rule]bool) {
	runDocumented(t, met, "openai", map[string]documented{
		"tokens": {
			"semanser/codel issue 72, 2024-12-25",
			Answer{Status: 429, ErrorType: "tokens", Message: "Rate limit reached for gpt-4o in organization X on tokens per min (TPM): Limit 30000, Used 14567, Requested 24754. Please try again in 18.642s. Visit https://platform.openai.com/account/rate-limits to learn more."},
			Reading{Class: limiter.ClassQuota, Named: limiter.Tokens, HasNamed: true, Refund: tokensBack, RetryAfter: 18642 * time.Millisecond, Limit: 30_000, Requested: 24_754},
		},
		"tokens, milliseconds": {
			"BuilderIO/micro-agent issue 86, 2025-07-09",
			Answer{Status: 429, ErrorType: "rate_limit_exceeded", Message: "429 Rate limit reached for gpt-4o in organization X on tokens per min (TPM): Limit 30000, Used 29937, Requested 385. Please try again in 644ms."},
			Reading{Class: limiter.ClassQuota, Named: limiter.Tokens, HasNamed: true, Refund: tokensBack, RetryAfter: 644 * time.Millisecond, Limit: 30_000, Requested: 385},
		},
		"tokens, 2023": {
			"daveshap/Medical_Intake issue 9, 2023-09-30",
			Answer{Status: 429, Message: "Rate limit reached for 10KTPM-200RPM in organization X on tokens per min. Limit: 10000 / min. Please try again in 6ms. Contact us through our help center"},
			Reading{Class: limiter.ClassQuota, Named: limiter.Tokens, HasNamed: true, Refund: tokensBack, RetryAfter: 6 * time.Millisecond, Limit: 10_000},
		},
		"only the type": {
			"openai/codex issue 88, 2025-04-16: type tokens, code rate_limit_exceeded",
			Answer{Status: 429, ErrorType: "tokens"},
			Reading{Class: limiter.ClassQuota, Named: limiter.Tokens, HasNamed: true, Refund: tokensBack},
		},
		"larger than the limit": {
			"vanderschaarlab/climb issue 1, 2024-11-26",
			Answer{Status: 429, ErrorType: "tokens", Message: "Request too large for gpt-4o in organization X on tokens per min (TPM): Limit 30000, Requested 30601. The input or output tokens must be reduced in order to run successfully."},
			Reading{Class: limiter.ClassCaller, Refund: tokensBack},
		},
		"requests of a day": {
			"openai/openai-agents-js issue 1022, 2026-02-26",
			Answer{Status: 429, ErrorType: "requests", Message: "Rate limit reached for gpt-4o-mini-realtime in organization X on requests per day (RPD): Limit 1000, Used 1000, Requested 1. Please try again in 1m26.4s."},
			Reading{Class: limiter.ClassSpend, Refund: allBack, Narrow: true, RetryAfter: 86400 * time.Millisecond},
		},
		"headers": {
			"OpenAI docs, Rate limits, 2026-09",
			Answer{Status: 200, Headers: entries("x-ratelimit-limit-requests", "60", "x-ratelimit-limit-tokens", "150000", "x-ratelimit-remaining-requests", "59", "x-ratelimit-remaining-tokens", "149984",
				"x-ratelimit-reset-requests", "1s", "x-ratelimit-reset-tokens", "6m0s", "x-ratelimit-limit-project-tokens", "1000")},
			Reading{Class: limiter.ClassOK, Headers: [4]limiter.HeaderState{limiter.Requests: limitOf(60, 59), limiter.Tokens: limitOf(150_000, 149_984)}, Aside: 1},
		},
		"headers of a refusal": {
			"OpenAI docs, Rate limits, 2026-09",
			Answer{Status: 429, ErrorType: "requests", Headers: entries("X-RateLimit-Limit-Requests", "60", "X-RateLimit-Remaining-Requests", "0", "X-RateLimit-Reset-Requests", "7m12s", "retry-after", "2", "retry-after-ms", "1250", "x-should-retry", "false")},
			Reading{Class: limiter.ClassQuota, Named: limiter.Requests, HasNamed: true, Refund: tokensBack, RetryAfter: 1250 * time.Millisecond, Retry: RetryNo, Headers: [4]limiter.HeaderState{limitOf(60, 0)}, Reset: 432 * time.Second},
		},
	})
}

func documentedOpenAI(t *testing.T, met map[Rule]bool) {
	spend := Reading{Class: limiter.ClassSpend, Refund: allBack}
	narrow := Reading{Class: limiter.ClassSpend, Refund: allBack, Narrow: true}
	overload := Reading{Class: limiter.ClassOverload, Refund: tokensBack}
	runDocumented(t, met, "openai", map[string]documented{
		"slow down":              {openaiErrors, Answer{Status: 429, ErrorType: "slow_down", Headers: entries("Retry-After", "9")}, Reading{Class: limiter.ClassAcceleration, Refund: tokensBack, RetryAfter: 9 * time.Second}},
		"no money":               {"openai/openai-cookbook issue 844, 2023-11-10", Answer{Status: 429, ErrorType: "insufficient_quota", Message: "You exceeded your current quota, please check your plan and billing details."}, spend},
		"credit":                 {openaiErrors, Answer{Status: 429, ErrorType: "credit_balance_exhausted"}, spend},
		"organisation's budget":  {openaiErrors, Answer{Status: 429, ErrorType: "organization_spend_limit_exceeded"}, spend},
		"project's budget":       {openaiErrors, Answer{Status: 429, ErrorType: "project_spend_limit_exceeded"}, narrow},
		"organisation's usage":   {openaiErrors, Answer{Status: 429, ErrorType: "organization_usage_limit_exceeded"}, spend},
		"hard limit":             {"dfinke/PowerShellAI issue 127, 2023-05-02", Answer{Status: 400, ErrorType: "invalid_request_error", Message: `{"error":{"code":"billing_hard_limit_reached","message":"Billing hard limit has been reached","type":"invalid_request_error"}}`}, spend},
		"the code in a body":     {openaiErrors, Answer{Status: 429, Message: `{"error":{"message":"No.","type":"x","code":"insufficient_quota"}}`}, spend},
		"overloaded":             {openaiErrors + ", and openai/openai-python pull request 3803", Answer{Status: 503, ErrorType: "server_is_overloaded"}, overload},
		"overloaded as 429":      {"AineeJames/ChatGPTerminator issue 3, 2023-03-15", Answer{Status: 429, Message: "That model is currently overloaded with other requests. You can retry your request"}, overload},
		"overloaded as 400":      {"tontinton/maki issue 777, 2026-08-13", Answer{Status: 400, Message: "Our servers are currently overloaded. Please try again later."}, overload},
		"flex":                   {"OpenAI docs, Flex processing, 2026-09", Answer{Status: 429, Message: "Resource Unavailable"}, overload},
		"server error":           {openaiErrors, Answer{Status: 500, ErrorType: "server_error"}, Reading{Class: limiter.ClassServer, Refund: Refund{Output: true}}},
		"server error in stream": {"OpenAI docs, Streaming: the error event", Answer{Status: 200, ErrorType: "server_error", MidStream: true}, Reading{Class: limiter.ClassServer, Begun: true}},
		"limit in stream": {
			"openai/codex issue 10062, 2026-01-28",
			Answer{Status: 200, ErrorType: "rate_limit_exceeded", MidStream: true, Message: "Rate limit reached for organization X on tokens per min (TPM): Limit 250000, Used 250000, Requested\n143071. Please try again in 34.337s."},
			Reading{Class: limiter.ClassQuota, Named: limiter.Tokens, HasNamed: true, Begun: true, RetryAfter: 34337 * time.Millisecond, Limit: 250_000},
		},
	})
}
