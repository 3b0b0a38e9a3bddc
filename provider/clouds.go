package provider

import (
	"slices"

	"github.com/weir-project/weir/limiter"
)

// bedrockTable reads Amazon Bedrock. An output token of Claude 3.7 and later counts five
// times; tokens read from the cache are reserved and then given back.
var bedrockTable = Profile{
	Name: "bedrock",
	Rules: slices.Concat([]Rule{
		{From: 400, To: 429, Text: "tokens per day", Class: limiter.ClassSpend, Narrow: true},
		{From: 400, To: 429, Code: "throttlingexception", Class: limiter.ClassQuota},
		{From: 429, To: 429, Code: "modelnotreadyexception", Class: limiter.ClassOverload},
		{From: 400, To: 503, Code: "serviceunavailableexception", Class: limiter.ClassOverload},
		{From: 400, To: 400, Code: "servicequotaexceededexception", Class: limiter.ClassQuota},
		{From: 408, To: 424, Code: "modeltimeoutexception", Class: limiter.ClassServer, Begun: true},
		{From: 424, To: 424, Class: limiter.ClassServer, Begun: true},
		{From: 503, To: 503, Class: limiter.ClassOverload},
	}, anthropicRulesTable, statusRulesTable),
	Types: slices.Concat([]TypeStatus{
		{"throttlingexception", 429},
		{"serviceunavailableexception", 503},
		{"internalserverexception", 500},
		{"modelstreamerrorexception", 424},
		{"modelerrorexception", 424},
		{"modeltimeoutexception", 408},
		{"modelnotreadyexception", 429},
		{"validationexception", 400},
		{"resourcenotfoundexception", 404},
		{"accessdeniedexception", 403},
		{"servicequotaexceededexception", 400},
	}, anthropicTypesTable),
	Meters: slices.Concat(anthropicMetersTable, []MeterText{
		{Text: "too many tokens", Meter: limiter.Tokens},
		{Text: "too many requests", Meter: limiter.Requests},
	}),
	Numbers: anthropicNumbersTable,
	Waits:   waitsTable,
	Headers: anthropicHeadersTable,
	Refunds: chatRefundsTable,
	Weights: []ModelWeight{
		{"claude-3-7", 5},
		{"claude-3", 1},
		{"claude-v2", 1},
		{"claude-instant", 1},
		{"claude-", 5},
	},
	ReservesMaxTokens: true,
	JointTokens:       true,
}

// googleRulesTable reads Gemini and Vertex. A refusal that names no quota is a want of
// capacity for all. A quota of a day stays used up until the day ends, whatever delay
// is sent along.
var googleRulesTable = slices.Concat([]Rule{
	{From: 429, To: 429, Text: "perday", Class: limiter.ClassSpend, Mute: true, Narrow: true},
	{From: 429, To: 429, Text: "resource exhausted", Class: limiter.ClassOverload},
	{From: 429, To: 429, Text: "out of capacity", Class: limiter.ClassOverload},
	{From: 429, To: 429, Text: "experiencing high demand", Class: limiter.ClassOverload},
	{From: 429, To: 429, Code: "model_capacity_exhausted", Class: limiter.ClassOverload},
}, anthropicRulesTable, []Rule{
	{From: 503, To: 503, Class: limiter.ClassOverload},
	{From: 499, To: 499, Class: limiter.ClassUnknown, Begun: true},
}, statusRulesTable)

var googleTypesTable = slices.Concat([]TypeStatus{
	{"resource_exhausted", 429},
	{"unavailable", 503},
	{"deadline_exceeded", 504},
	{"internal", 500},
	{"invalid_argument", 400},
	{"failed_precondition", 400},
	{"unauthenticated", 401},
	{"permission_denied", 403},
	{"not_found", 404},
	{"cancelled", 499},
}, anthropicTypesTable)

// googleMetersTable has parts of quota ids and metrics. Where several are named, that of
// tokens is the one that a smaller rate of calls alone does not cure.
var googleMetersTable = slices.Concat([]MeterText{
	{Text: "outputtokensper", Meter: limiter.OutputTokens},
	{Text: "output_token", Meter: limiter.OutputTokens},
	{Text: "inputtokensper", Meter: limiter.InputTokens},
	{Text: "input_token", Meter: limiter.InputTokens},
	{Text: "requestsper", Meter: limiter.Requests},
	{Text: "_requests", Meter: limiter.Requests},
}, anthropicMetersTable)

var googleNumbersTable = slices.Concat(anthropicNumbersTable, []NumberText{
	{`"quotavalue": "`, NumberLimit},
	{`"quotavalue":"`, NumberLimit},
	{", limit: ", NumberLimit},
})

var vertexTable = Profile{
	Name:    "vertex",
	Rules:   googleRulesTable,
	Types:   googleTypesTable,
	Meters:  googleMetersTable,
	Numbers: googleNumbersTable,
	Waits:   waitsTable,
	Headers: anthropicHeadersTable,
	Refunds: chatRefundsTable,
}

var geminiTable = Profile{
	Name:    "gemini",
	Rules:   googleRulesTable,
	Types:   googleTypesTable,
	Meters:  googleMetersTable,
	Numbers: googleNumbersTable,
	Waits:   waitsTable,
	Refunds: chatRefundsTable,
}
