package server

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	aiv3 "github.com/envoyproxy/go-control-plane/envoy/data/ai/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/provider"
)

// ending is one way in which a call ends, as both doors tell of it.
type ending struct {
	status   int
	details  string
	attempts int
	// metadata is "key=value …": usage, error and last event.
	metadata string
	flags    *alsv3.ResponseFlags
	// used is what is charged afterwards; 1 request, 1000 input and 200 output tokens
	// were reserved.
	used limiter.Usage
	want settled
	// again is what comes of the other door's word.
	again settled
}

// endings are all the ways in which a proxy was seen to tell of a call's end.
func endings() map[string]ending {
	complete := "input_tokens=25 cache_creation_input_tokens=7 cache_read_input_tokens=100 output_tokens=42"
	left := &alsv3.ResponseFlags{DownstreamConnectionTermination: true}
	reset := &alsv3.ResponseFlags{DownstreamRemoteReset: true}
	reserved := limiter.Usage{Requests: 1, InputTokens: 1000, OutputTokens: 200}
	nothing := limiter.Usage{}
	request := limiter.Usage{Requests: 1}
	return map[string]ending{
		"complete JSON":                    {200, "via_upstream", 1, complete, nil, limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}, settledNow, settledBefore},
		"complete stream":                  {200, "via_upstream", 1, complete + " last_event=message_stop", nil, limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}, settledNow, settledBefore},
		"more than was reserved":           {200, "via_upstream", 1, "input_tokens=5000 output_tokens=900", nil, limiter.Usage{Requests: 1, InputTokens: 5000, OutputTokens: 900}, settledNow, settledBefore},
		"complete, usage not seen":         {200, "via_upstream", 1, "", nil, reserved, settledLater, settledLater},
		"retried, then complete":           {200, "via_upstream", 2, complete, nil, limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}, settledNow, settledBefore},
		"client closed mid-stream":         {200, "downstream_remote_disconnect", 1, "input_tokens=25 output_tokens=1 last_event=content_block_delta", left, limiter.Usage{Requests: 1, InputTokens: 25, OutputTokens: 200}, settledNow, settledBefore},
		"client closed late in the stream": {200, "downstream_remote_disconnect", 1, "input_tokens=25 output_tokens=700 last_event=content_block_delta", left, limiter.Usage{Requests: 1, InputTokens: 25, OutputTokens: 700}, settledNow, settledBefore},
		"client reset mid-stream":          {200, "http2.remote_reset", 1, "input_tokens=25 output_tokens=1 last_event=content_block_delta", reset, limiter.Usage{Requests: 1, InputTokens: 25, OutputTokens: 200}, settledNow, settledBefore},
		"client left before the answer":    {0, "downstream_remote_disconnect", 1, "", left, reserved, settledLater, settledLater},
		"client left during a back-off":    {0, "downstream_remote_disconnect", 1, "", left, reserved, settledLater, settledLater},
		"error in the stream":              {200, "via_upstream", 1, "input_tokens=25 output_tokens=1 error_type=overloaded_error error_message=Overloaded last_event=error", nil, limiter.Usage{Requests: 1, InputTokens: 25, OutputTokens: 200}, settledNow, settledBefore},
		"upstream cut the stream":          {200, "upstream_reset_after_response_started{protocol_error}", 1, "input_tokens=25 output_tokens=1 last_event=content_block_delta", &alsv3.ResponseFlags{UpstreamProtocolError: true}, limiter.Usage{Requests: 1, InputTokens: 25, OutputTokens: 200}, settledNow, settledBefore},
		"upstream 429":                     {429, "via_upstream", 1, "error_type=rate_limit_error error_message=lab retry_after=2", nil, nothing, settledNow, settledBefore},
		"upstream 429, retries used up":    {429, "via_upstream", 1, "error_type=rate_limit_error", &alsv3.ResponseFlags{UpstreamRetryLimitExceeded: true}, nothing, settledNow, settledBefore},
		"upstream 529":                     {529, "via_upstream", 1, "error_type=overloaded_error", nil, request, settledNow, settledBefore},
		"upstream 401":                     {401, "via_upstream", 1, "error_type=authentication_error", nil, request, settledNow, settledBefore},
		"upstream 400":                     {400, "via_upstream", 1, "error_type=invalid_request_error", nil, request, settledNow, settledBefore},
		"upstream 500":                     {500, "via_upstream", 1, "error_type=api_error", nil, limiter.Usage{Requests: 1, InputTokens: 1000}, settledNow, settledBefore},
		"upstream 504":                     {504, "via_upstream", 1, "error_type=timeout_error", nil, reserved, settledLater, settledLater},
		"proxy timed out":                  {504, "upstream_response_timeout", 1, "", nil, reserved, settledLater, settledLater},
		"answer too large for the proxy":   {500, "response_payload_too_large", 1, "", nil, reserved, settledLater, settledLater},
		"upstream broke the connection":    {503, "upstream_reset_before_response_started{connection_termination}", 1, "", nil, reserved, settledLater, settledLater},
		"no connection to the upstream":    {503, "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}", 1, "", nil, nothing, settledUnused, settledBefore},
		"upstream refused the stream":      {503, "upstream_reset_before_response_started{remote_refused_stream_reset}", 1, "", nil, nothing, settledUnused, settledBefore},
		"circuit breaker":                  {503, "upstream_reset_before_response_started{overflow}", 1, "", nil, nothing, settledUnused, settledBefore},
		"no healthy upstream":              {503, "no_healthy_upstream", 1, "", nil, nothing, settledUnused, settledBefore},
		"refused by another filter":        {429, "request_rate_limited", 0, "error_type=rate_limit_error retry_after=3", &alsv3.ResponseFlags{RateLimited: true}, nothing, settledUnused, settledBefore},
	}
}

