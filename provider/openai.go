package provider

import (
	"slices"

	"github.com/weir-project/weir/limiter"
)

// chatRefundsTable is what providers that count refused requests do not count: the
// tokens. OpenAI says that unsuccessful requests contribute to the limit per minute; of
// the others nobody knows better, and a request is the smallest part of a call.
var chatRefundsTable = [numClasses]Refund{
	limiter.ClassQuota:        tokensBackTable,
	limiter.ClassAcceleration: tokensBackTable,
	limiter.ClassConcurrency:  tokensBackTable,
	limiter.ClassEntitlement:  noneUsedTable,
	limiter.ClassSpend:        noneUsedTable,
	limiter.ClassUnused:       noneUsedTable,
	limiter.ClassOverload:     tokensBackTable,
	limiter.ClassCaller:       tokensBackTable,
	limiter.ClassCredential:   tokensBackTable,
	limiter.ClassServer:       {Output: true},
}

var openaiTable = Profile{
	Name:             "openai",
	Rules:            slices.Concat(openaiRulesTable, statusRulesTable),
	Types:            openaiTypesTable,
	Meters:           openaiMetersTable,
	Numbers:          openaiNumbersTable,
	Waits:            waitsTable,
	Headers:          openaiHeadersTable,
	Refunds:          chatRefundsTable,
	CountsCacheReads: true,
	JointTokens:      true,
}

// openaiRulesTable has OpenAI's codes and texts, which many others imitate.
//
// A budget of a day is none of a minute's: like money it is there or not, and the rate
// of a minute has nothing to learn from it. A request that is larger than the limit
// never passes: it is the caller's.
var openaiRulesTable = []Rule{
	{From: 429, To: 429, Code: "slow_down", Class: limiter.ClassAcceleration},
	{From: 429, To: 429, Code: "insufficient_quota", Class: limiter.ClassSpend},
	{From: 429, To: 429, Code: "credit_balance_exhausted", Class: limiter.ClassSpend},
	{From: 429, To: 429, Code: "organization_spend_limit_exceeded", Class: limiter.ClassSpend},
	{From: 429, To: 429, Code: "project_spend_limit_exceeded", Class: limiter.ClassSpend, Narrow: true},
	{From: 429, To: 429, Code: "organization_usage_limit_exceeded", Class: limiter.ClassSpend},
	{From: 400, To: 400, Code: "billing_hard_limit_reached", Class: limiter.ClassSpend},
	{From: 429, To: 429, Text: "request too large for ", Class: limiter.ClassCaller, Mute: true},
	{From: 429, To: 429, Text: "(rpd)", Class: limiter.ClassSpend, Narrow: true},
	{From: 429, To: 429, Text: "(tpd)", Class: limiter.ClassSpend, Narrow: true},
	{From: 429, To: 429, Text: "resource unavailable", Class: limiter.ClassOverload},
	{From: 429, To: 429, Text: "currently overloaded", Class: limiter.ClassOverload},
	{From: 400, To: 599, Code: "server_is_overloaded", Class: limiter.ClassOverload},
	{From: 400, To: 599, Text: "servers are currently overloaded", Class: limiter.ClassOverload},
	{From: 498, To: 498, Class: limiter.ClassOverload}, // Groq: flex capacity
}

var openaiTypesTable = []TypeStatus{
	{"rate_limit_exceeded", 429},
	{"rate_limit_error", 429},
	{"slow_down", 429},
	{"insufficient_quota", 429},
	{"tokens", 429},
	{"requests", 429},
	{"server_is_overloaded", 503},
	{"server_error", 500},
	{"invalid_request_error", 400},
}

// openaiMetersTable: without a word on which tokens, they are counted together.
var openaiMetersTable = []MeterText{
	{Text: "input tokens per min", Meter: limiter.InputTokens},
	{Text: "output tokens per min", Meter: limiter.OutputTokens},
	{Text: "(tpm)", Meter: limiter.Tokens},
	{Text: "tokens per min", Meter: limiter.Tokens},
	{Text: "(rpm)", Meter: limiter.Requests},
	{Text: "requests per min", Meter: limiter.Requests},
	{Type: "tokens", Meter: limiter.Tokens},
	{Type: "requests", Meter: limiter.Requests},
}

var openaiNumbersTable = []NumberText{
	{"limit ", NumberLimit},
	{"limit: ", NumberLimit},
	{"requested ~", NumberRequested},
	{"requested ", NumberRequested},
}

// openaiHeadersTable: limits of a project, and of priced tokens, stand beside those of
// the organisation.
var openaiHeadersTable = []HeaderRule{
	{"x-ratelimit-limit-requests", PartLimit, limiter.Requests},
	{"x-ratelimit-remaining-requests", PartRemaining, limiter.Requests},
	{"x-ratelimit-reset-requests", PartReset, limiter.Requests},
	{"x-ratelimit-limit-tokens", PartLimit, limiter.Tokens},
	{"x-ratelimit-remaining-tokens", PartRemaining, limiter.Tokens},
	{"x-ratelimit-reset-tokens", PartReset, limiter.Tokens},
	{"x-ratelimit-limit", PartAside, 0},
	{"x-ratelimit-remaining", PartWindowRemaining, 0},
	{"x-ratelimit-reset", PartWindowReset, 0},
	{"x-ratelimit-*", PartAside, 0},
}

