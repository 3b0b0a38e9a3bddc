package provider

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-project/weir/limiter"
)

func TestNamed(t *testing.T) {
	for name, want := range map[string]string{"": "anthropic", "anthropic": "anthropic", "gemini": "gemini", "a gateway": "generic"} {
		if got := Named(name); got.Name != want {
			t.Errorf("Named(%q) = %q, want %q", name, got.Name, want)
		}
	}
	names := Names()
	for _, name := range []string{"anthropic", "openai", "azure", "bedrock", "vertex", "gemini", "generic"} {
		if !slices.Contains(names, name) {
			t.Errorf("no profile %q", name)
		}
	}
}

func TestProfilesAreRight(t *testing.T) {
	for _, name := range Names() {
		p := Named(name)
		if err := p.Check(); err != nil {
			t.Error(err)
		}
		if p.Refunds[limiter.ClassUnused] != allBack {
			t.Errorf("%s keeps what was never sent", name)
		}
		for _, c := range []limiter.Class{limiter.ClassUnset, limiter.ClassOK, limiter.ClassUnknown} {
			if p.Refunds[c] != (Refund{}) {
				t.Errorf("%s gives back after %s", name, ClassName(c))
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for want, p := range map[string]Profile{
		"":                              {Rules: []Rule{{From: 429, To: 429, Class: limiter.ClassQuota}}, Headers: []HeaderRule{{Name: "x-left-*", Part: PartRemaining}}},
		"rules[0]: statuses 5 to 9":     {Rules: []Rule{{From: 5, To: 9, Class: limiter.ClassQuota}}},
		"rules[0]: statuses 429 to 400": {Rules: []Rule{{From: 429, To: 400, Class: limiter.ClassQuota}}},
		"rules[0]: no class":            {Rules: []Rule{{From: 429, To: 429}}},
		`rules[0]: text "Quota"`:        {Rules: []Rule{{From: 429, To: 429, Class: limiter.ClassQuota, Text: "Quota"}}},
		`rules[0]: text "Q"`:            {Rules: []Rule{{From: 429, To: 429, Class: limiter.ClassQuota, Code: "Q"}}},
		"rules[0]: a text of 300 bytes": {Rules: []Rule{{From: 429, To: 429, Class: limiter.ClassQuota, Text: strings.Repeat("x", 300)}}},
		"a list of 300 entries":         {Waits: make([]string, 300)},
		"types[0]: status 0":            {Types: []TypeStatus{{Type: "x"}}},
		"types[0]: no text":             {Types: []TypeStatus{{Status: 400}}},
		"meters[0]: no text":            {Meters: []MeterText{{}}},
		"numbers[0]: no meaning":        {Numbers: []NumberText{{"x", numNumbers}}},
		"numbers[0]: no text":           {Numbers: []NumberText{{}}},
		"waits[1]: no text":             {Waits: []string{"in ", ""}},
		"untils[0]: no text":            {Untils: []string{""}},
		"headers[0]: no text":           {Headers: []HeaderRule{{Name: "*"}}},
		"headers[0]: no meter":          {Headers: []HeaderRule{{Name: "x", Meter: 9}}},
		"weights[0]: weight 0":          {Weights: []ModelWeight{{Text: "x"}}},
		"cache read models[0]: no text": {CacheReadModels: []string{""}},
		"weights[0]: no text":           {Weights: []ModelWeight{{Weight: 5}}},
	} {
		p.Name = "mine"
		err := p.Check()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), `provider "mine": `+want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A profile that a configuration describes starts from the generic one.
func TestOwnProfile(t *testing.T) {
	p := Generic()
	p.Name = "ours"
	p.Rules = append([]Rule{{From: 420, To: 420, Code: "enhance_your_calm", Class: limiter.ClassQuota}}, p.Rules...)
	p.Meters = append([]MeterText{{Text: "calls", Meter: limiter.Requests}}, p.Meters...)
	p.Headers = []HeaderRule{{Name: "x-calls-left", Part: PartRemaining, Meter: limiter.Requests}}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	got := p.Read(&Answer{Status: 420, ErrorType: "Enhance_Your_Calm", Message: "Too many CALLS, retry in 2 minutes", Headers: entries("X-Calls-Left", "0")}, noon)
	want := Reading{
		Class: limiter.ClassQuota, HasNamed: true, Refund: tokensBack, RetryAfter: 2 * time.Minute, Weight: 1,
		Headers: [4]limiter.HeaderState{{HasRemaining: true}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if Named("generic").Rules[0] == p.Rules[0] {
		t.Error("the generic profile has changed")
	}
}

func TestClassNames(t *testing.T) {
	for c := limiter.ClassOK; c <= limiter.ClassUnknown; c++ {
		if got, ok := ParseClass(ClassName(c)); !ok || got != c {
			t.Errorf("class %d is %q, which is %d", c, ClassName(c), got)
		}
	}
	for _, name := range []string{"", "unset", "Quota", "none"} {
		if c, ok := ParseClass(name); ok {
			t.Errorf("%q is class %d", name, c)
		}
	}
	if got := ClassName(200); got != "unknown" {
		t.Errorf("class 200 is %q", got)
	}
}

func TestOddities(t *testing.T) {
	header := func(name, value string) Answer { return Answer{Status: 429, Headers: entries(name, value)} }
	for name, tc := range map[string]struct {
		answer Answer
		odd    Oddities
		wait   time.Duration
	}{
		"nothing odd":         {header("retry-after", "5"), 0, 5 * time.Second},
		"zero":                {header("retry-after", "0"), 0, 0},
		"a date gone by":      {header("retry-after", "Thu, 20 Aug 2026 11:59:59 GMT"), 0, 0},
		"two hours":           {header("retry-after", "7200"), OddRetryAfter, time.Hour},
		"a year":              {header("retry-after", "31536000"), OddRetryAfter, time.Hour},
		"a thousand years":    {header("retry-after", "31536000000"), OddRetryAfter, 0},
		"negative":            {header("retry-after", "-5"), OddRetryAfter, 0},
		"no number":           {header("retry-after", "NaN"), OddRetryAfter, 0},
		"a long text":         {header("retry-after", strings.Repeat("1", 1<<20)), OddRetryAfter, 0},
		"odd milliseconds":    {Answer{Status: 429, Headers: entries("retry-after-ms", "x", "retry-after", "2")}, OddRetryAfter, 2 * time.Second},
		"in the message":      {Answer{Status: 429, Message: "try again in 31536000s"}, OddRetryAfter, time.Hour},
		"a client's":          {Answer{Status: 429, RetryIn: math.MaxInt64}, OddRetryAfter, 0},
		"a client's negative": {Answer{Status: 429, RetryIn: -1, RetryAfter: "3"}, 0, 3 * time.Second},
		"limit negative":      {header("anthropic-ratelimit-requests-limit", "-1"), OddHeader, 0},
		"limit no number":     {header("anthropic-ratelimit-requests-limit", "NaN"), OddHeader, 0},
		"limit too large":     {header("anthropic-ratelimit-requests-limit", "9007199254740993"), OddHeader, 0},
		"limit far too large": {header("anthropic-ratelimit-requests-limit", strings.Repeat("9", 100)), OddHeader, 0},
		"remaining negative":  {header("anthropic-ratelimit-requests-remaining", "-3"), OddHeader, 0},
		"reset no date":       {header("anthropic-ratelimit-requests-reset", "soon"), OddHeader, 0},
		"reset in 9999":       {header("anthropic-ratelimit-requests-reset", "9999-12-31T23:59:59Z"), OddHeader, 0},
		"a megabyte of text":  {Answer{Status: 429, Message: strings.Repeat("tokens ", 150_000)}, OddText, 0},
		"status":              {Answer{Status: 4290}, OddStatus, 0},
		"negative status":     {Answer{Status: -1}, OddStatus, 0},
		"a status of one":     {Answer{Status: 1}, OddStatus, 0},
		"headers":             {Answer{Status: 429, Headers: make([]limiter.Entry, MaxHeaders+1)}, OddCount, 0},
		"budget of last year": {Answer{Status: 429, Message: "You have reached your API usage limits. You will regain access on 2025-09-01 at 00:00 UTC."}, OddDate, 0},
		"budget of 2030":      {Answer{Status: 429, Message: "You have reached your API usage limits. You will regain access on 2030-09-01 at 00:00 UTC."}, OddDate, 0},
		"budget of next year": {Answer{Status: 429, Message: "You have reached your API usage limits. You will regain access on 2027-01-01 at 00:00 UTC."}, OddDate, MaxUntil},
	} {
		t.Run(name, func(t *testing.T) {
			got := Anthropic().Read(&tc.answer, noon)
			if got.Odd != tc.odd || got.RetryAfter != tc.wait {
				t.Errorf("odd %v, wait %v; want %v, %v", slices.Collect(got.Odd.Names), got.RetryAfter, slices.Collect(tc.odd.Names), tc.wait)
			}
			if got.Headers != ([4]limiter.HeaderState{}) {
				t.Errorf("believed %+v", got.Headers)
			}
		})
	}
	names := slices.Collect(AllOddities.Names)
	if len(names) != numOddities || len(slices.Compact(slices.Sorted(slices.Values(names)))) != numOddities {
		t.Errorf("oddities are %q", names)
	}
}

// judged is an answer, and what it means to the core.
type judged struct {
	provider string
	answer   Answer
	used     Usage
	want     limiter.Outcome
}

func judge(t *testing.T, all map[string]judged) {
	t.Helper()
	for name, j := range all {
		t.Run(name, func(t *testing.T) {
			p := Named(j.provider)
			r := p.Read(&j.answer, noon)
			if diff := cmp.Diff(j.want, p.Outcome(&r, &j.used)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestOutcomeOfUsage(t *testing.T) {
	used := Usage{Input: 25, CacheCreation: 7, CacheRead: 100, Output: 42, HasInput: true, HasCacheCreation: true, HasCacheRead: true, HasOutput: true}
	judge(t, map[string]judged{
		"cache reads are told apart": {"anthropic", Answer{Status: 200}, used, limiter.Outcome{
			Class: limiter.ClassOK, Usage: limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}, CacheReads: 100, HasInput: true, HasOutput: true, Learn: true,
		}},
		"and count by themselves": {"openai", Answer{Status: 200}, used, limiter.Outcome{
			Class: limiter.ClassOK, Usage: limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}, CacheReads: 100, CountCacheReads: true, HasInput: true, HasOutput: true, Learn: true,
		}},
		"output counts five times": {"bedrock", Answer{Status: 200, Model: "anthropic.claude-opus-4-6-v1"}, used, limiter.Outcome{
			Class: limiter.ClassOK, Usage: limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 210}, CacheReads: 100, HasInput: true, HasOutput: true, Learn: true,
		}},
		"and once": {"bedrock", Answer{Status: 200, Model: "anthropic.claude-3-5-sonnet-20241022-v2:0"}, used, limiter.Outcome{
			Class: limiter.ClassOK, Usage: limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}, CacheReads: 100, HasInput: true, HasOutput: true, Learn: true,
		}},
		"usage alone": {"anthropic", Answer{}, used, limiter.Outcome{
			Class: limiter.ClassOK, Usage: limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}, CacheReads: 100, HasInput: true, HasOutput: true,
		}},
		"nothing": {"anthropic", Answer{}, Usage{}, limiter.Outcome{Class: limiter.ClassUnknown, Usage: limiter.Usage{Requests: 1}}},
		"unused": {"anthropic", Answer{Unsent: true}, used, limiter.Outcome{
			Class: limiter.ClassUnused, RefundRequests: true, RefundInput: true, RefundOutput: true,
		}},
		"sums that saturate": {"bedrock", Answer{Status: 200, Model: "claude-sonnet-4"}, Usage{Input: math.MaxUint64, CacheCreation: math.MaxUint64, Output: math.MaxUint64, HasInput: true, HasCacheCreation: true, HasOutput: true}, limiter.Outcome{
			Class: limiter.ClassOK, Usage: limiter.Usage{Requests: 1, InputTokens: limiter.MaxAmount, OutputTokens: limiter.MaxAmount}, HasInput: true, HasOutput: true, Learn: true,
		}},
	})
}

func TestOutcomeOfRefusals(t *testing.T) {
	judge(t, map[string]judged{
		"a limit that only the refusal tells": {"anthropic", Answer{Status: 429, Message: "your organization's rate limit of 30,000 input tokens per minute", Headers: entries("retry-after", "4")}, Usage{}, limiter.Outcome{
			Class: limiter.ClassQuota, Named: limiter.InputTokens, HasNamed: true, RetryAfter: 4 * time.Second, Usage: limiter.Usage{Requests: 1},
			RefundRequests: true, RefundInput: true, RefundOutput: true, Headers: [3]limiter.HeaderState{1: {Limit: 30_000, HasLimit: true}},
		}},
		"a limit that headers tell too": {"anthropic", Answer{Status: 429, Message: "your organization's rate limit of 30,000 input tokens per minute", Headers: entries("anthropic-ratelimit-input-tokens-limit", "40000", "anthropic-ratelimit-input-tokens-remaining", "0")}, Usage{}, limiter.Outcome{
			Class: limiter.ClassQuota, Named: limiter.InputTokens, HasNamed: true, Usage: limiter.Usage{Requests: 1},
			RefundRequests: true, RefundInput: true, RefundOutput: true, Headers: [3]limiter.HeaderState{1: limitOf(40_000, 0)},
		}},
		"the limit that use may not outgrow is not the limit": {"anthropic", Answer{Status: 429, Message: "maximum usage increase rate for input tokens per minute. Your current limit is 58,276 input tokens"}, Usage{}, limiter.Outcome{
			Class: limiter.ClassAcceleration, Named: limiter.InputTokens, HasNamed: true, Usage: limiter.Usage{Requests: 1},
			RefundRequests: true, RefundInput: true, RefundOutput: true, Ramp: 58_276,
		}},
		"an entitlement shuts nothing": {"anthropic", Answer{Status: 429, Message: "Extra usage is required for long context requests.", Headers: entries("retry-after", "600")}, Usage{}, limiter.Outcome{
			Class: limiter.ClassEntitlement, Usage: limiter.Usage{Requests: 1}, RefundRequests: true, RefundInput: true, RefundOutput: true,
		}},
		"a budget shuts until it is back": {"anthropic", Answer{Status: 429, Message: "You have reached your API usage limits. You will regain access on 2026-08-21 at 12:00 UTC."}, Usage{}, limiter.Outcome{
			Class: limiter.ClassSpend, RetryAfter: 24 * time.Hour, Usage: limiter.Usage{Requests: 1}, RefundRequests: true, RefundInput: true, RefundOutput: true,
		}},
		"tokens together are input": {"openai", Answer{Status: 429, ErrorType: "tokens", Headers: entries("x-ratelimit-limit-tokens", "1000", "x-ratelimit-remaining-tokens", "10")}, Usage{}, limiter.Outcome{
			Class: limiter.ClassQuota, Named: limiter.InputTokens, HasNamed: true, Usage: limiter.Usage{Requests: 1}, RefundInput: true, RefundOutput: true,
			Headers: [3]limiter.HeaderState{1: limitOf(1000, 10)},
		}},
		"mid-stream": {"anthropic", Answer{Status: 200, ErrorType: "overloaded_error", MidStream: true}, Usage{Input: 25, HasInput: true, Output: 3, HasOutput: true}, limiter.Outcome{
			Class: limiter.ClassOverload, Usage: limiter.Usage{Requests: 1, InputTokens: 25, OutputTokens: 3}, HasInput: true, HasOutput: true, OutputFloor: true,
		}},
	})
}

// A success costs no memory, and a refusal no more than a copy of its text.
func TestReadAllocates(t *testing.T) {
	ok := Answer{Status: 200, Headers: entries("anthropic-ratelimit-requests-limit", "50", "anthropic-ratelimit-requests-reset", "2026-08-20T12:00:00Z", "retry-after", "Thu, 20 Aug 2026 12:00:30 GMT")}
	refused := Answer{Status: 429, Message: "This request would exceed your organization's rate limit of 50 requests per minute. Please try again in 5s", Headers: ok.Headers[:2]}
	for want, a := range []*Answer{&ok, &refused} {
		got := testing.AllocsPerRun(100, func() {
			r := Anthropic().Read(a, noon)
			Anthropic().Outcome(&r, &Usage{})
		})
		if got > float64(want) {
			t.Errorf("status %d: %v allocations, want %d", a.Status, got, want)
		}
	}
}

// Anthropic: "cache_read_input_tokens do not count towards ITPM for most models"; of
// Claude 3 and 3.5 Haiku they do (https://docs.claude.com/en/api/rate-limits, the models
// marked with a dagger).
func TestModelsWhoseCacheReadsCount(t *testing.T) {
	for model, want := range map[string]bool{
		"claude-3-haiku-20240307": true, "claude-3-5-haiku-20241022": true, "claude-3-5-haiku-latest": true,
		"claude-haiku-4-5": false, "claude-3-5-sonnet-20241022": false, "claude-opus-4-8": false, "claude-3-7-sonnet-latest": false,
	} {
		got := slices.ContainsFunc(Anthropic().CacheReadModels, func(part string) bool { return strings.Contains(model, part) })
		if got != want {
			t.Errorf("cache reads of %s count: %t", model, got)
		}
	}
}

// Headers that a profile names itself say how long to wait, before those that all send.
func TestOwnWaits(t *testing.T) {
	p := Generic()
	p.Headers = append([]HeaderRule{
		{Name: "x-wait", Part: PartWaitSeconds}, {Name: "x-wait-ms", Part: PartWaitMillis}, {Name: "x-until", Part: PartWaitDate},
	}, p.Headers...)
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		headers []limiter.Entry
		want    time.Duration
		odd     Oddities
	}{
		"seconds":                  {entries("X-Wait", "1.5"), 1500 * time.Millisecond, 0},
		"milliseconds":             {entries("x-wait-ms", "250"), 250 * time.Millisecond, 0},
		"a date":                   {entries("x-until", "2026-08-20T12:00:30Z"), 30 * time.Second, 0},
		"seconds since 1970":       {entries("x-until", "1787227207"), 7 * time.Second, 0},
		"before the usual ones":    {entries("retry-after-ms", "9000", "x-wait", "2", "retry-after", "9"), 2 * time.Second, 0},
		"the longest":              {entries("x-wait", "2", "x-wait-ms", "3000"), 3 * time.Second, 0},
		"else the usual ones":      {entries("retry-after", "9"), 9 * time.Second, 0},
		"nonsense, then the usual": {entries("x-wait", "soon", "retry-after", "9"), 9 * time.Second, OddRetryAfter},
		"no date":                  {entries("x-until", "soon"), 0, OddRetryAfter},
		"a day":                    {entries("x-wait", "86400"), time.Hour, OddRetryAfter},
		"negative":                 {entries("x-wait-ms", "-4"), 0, OddRetryAfter},
	} {
		if got := p.Read(&Answer{Status: 429, Headers: tc.headers}, noon); got.RetryAfter != tc.want || got.Odd != tc.odd {
			t.Errorf("%s: %v, odd %v; want %v, odd %v", name, got.RetryAfter, got.Odd, tc.want, tc.odd)
		}
	}
}