// descriptors is the ending as the stream-done call tells of it.
func (e *ending) descriptor(names string) string {
	words := []string{names, fmt.Sprintf("attempts=%d", e.attempts), "details=" + e.details, e.metadata}
	if e.status > 0 {
		words = append(words, fmt.Sprintf("status=%d", e.status))
	}
	return strings.Join(words, " ")
}

// entry is the ending as the access log tells of it. names are "key=value …" too.
func (e *ending) entry(requestID, names string) *alsv3.HTTPAccessLogEntry {
	fields := func(text string) *structpb.Struct {
		s := &structpb.Struct{Fields: make(map[string]*structpb.Value)}
		for word := range strings.FieldsSeq(text) {
			k, v, _ := strings.Cut(word, "=")
			if n, _, ok := parseAmount(v); ok {
				s.Fields[k] = structpb.NewNumberValue(float64(n))
			} else {
				s.Fields[k] = structpb.NewStringValue(v)
			}
		}
		return s
	}
	l := &alsv3.HTTPAccessLogEntry{
		CommonProperties: &alsv3.AccessLogCommon{
			AccessLogType:               alsv3.AccessLogType_DownstreamEnd,
			StreamId:                    requestID,
			UpstreamRequestAttemptCount: uint32(e.attempts),
			ResponseFlags:               e.flags,
			Metadata: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
				"envoy.llmq": fields(names),
				"envoy.llm":  fields(e.metadata),
			}},
		},
		Request:  &alsv3.HTTPRequestProperties{RequestId: requestID},
		Response: &alsv3.HTTPResponseProperties{ResponseCodeDetails: e.details},
	}
	if e.status > 0 {
		l.Response.ResponseCode = wrapperspb.UInt32(uint32(e.status))
	}
	return l
}

// told counts what came of the reports of one door.
func (w *rlsWorld) told(t *testing.T, descriptor string) settled {
	t.Helper()
	s := read(t, w.d.loaded.Load().Vocabulary, descriptor)
	if len(s.reports) != 1 {
		t.Fatalf("%q is %d reports", descriptor, len(s.reports))
	}
	s.reports[0].trusted = true
	return w.rls.settler.settle(t.Context(), w.d.now(), w.d.loaded.Load(), &s.reports[0])
}