// azureTable reads Azure OpenAI. A wait of a day is its way to say that the request is
// larger than the limit per minute.
var azureTable = Profile{
	Name: "azure",
	Rules: slices.Concat([]Rule{
		{From: 429, To: 429, Text: "retry after 86400 seconds", Class: limiter.ClassCaller, Mute: true},
		{From: 429, To: 429, Text: "experiencing high demand", Class: limiter.ClassOverload},
	}, openaiRulesTable, anthropicRulesTable, statusRulesTable),
	Types: slices.Concat(openaiTypesTable, anthropicTypesTable),
	Meters: slices.Concat([]MeterText{
		{Text: "token rate limit", Meter: limiter.Tokens},
		{Text: "call rate limit", Meter: limiter.Requests},
	}, openaiMetersTable, anthropicMetersTable),
	Numbers:           slices.Concat(openaiNumbersTable, anthropicNumbersTable),
	Waits:             waitsTable,
	Headers:           slices.Concat(openaiHeadersTable, anthropicHeadersTable),
	Refunds:           chatRefundsTable,
	CountsCacheReads:  true,
	ReservesMaxTokens: true,
	JointTokens:       true,
}

// groqTable reads Groq, whose requests are counted by day, and whose cached tokens are
// not counted.
var groqTable = Profile{
	Name:    "groq",
	Rules:   openaiTable.Rules,
	Types:   openaiTypesTable,
	Meters:  openaiMetersTable,
	Numbers: openaiNumbersTable,
	Waits:   waitsTable,
	Headers: []HeaderRule{
		{"x-ratelimit-limit-tokens", PartLimit, limiter.Tokens},
		{"x-ratelimit-remaining-tokens", PartRemaining, limiter.Tokens},
		{"x-ratelimit-reset-tokens", PartReset, limiter.Tokens},
		{"x-ratelimit-*", PartAside, 0},
	},
	Refunds:     chatRefundsTable,
	JointTokens: true,
}

var mistralTable = Profile{
	Name:    "mistral",
	Rules:   openaiTable.Rules,
	Types:   slices.Concat([]TypeStatus{{"rate_limited", 429}, {"1300", 429}}, openaiTypesTable),
	Meters:  openaiMetersTable,
	Numbers: openaiNumbersTable,
	Waits:   waitsTable,
	Headers: []HeaderRule{
		{"x-ratelimit-limit-req-minute", PartLimit, limiter.Requests},
		{"x-ratelimit-remaining-req-minute", PartRemaining, limiter.Requests},
		{"x-ratelimit-limit-tokens-minute", PartLimit, limiter.Tokens},
		{"x-ratelimit-remaining-tokens-minute", PartRemaining, limiter.Tokens},
		{"x-ratelimit-*", PartAside, 0},
	},
	Refunds:          chatRefundsTable,
	CountsCacheReads: true,
	JointTokens:      true,
}

// openrouterTable reads OpenRouter: a window of a minute or of a day, which its headers
// do not tell apart.
var openrouterTable = Profile{
	Name: "openrouter",
	Rules: slices.Concat([]Rule{
		{From: 429, To: 429, Text: "free-models-per-day", Class: limiter.ClassSpend, Narrow: true},
		{From: 429, To: 429, Code: "provider_code", Class: limiter.ClassOverload},
		{From: 429, To: 429, Text: "provider returned error", Class: limiter.ClassOverload},
	}, openaiTable.Rules),
	Types: openaiTypesTable,
	Meters: slices.Concat([]MeterText{
		{Text: "free-models-per-min", Meter: limiter.Requests},
	}, openaiMetersTable),
	Numbers: openaiNumbersTable,
	Waits:   waitsTable,
	Headers: []HeaderRule{
		{"x-ratelimit-limit", PartAside, 0},
		{"x-ratelimit-remaining", PartWindowRemaining, 0},
		{"x-ratelimit-reset", PartWindowReset, 0},
		{"x-ratelimit-*", PartAside, 0},
	},
	Refunds:          chatRefundsTable,
	CountsCacheReads: true,
	JointTokens:      true,
}

// Generic is the profile of upstreams that have none of their own: gateways that pass
// on or imitate the forms of the others. A configuration may start from a copy of it.
func Generic() Profile { return genericTable }

var genericTable = Profile{
	Name:             "generic",
	Rules:            slices.Concat(anthropicRulesTable, openaiRulesTable, statusRulesTable),
	Types:            slices.Concat(anthropicTypesTable, openaiTypesTable),
	Meters:           slices.Concat(anthropicMetersTable, openaiMetersTable),
	Numbers:          slices.Concat(anthropicNumbersTable, openaiNumbersTable),
	Waits:            waitsTable,
	Untils:           []string{"regain access on "},
	Headers:          slices.Concat(anthropicHeadersTable, openaiHeadersTable),
	Refunds:          chatRefundsTable,
	CountsCacheReads: true,
}
