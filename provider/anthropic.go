package provider

import (
	"slices"

	"github.com/weir-project/weir/limiter"
)

// Anthropic is the profile of Anthropic's Messages API.
//
// A call that a limit refused was decided before anything was generated, and was seen
// not to be counted on any meter; so everything reserved for it is given back. Where
// generation may have begun, everything is kept: keeping too much wastes a minute of
// one call, giving back too much admits a call too many.
func Anthropic() *Profile { return &anthropicTable }

var (
	noneUsedTable   = Refund{Requests: true, Input: true, Output: true}
	tokensBackTable = Refund{Input: true, Output: true}
)

var anthropicTable = Profile{
	Name:    "anthropic",
	Rules:   slices.Concat(anthropicRulesTable, statusRulesTable),
	Types:   anthropicTypesTable,
	Meters:  anthropicMetersTable,
	Numbers: anthropicNumbersTable,
	Waits:   waitsTable,
	Untils:  []string{"regain access on "},
	Headers: anthropicHeadersTable,
	Refunds: [numClasses]Refund{
		limiter.ClassQuota:        noneUsedTable,
		limiter.ClassAcceleration: noneUsedTable,
		limiter.ClassConcurrency:  noneUsedTable,
		limiter.ClassEntitlement:  noneUsedTable,
		limiter.ClassSpend:        noneUsedTable,
		limiter.ClassUnused:       noneUsedTable,
		limiter.ClassOverload:     tokensBackTable,
		limiter.ClassCaller:       tokensBackTable,
		limiter.ClassCredential:   tokensBackTable,
		limiter.ClassServer:       {Output: true},
	},
	CacheReadModels: []string{"claude-3-haiku", "claude-3-5-haiku"},
}

// anthropicRulesTable has what Anthropic's texts say, before its statuses do. The texts
// are so much its own that gateways which pass them on are understood by them.
var anthropicRulesTable = []Rule{
	{From: 429, To: 429, Text: "maximum usage increase rate", Class: limiter.ClassAcceleration},
	{From: 429, To: 429, Text: "acceleration limit", Class: limiter.ClassAcceleration},
	{From: 429, To: 429, Text: "concurrent connections", Class: limiter.ClassConcurrency},
	{From: 429, To: 429, Text: "required for long context", Class: limiter.ClassEntitlement},
	{From: 429, To: 429, Text: "required for 1m context", Class: limiter.ClassEntitlement},
	{From: 429, To: 429, Text: "out of extra usage", Class: limiter.ClassEntitlement},
	{From: 429, To: 429, Code: "enforced_spend_limit_reached", Class: limiter.ClassSpend},
	{From: 429, To: 429, Text: "reached your api usage limits", Class: limiter.ClassSpend},
	{From: 429, To: 429, Code: "billing_error", Class: limiter.ClassSpend},
	{From: 429, To: 429, Code: "overloaded_error", Class: limiter.ClassOverload},
	{From: 400, To: 400, Code: "billing_error", Class: limiter.ClassSpend},
	{From: 400, To: 400, Text: "reached your specified api usage limits", Class: limiter.ClassSpend},
	{From: 400, To: 400, Text: "specified workspace api usage limits", Class: limiter.ClassSpend, Narrow: true},
	{From: 400, To: 400, Text: "credit balance is too low", Class: limiter.ClassSpend},
	{From: 500, To: 599, Code: "overloaded_error", Class: limiter.ClassOverload},
}

// statusRulesTable has what statuses mean by themselves.
var statusRulesTable = []Rule{
	{From: 429, To: 429, Class: limiter.ClassQuota},
	{From: 402, To: 402, Class: limiter.ClassSpend},
	{From: 401, To: 401, Class: limiter.ClassCredential},
	{From: 403, To: 403, Class: limiter.ClassCredential},
	{From: 408, To: 408, Class: limiter.ClassServer, Begun: true},
	{From: 400, To: 499, Class: limiter.ClassCaller},
	{From: 529, To: 529, Class: limiter.ClassOverload},
	{From: 503, To: 503, Text: "overloaded", Class: limiter.ClassOverload},
	{From: 504, To: 504, Class: limiter.ClassServer, Begun: true},
	{From: 500, To: 599, Class: limiter.ClassServer},
}

var anthropicTypesTable = []TypeStatus{
	{"overloaded_error", 529},
	{"rate_limit_error", 429},
	{"api_error", 500},
	{"timeout_error", 504},
	{"invalid_request_error", 400},
	{"authentication_error", 401},
	{"billing_error", 402},
	{"permission_error", 403},
	{"not_found_error", 404},
	{"conflict_error", 409},
	{"request_too_large", 413},
}

var anthropicMetersTable = []MeterText{
	{Text: "output tokens", Meter: limiter.OutputTokens},
	{Text: "input tokens", Meter: limiter.InputTokens},
	{Text: "request tokens", Meter: limiter.InputTokens},
	{Text: "requests per minute", Meter: limiter.Requests},
	{Text: "number of requests", Meter: limiter.Requests},
}

var anthropicNumbersTable = []NumberText{
	{"rate limit of ", NumberLimit},
	{"rate limit for your organization of ", NumberLimit},
	{"current limit is ", NumberRamp},
	{"will increase to ", NumberRampNext},
}

// waitsTable has the words before a wait.
var waitsTable = []string{"try again in ", "retry in ", "retry after ", "retrydelay"}

// anthropicHeadersTable has Anthropic's headers. What is said of all tokens is the
// tighter of a workspace's and the organisation's, or else the sum of the other two:
// either way no limit of its own. Subscriptions, the priority tier and fast mode have
// buckets of their own.
var anthropicHeadersTable = []HeaderRule{
	{"anthropic-ratelimit-requests-limit", PartLimit, limiter.Requests},
	{"anthropic-ratelimit-requests-remaining", PartRemaining, limiter.Requests},
	{"anthropic-ratelimit-requests-reset", PartReset, limiter.Requests},
	{"anthropic-ratelimit-input-tokens-limit", PartLimit, limiter.InputTokens},
	{"anthropic-ratelimit-input-tokens-remaining", PartRemaining, limiter.InputTokens},
	{"anthropic-ratelimit-input-tokens-reset", PartReset, limiter.InputTokens},
	{"anthropic-ratelimit-output-tokens-limit", PartLimit, limiter.OutputTokens},
	{"anthropic-ratelimit-output-tokens-remaining", PartRemaining, limiter.OutputTokens},
	{"anthropic-ratelimit-output-tokens-reset", PartReset, limiter.OutputTokens},
	{"anthropic-ratelimit-tokens-*", PartAside, 0},
	{"anthropic-ratelimit-unified-*", PartAside, 0},
	{"anthropic-priority-*", PartAside, 0},
	{"anthropic-fast-*", PartAside, 0},
}