const ordinaryAsk = "org=acme tenant=batch model=claude-lab-1 input_tokens=1000 max_tokens=200 request_id=d016"

func TestEveryEnding(t *testing.T) {
	for name, e := range endings() {
		for _, by := range []string{"reservation", "request id"} {
			for _, first := range []string{"the call", "the log"} {
				t.Run(name+", "+first+" first, by "+by, func(t *testing.T) {
					w := newRLSWorld(t, worldSpec())
					names := "reservation=" + w.reserve(t, ordinaryAsk)
					if by == "request id" {
						names = ""
					}
					told := []settled{}
					call := func() { told = append(told, w.told(t, e.descriptor(names+" request_id=d016"))) }
					log := func() {
						a := w.d.loaded.Load()
						told = append(told, settled(w.als.entry(t.Context(), a, w.als.words.of(a.Loaded), e.entry("d016", names))))
					}
					if first == "the call" {
						call()
						log()
					} else {
						log()
						call()
					}
					if diff := cmp.Diff([]settled{e.want, e.again}, told); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
					if got := w.used(t); got != e.used {
						t.Errorf("charged %+v, want %+v", got, e.used)
					}
				})
			}
		}
	}
}

// A call that was not asked for, because weir was not reached or too slow, has used the
// upstream's quota nevertheless.
func TestSpendingThatNobodyAskedFor(t *testing.T) {
	who := "org=acme model=claude-lab-1 "
	usage := "input_tokens=25 cache_creation_input_tokens=7 output_tokens=42"
	e := ending{status: 200, details: "via_upstream", attempts: 1}
	for name, tc := range map[string]struct {
		names string
		want  settled
		used  limiter.Usage
	}{
		"known caller":                 {who + "request_id=x " + usage, settledSpent, limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}},
		"known caller, unnamed call":   {who + usage, settledSpent, limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}},
		"nobody's":                     {"request_id=x " + usage, settledUnattributed, limiter.Usage{}},
		"unnamed and nobody's":         {usage, settledUnattributed, limiter.Usage{}},
		"a model that no quota covers": {"org=acme model=other request_id=x " + usage, settledUnmatched, limiter.Usage{}},
		"no usage":                     {who + "request_id=x", settledUnknown, limiter.Usage{}},
		"a reservation long forgotten": {who + "reservation=" + encodeID(limiter.ID{1}) + " " + usage, settledUnknown, limiter.Usage{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRLSWorld(t, worldSpec())
			if got := w.told(t, e.descriptor(tc.names)); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
			if got := w.used(t); got != tc.used {
				t.Errorf("charged %+v, want %+v", got, tc.used)
			}
		})
	}
	t.Run("told twice", func(t *testing.T) {
		w := newRLSWorld(t, worldSpec())
		both := e
		both.metadata = who + usage
		a := w.d.loaded.Load()
		first := settled(w.als.entry(t.Context(), a, w.als.words.of(a.Loaded), both.entry("x", "")))
		second := w.told(t, both.descriptor("request_id=x"))
		if first != settledSpent || second != settledBefore {
			t.Errorf("%v, then %v", first, second)
		}
		if got, want := w.used(t), (limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}); got != want {
			t.Errorf("charged %+v, want %+v", got, want)
		}
	})
}

// What was read from the prompt cache is charged where the quota says so, whatever is
// usual of its provider, by every door and also where nobody had asked.
func TestCacheReadsAreChargedAsTheQuotaSays(t *testing.T) {
	e := ending{status: 200, details: "via_upstream", attempts: 1, metadata: "input_tokens=100 cache_read_input_tokens=4000 output_tokens=42"}
	for name, tc := range map[string]struct {
		change func(*limiter.QuotaSpec)
		input  uint64
	}{
		"as is usual":           {func(*limiter.QuotaSpec) {}, 100},
		"counted":               {func(q *limiter.QuotaSpec) { q.CountsCacheReads = true }, 4100},
		"counted of this model": {func(q *limiter.QuotaSpec) { q.CacheReadModels = []string{"*claude-lab*"} }, 4100},
		"counted of another":    {func(q *limiter.QuotaSpec) { q.CacheReadModels = []string{"*claude-3-haiku*"} }, 100},
		"another provider's":    {func(q *limiter.QuotaSpec) { q.Provider = "openai" }, 100},
	} {
		spec := worldSpec()
		tc.change(&spec.Quotas[0])
		for door, report := range map[string]func(*rlsWorld) settled{
			"the call": func(w *rlsWorld) settled { return w.told(t, e.descriptor("reservation="+w.reserve(t, ordinaryAsk))) },
			"the log": func(w *rlsWorld) settled {
				a := w.d.loaded.Load()
				return settled(w.als.entry(t.Context(), a, w.als.words.of(a.Loaded), e.entry("d016", "reservation="+w.reserve(t, ordinaryAsk))))
			},
			"nobody's": func(w *rlsWorld) settled { return w.told(t, e.descriptor("org=acme model=claude-lab-1 request_id=x")) },
		} {
			t.Run(name+", "+door, func(t *testing.T) {
				w := newRLSWorld(t, spec)
				if got := report(w); got != settledNow && got != settledSpent {
					t.Errorf("%v", got)
				}
				if got, want := w.used(t), (limiter.Usage{Requests: 1, InputTokens: tc.input, OutputTokens: 42}); got != want {
					t.Errorf("charged %+v, want %+v", got, want)
				}
			})
		}
	}
}

// Answers of a provider that the configuration describes mean what that says, until
// another configuration says otherwise.
func TestAnswersOfAProviderOfOnesOwn(t *testing.T) {
	t.Chdir(t.TempDir())
	load := func(class string) *config.Loaded {
		text := "providers: [{name: ours, rules: [{status: 420, class: " + class + "}]}]\n" +
			"quotas: [{name: a, provider: ours, control: fixed, limits: {requests_per_minute: 50, input_tokens_per_minute: 80000, output_tokens_per_minute: 16000}}]\n"
		if err := os.WriteFile("weir.yaml", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := config.Load([]string{"weir.yaml"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	w := newRLSWorld(t, worldSpec())
	e := ending{status: 420, details: "via_upstream", attempts: 1}
	for _, step := range []struct {
		class string
		names string
		used  limiter.Usage
	}{
		{"unused", "", limiter.Usage{}},
		{"server", "", limiter.Usage{Requests: 1, InputTokens: 1000}},
		{"unused", "provider=ours", limiter.Usage{}},
		{"unused", "provider=openai", limiter.Usage{Requests: 1}},
	} {
		w.d.apply(load(step.class))
		before := w.used(t)
		w.told(t, e.descriptor(step.names+" reservation="+w.reserve(t, strings.Replace(ordinaryAsk, "request_id=d016", "", 1))))
		after := w.used(t)
		got := limiter.Usage{
			Requests: after.Requests - before.Requests, InputTokens: after.InputTokens - before.InputTokens,
			OutputTokens: after.OutputTokens - before.OutputTokens,
		}
		if got != step.used {
			t.Errorf("%s, %q: charged %+v, want %+v", step.class, step.names, got, step.used)
		}
	}
}

func TestOwnDenialsTeachNothing(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	e := ending{status: 429, details: "request_rate_limited", metadata: "error_type=rate_limit_error retry_after=3", flags: &alsv3.ResponseFlags{RateLimited: true}}
	if got := w.told(t, e.descriptor("org=acme model=claude-lab-1 request_id=x")); got != settledDenied {
		t.Errorf("the call: %v", got)
	}
	if got := w.log(t, e.entry("x", "org=acme model=claude-lab-1")); got != "own_denial" {
		t.Errorf("the log: %v", got)
	}
	e = ending{status: 413, details: "request_payload_too_large"}
	if got := w.log(t, e.entry("y", "")); got != "own_denial" {
		t.Errorf("a body that is too large: %v", got)
	}
	e = ending{details: "downstream_remote_disconnect", flags: &alsv3.ResponseFlags{DownstreamConnectionTermination: true}}
	if got := w.log(t, e.entry("z", "")); got != "unknown" {
		t.Errorf("left while held: %v", got)
	}
	if got := w.used(t); got != (limiter.Usage{}) {
		t.Errorf("charged %+v", got)
	}
}

// The first report that says what was used wins, also where one that said less came
// before it.
func TestTheReportThatSaysMoreWins(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	names := "reservation=" + w.reserve(t, ordinaryAsk)
	less := ending{status: 200, details: "via_upstream", attempts: 1}
	more := less
	more.metadata = "input_tokens=30 output_tokens=40"
	most := less
	most.metadata = "input_tokens=31 output_tokens=41"
	for i, step := range []struct {
		e    ending
		want settled
	}{{less, settledLater}, {more, settledNow}, {most, settledBefore}, {less, settledBefore}} {
		if got := w.told(t, step.e.descriptor(names)); got != step.want {
			t.Errorf("report %d: %v, want %v", i, got, step.want)
		}
	}
	if got, want := w.used(t), (limiter.Usage{Requests: 1, InputTokens: 30, OutputTokens: 40}); got != want {
		t.Errorf("charged %+v, want %+v", got, want)
	}
}

func TestEntriesThatSettleNothing(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	names := "reservation=" + w.reserve(t, ordinaryAsk)
	e := ending{status: 200, details: "via_upstream", attempts: 1, metadata: "input_tokens=1 output_tokens=1"}
	for kind, want := range map[alsv3.AccessLogType]string{
		alsv3.AccessLogType_UpstreamEnd:        "attempt",
		alsv3.AccessLogType_UpstreamPoolReady:  "attempt",
		alsv3.AccessLogType_DownstreamPeriodic: "periodic",
		alsv3.AccessLogType_DownstreamStart:    "periodic",
		alsv3.AccessLogType_TcpConnectionEnd:   "other",
		alsv3.AccessLogType(99):                "other",
	} {
		l := e.entry("d016", names)
		l.CommonProperties.AccessLogType = kind
		if got := w.log(t, l); got != want {
			t.Errorf("%v: %s, want %s", kind, got, want)
		}
	}
	l := e.entry("d016", names)
	l.CommonProperties.AccessLogType = alsv3.AccessLogType_NotSet
	l.CommonProperties.IntermediateLogEntry = true //nolint:staticcheck // as an older proxy says it
	if got := w.log(t, l); got != "periodic" {
		t.Errorf("an older proxy's intermediate entry: %s", got)
	}
	if got := w.log(t, new(alsv3.HTTPAccessLogEntry)); got != "other" {
		t.Errorf("an empty entry: %s", got)
	}
	if got, want := w.used(t), (limiter.Usage{Requests: 1, InputTokens: 1000, OutputTokens: 200}); got != want {
		t.Errorf("charged %+v, want %+v", got, want)
	}
	l.CommonProperties.IntermediateLogEntry = false //nolint:staticcheck // as an older proxy says it
	if got := w.log(t, l); got != "settled" {
		t.Errorf("an older proxy's last entry: %s", got)
	}
}

// An entry of a call that goes on charges what exceeds the reservation, gives nothing
// back, and leaves the call to be settled at its end.
func TestEntriesOfCallsThatGoOn(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	names := "reservation=" + w.reserve(t, ordinaryAsk)
	e := ending{status: 200, details: "via_upstream", attempts: 1}
	for i, step := range []struct {
		metadata string
		want     limiter.Usage
	}{
		{"", limiter.Usage{Requests: 1, InputTokens: 1000, OutputTokens: 200}},
		{"last_event=content_block_delta input_tokens=30 output_tokens=1", limiter.Usage{Requests: 1, InputTokens: 1000, OutputTokens: 200}},
		{"last_event=content_block_delta input_tokens=1200 output_tokens=250", limiter.Usage{Requests: 1, InputTokens: 1200, OutputTokens: 250}},
	} {
		e.metadata = step.metadata
		l := e.entry("d016", names)
		l.CommonProperties.AccessLogType = alsv3.AccessLogType_DownstreamPeriodic
		if got := w.log(t, l); got != "periodic" {
			t.Errorf("entry %d: %s", i, got)
		}
		if got := w.used(t); got != step.want {
			t.Errorf("after entry %d: charged %+v, want %+v", i, got, step.want)
		}
	}
	// One that nobody asked for is charged at its end, and not twice.
	e.metadata = "input_tokens=7 output_tokens=7"
	l := e.entry("never", "org=acme tenant=batch model=claude-lab-1")
	l.CommonProperties.AccessLogType = alsv3.AccessLogType_DownstreamPeriodic
	w.log(t, l)
	e.metadata = "last_event=message_stop input_tokens=1200 output_tokens=260"
	if got := w.log(t, e.entry("d016", names)); got != "settled" {
		t.Errorf("the last entry: %s", got)
	}
	if got, want := w.used(t), (limiter.Usage{Requests: 1, InputTokens: 1200, OutputTokens: 260}); got != want {
		t.Errorf("charged %+v, want %+v", got, want)
	}
}

func TestWhatEnvoysOwnParserCounted(t *testing.T) {
	counted := func(status aiv3.TokenUsage_ExtractionStatus, in, read, created, out uint64) *anypb.Any {
		packed, err := anypb.New(&aiv3.TokenUsage{
			InputTokens: wrapperspb.UInt64(in), OutputTokens: wrapperspb.UInt64(out), ExtractionStatus: status,
			InputTokenDetails: &aiv3.InputTokenDetails{CachedTokens: wrapperspb.UInt64(read), CacheCreationTokens: wrapperspb.UInt64(created)},
		})
		if err != nil {
			t.Fatal(err)
		}
		return packed
	}
	for name, tc := range map[string]struct {
		packed   *anypb.Any
		metadata string
		want     settled
		used     limiter.Usage
	}{
		"complete":            {counted(aiv3.TokenUsage_COMPLETE, 132, 100, 7, 42), "", settledNow, limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}},
		"partial":             {counted(aiv3.TokenUsage_PARTIAL, 132, 100, 7, 42), "", settledNow, limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 200}},
		"failed":              {counted(aiv3.TokenUsage_FAILED, 132, 100, 7, 42), "", settledLater, limiter.Usage{Requests: 1, InputTokens: 1000, OutputTokens: 200}},
		"inconsistent":        {counted(aiv3.TokenUsage_COMPLETE, 5, 100, 7, 42), "", settledNow, limiter.Usage{Requests: 1, InputTokens: 7, OutputTokens: 42}},
		"told elsewhere, too": {counted(aiv3.TokenUsage_COMPLETE, 132, 100, 7, 42), "input_tokens=1 output_tokens=2", settledNow, limiter.Usage{Requests: 1, InputTokens: 1, OutputTokens: 2}},
		"another type":        {&anypb.Any{TypeUrl: "type.googleapis.com/google.protobuf.Empty"}, "", settledLater, limiter.Usage{Requests: 1, InputTokens: 1000, OutputTokens: 200}},
		"garbage":             {&anypb.Any{TypeUrl: counted(1, 1, 1, 1, 1).TypeUrl, Value: []byte{0xff}}, "", settledLater, limiter.Usage{Requests: 1, InputTokens: 1000, OutputTokens: 200}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRLSWorld(t, worldSpec())
			e := ending{status: 200, details: "via_upstream", attempts: 1, metadata: tc.metadata}
			l := e.entry("d016", "reservation="+w.reserve(t, ordinaryAsk))
			l.CommonProperties.Metadata.TypedFilterMetadata = map[string]*anypb.Any{tokenUsage: tc.packed}
			if got := w.log(t, l); got != tc.want.String() {
				t.Errorf("%v, want %v", got, tc.want)
			}
			if got := w.used(t); got != tc.used {
				t.Errorf("charged %+v, want %+v", got, tc.used)
			}
		})
	}
}

func TestAttributesFromRequestHeaders(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	e := ending{status: 200, details: "via_upstream", attempts: 1, metadata: "model=claude-lab-1 input_tokens=3 output_tokens=4"}
	l := e.entry("x", "")
	l.Request.RequestHeaders = map[string]string{
		"x-llm-org": "acme", "X-Llm-Tenant": strings.Repeat("x", 300), "x-llm-": "a", "x-llm-nonsense": "b", "user-agent": "c",
	}
	if got := w.log(t, l); got != "spent" {
		t.Errorf("%s", got)
	}
	if got, want := w.used(t), (limiter.Usage{Requests: 1, InputTokens: 3, OutputTokens: 4}); got != want {
		t.Errorf("charged %+v, want %+v", got, want)
	}
}

func TestOutcomeOf(t *testing.T) {
	all := reportedUsage{25, 7, 100, 42, true, true, true, true}
	for name, tc := range map[string]struct {
		report report
		want   limiter.Outcome
	}{
		"nothing known": {report{}, limiter.Outcome{Class: limiter.ClassUnknown, Usage: limiter.Usage{Requests: 1}}},
		"success": {
			report{status: 200, usage: all},
			limiter.Outcome{Class: limiter.ClassOK, Usage: limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}, CacheReads: 100, HasInput: true, HasOutput: true, Learn: true},
		},
		"success without usage settles a caller's own report": {report{status: 200}, limiter.Outcome{Class: limiter.ClassOK, Usage: limiter.Usage{Requests: 1}}},
		"progress": {
			report{status: 200, usage: all, progress: true},
			limiter.Outcome{Class: limiter.ClassOK, Usage: limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}, CacheReads: 100, HasInput: true, HasOutput: true, Progress: true},
		},
		"aborted": {
			report{status: 200, usage: all, aborted: true},
			limiter.Outcome{Class: limiter.ClassOK, Usage: limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}, CacheReads: 100, HasInput: true, HasOutput: true, OutputFloor: true},
		},
		"unsent": {
			report{unsent: true, usage: all},
			limiter.Outcome{Class: limiter.ClassUnused, RefundRequests: true, RefundInput: true, RefundOutput: true},
		},
		"sums that saturate": {
			report{status: 200, usage: reportedUsage{input: 1<<64 - 1, cacheCreation: 1<<64 - 1, output: 1<<64 - 1, hasInput: true, hasCacheCreation: true, hasOutput: true}},
			limiter.Outcome{Class: limiter.ClassOK, Usage: limiter.Usage{Requests: 1, InputTokens: limiter.MaxAmount, OutputTokens: limiter.MaxAmount}, HasInput: true, HasOutput: true, Learn: true},
		},
		"usage and no status": {
			report{usage: all},
			limiter.Outcome{Class: limiter.ClassOK, Usage: limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}, CacheReads: 100, HasInput: true, HasOutput: true},
		},
		"only cache reads": {
			report{status: 200, usage: reportedUsage{cacheRead: 9, hasCacheRead: true}},
			limiter.Outcome{Class: limiter.ClassOK, Usage: limiter.Usage{Requests: 1}, Learn: true},
		},
		"refused": {
			report{status: 429, errorType: "rate_limit_error", provider: "anthropic"},
			limiter.Outcome{Class: limiter.ClassQuota, Usage: limiter.Usage{Requests: 1}, RefundRequests: true, RefundInput: true, RefundOutput: true},
		},
		"a proxy's own status": {
			report{status: 503, aborted: true},
			limiter.Outcome{Class: limiter.ClassUnknown, Usage: limiter.Usage{Requests: 1}, OutputFloor: true},
		},
		"an error in a stream": {
			report{status: 200, errorType: "overloaded_error", aborted: true},
			limiter.Outcome{Class: limiter.ClassOverload, Usage: limiter.Usage{Requests: 1}, OutputFloor: true},
		},
		"a refusal with a wait": {
			report{status: 429, retryAfter: "3", sent: 7},
			limiter.Outcome{
				Class: limiter.ClassQuota, RetryAfter: 3 * time.Second, Sent: 7, Usage: limiter.Usage{Requests: 1},
				RefundRequests: true, RefundInput: true, RefundOutput: true,
			},
		},
		"a wait that was read, and headers apart": {
			report{
				status: 429, retryIn: 2 * time.Second, retryAfter: "3", attributes: []limiter.Entry{{Key: "org", Value: "acme"}},
				headers: []limiter.Entry{{Key: "Anthropic-Ratelimit-Requests-Limit", Value: "50"}},
			},
			limiter.Outcome{
				Class: limiter.ClassQuota, RetryAfter: 2 * time.Second, Usage: limiter.Usage{Requests: 1},
				RefundRequests: true, RefundInput: true, RefundOutput: true,
				Headers: [3]limiter.HeaderState{{Limit: 50, HasLimit: true}},
			},
		},
		"output that counts five times": {
			report{status: 200, provider: "bedrock", usage: all, attributes: []limiter.Entry{{Key: "model", Value: "anthropic.claude-opus-4-6"}}},
			limiter.Outcome{Class: limiter.ClassOK, Usage: limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 210}, CacheReads: 100, HasInput: true, HasOutput: true, Learn: true},
		},
		"headers that a report carries": {
			report{status: 200, usage: all, attributes: []limiter.Entry{{Key: "anthropic-ratelimit-requests-limit", Value: "50"}, {Key: "anthropic-ratelimit-requests-remaining", Value: "49"}}},
			limiter.Outcome{
				Class: limiter.ClassOK, Usage: limiter.Usage{Requests: 1, InputTokens: 32, OutputTokens: 42}, CacheReads: 100, HasInput: true, HasOutput: true, Learn: true,
				Headers: [3]limiter.HeaderState{{Limit: 50, HasLimit: true, Remaining: 49, HasRemaining: true}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, outcomeOf(tc.report, provider.Named(tc.report.provider), 0)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What the upstream said beside its status reaches the core by every door.
func TestWaitsAndHeadersReachTheCore(t *testing.T) {
	want := limiter.Outcome{
		Class: limiter.ClassQuota, RetryAfter: 3 * time.Second, Usage: limiter.Usage{Requests: 1},
		RefundRequests: true, RefundInput: true, RefundOutput: true,
		Headers: [3]limiter.HeaderState{{Limit: 50, HasLimit: true}},
	}
	e := ending{status: 429, details: "via_upstream", attempts: 1, metadata: "error_type=rate_limit_error retry_after=3"}
	v := config.DefaultVocabulary()
	said := read(t, v, e.descriptor("request_id=d016")+" anthropic-ratelimit-requests-limit=50")
	l := e.entry("d016", "")
	l.Response.ResponseHeaders = map[string]string{"Anthropic-Ratelimit-Requests-Limit": "50", "x": strings.Repeat("y", 2*maxLogged)}
	call := reportCall{
		status: 429, errorType: "rate_limit_error", retryAfter: span{set: true, seconds: 3}, sentAt: span{set: true, seconds: 5, nanos: 6},
		headers: []headerField{{"anthropic-ratelimit-requests-limit", "50"}},
	}
	for door, r := range map[string]report{"the call": said.reports[0], "the log": newVocabulary(&v).reportOf(l), "the caller": call.terms(Ref{})} {
		want := want
		if want.Attempt = 1; door == "the caller" {
			want.Sent, want.Attempt = 5e9+6, 0
		}
		if diff := cmp.Diff(want, outcomeOf(r, provider.Named(r.provider), 0)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", door, diff)
		}
	}
	for _, s := range []span{{}, {set: true, seconds: -1}, {set: true, seconds: 1 << 62}, {set: true, nanos: -1}, {set: true, nanos: 2e9}} {
		if got := s.instant(); got != 0 {
			t.Errorf("%+v is sent at %d", s, got)
		}
	}
}
