package server

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-project/weir/limiter"
)

const (
	ok   = rlsv3.RateLimitResponse_OK
	over = rlsv3.RateLimitResponse_OVER_LIMIT
)

// shownStatus is a descriptor's status as a proxy meets it.
type shownStatus struct {
	Code       rlsv3.RateLimitResponse_Code
	Name       string
	PerUnit    uint32
	Unit       string
	Multiplier uint32
	Remaining  uint32
}

func shown(r *rlsv3.RateLimitResponse) []shownStatus {
	var all []shownStatus
	for _, s := range r.GetStatuses() {
		l := s.GetCurrentLimit()
		all = append(all, shownStatus{s.GetCode(), l.GetName(), l.GetRequestsPerUnit(), l.GetUnit().String(), l.GetUnitMultiplier().GetValue(), s.GetLimitRemaining()})
	}
	return all
}

func headersOf(r *rlsv3.RateLimitResponse) map[string]string {
	m := make(map[string]string)
	for _, h := range r.GetResponseHeadersToAdd() {
		m[h.GetKey()] = h.GetValue()
	}
	return m
}

// errorOf reads a refusal's body as the provider's SDK does.
func errorOf(t testing.TB, r *rlsv3.RateLimitResponse) (message, requestID string) {
	t.Helper()
	var body struct {
		Type  string
		Error struct{ Type, Message string }
		ID    string `json:"request_id"`
	}
	if err := json.Unmarshal(r.GetRawBody(), &body); err != nil {
		t.Fatalf("body %q: %v", r.GetRawBody(), err)
	}
	if body.Type != "error" || body.Error.Type != "rate_limit_error" {
		t.Errorf("body %s", r.GetRawBody())
	}
	return body.Error.Message, body.ID
}

var uncounted = shownStatus{Code: ok, Unit: "UNKNOWN"}

func TestPlainDescriptors(t *testing.T) {
	minute := func(code rlsv3.RateLimitResponse_Code, remaining uint32) shownStatus {
		return shownStatus{code, "per-user/requests", 10, "MINUTE", 0, remaining}
	}
	for name, tc := range map[string]struct {
		steps []*rlsv3.RateLimitRequest
		want  [][]shownStatus
	}{
		"one hit unless said otherwise": {
			[]*rlsv3.RateLimitRequest{request("edge", "user=ann"), request("edge", "user=ann hits:2"), request("edge", "user=bob")},
			[][]shownStatus{{minute(ok, 9)}, {minute(ok, 7)}, {minute(ok, 9)}},
		},
		"the request's hits stand in for the descriptor's": {
			[]*rlsv3.RateLimitRequest{withHits(request("edge", "user=ann", "user=bob hits:1"), 4)},
			[][]shownStatus{{minute(ok, 6), minute(ok, 9)}},
		},
		"a peek sees and takes nothing": {
			[]*rlsv3.RateLimitRequest{request("edge", "user=ann hits:10"), request("edge", "user=ann hits:0"), request("edge", "user=ann hits:0")},
			[][]shownStatus{{minute(ok, 0)}, {minute(ok, 0)}, {minute(ok, 0)}},
		},
		"a denial consumes nothing": {
			[]*rlsv3.RateLimitRequest{request("edge", "user=ann hits:8"), request("edge", "user=ann hits:3"), request("edge", "user=ann hits:2")},
			[][]shownStatus{{minute(ok, 2)}, {minute(over, 2)}, {minute(ok, 0)}},
		},
		"all or nothing": {
			[]*rlsv3.RateLimitRequest{request("edge", "user=ann hits:10"), request("edge", "user=bob", "user=ann"), request("edge", "user=bob")},
			[][]shownStatus{{minute(ok, 0)}, {minute(ok, 10), minute(over, 0)}, {minute(ok, 9)}},
		},
		"the limit with the least left is shown": {
			[]*rlsv3.RateLimitRequest{request("edge", "user=ann hits:10"), request("edge", "user=ann hits:10 negative"), request("edge", "user=ann hits:8")},
			[][]shownStatus{{minute(ok, 0)}, {minute(ok, 10)}, {minute(ok, 2)}},
		},
		"a refund never goes below zero": {
			[]*rlsv3.RateLimitRequest{request("edge", "user=ann hits:5"), request("edge", "user=ann hits:100 negative"), request("edge", "user=ann hits:10"), request("edge", "user=ann")},
			[][]shownStatus{{minute(ok, 5)}, {minute(ok, 10)}, {minute(ok, 0)}, {minute(over, 0)}},
		},
		"nothing known, nothing limited": {
			[]*rlsv3.RateLimitRequest{
				request("nowhere", "user=ann"), request("edge", "nobody=x"), request("edge", "path=/free hits:100"),
				request("edge", "user=ann deeper=x"), request("edge", "user=ann", "nobody=x"),
			},
			[][]shownStatus{{uncounted}, {uncounted}, {uncounted}, {uncounted}, {minute(ok, 9), uncounted}},
		},
		"a shadow counts and never refuses": {
			[]*rlsv3.RateLimitRequest{request("edge", "shy=x"), request("edge", "shy=x"), request("edge", "shy=x", "user=ann hits:11")},
			[][]shownStatus{
				{{ok, "shy/requests", 1, "MINUTE", 0, 0}},
				{{ok, "shy/requests", 1, "MINUTE", 0, 0}},
				{{ok, "shy/requests", 1, "MINUTE", 0, 0}, minute(over, 10)},
			},
		},
		"numbers that the protocol has no room for": {
			[]*rlsv3.RateLimitRequest{request("edge", "odd=x")},
			[][]shownStatus{{{ok, "odd/requests", math.MaxUint32, "SECOND", 90, math.MaxUint32}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRLSWorld(t, worldSpec())
			for i, step := range tc.steps {
				out, err := w.rls.ShouldRateLimit(t.Context(), step)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tc.want[i], shown(out)); diff != "" {
					t.Errorf("step %d (-want +got):\n%s", i, diff)
				}
				wantCode := ok
				for _, s := range tc.want[i] {
					wantCode = max(wantCode, s.Code)
				}
				if out.GetOverallCode() != wantCode {
					t.Errorf("step %d: overall %v, want %v", i, out.GetOverallCode(), wantCode)
				}
				if wantCode == ok && (len(out.GetResponseHeadersToAdd()) > 0 || len(out.GetRawBody()) > 0) {
					t.Errorf("step %d: what is allowed has headers or a body: %v", i, out)
				}
			}
		})
	}
}

func withHits(r *rlsv3.RateLimitRequest, n uint32) *rlsv3.RateLimitRequest {
	r.HitsAddend = n
	return r
}

func withLimit(r *rlsv3.RateLimitRequest, n uint32, unit typev3.RateLimitUnit, multiplier ...uint32) *rlsv3.RateLimitRequest {
	for _, d := range r.GetDescriptors() {
		d.Limit = &ratelimitv3.RateLimitDescriptor_RateLimitOverride{RequestsPerUnit: n, Unit: unit}
		for _, m := range multiplier {
			d.Limit.UnitMultiplier = wrapperspb.UInt32(m)
		}
	}
	return r
}

func TestLimitsThatComeAlong(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	for i, step := range []struct {
		request *rlsv3.RateLimitRequest
		code    rlsv3.RateLimitResponse_Code
		shown   shownStatus
	}{
		{withLimit(request("edge", "user=ann hits:2"), 3, typev3.RateLimitUnit_HOUR), ok, shownStatus{PerUnit: 3, Unit: "HOUR", Remaining: 1}},
		{withLimit(request("edge", "user=ann hits:2"), 3, typev3.RateLimitUnit_HOUR), over, shownStatus{Code: over, PerUnit: 3, Unit: "HOUR", Remaining: 1}},
		{withLimit(request("edge", "user=ann"), 3, typev3.RateLimitUnit_MINUTE, 60), ok, shownStatus{PerUnit: 3, Unit: "HOUR"}},
		{withLimit(request("edge", "nobody=x"), 1, typev3.RateLimitUnit_YEAR), ok, shownStatus{PerUnit: 1, Unit: "YEAR"}},
		{withLimit(request("edge", "nobody=y"), 1, 7), ok, shownStatus{PerUnit: 1, Unit: "WEEK"}},
		{withLimit(request("edge", "nobody=z"), 0, typev3.RateLimitUnit_SECOND), over, shownStatus{Code: over, Unit: "SECOND"}},
		{withLimit(request("nowhere", "user=ann"), 0, typev3.RateLimitUnit_SECOND), ok, uncounted},
		{withLimit(request("llm", "org=acme model=claude-lab-1"), 1, typev3.RateLimitUnit_DAY), ok, shownStatus{PerUnit: 1, Unit: "DAY"}},
	} {
		out, err := w.rls.ShouldRateLimit(t.Context(), step.request)
		if err != nil {
			t.Fatal(err)
		}
		got := shown(out)[0]
		got.Name = ""
		if step.shown.Code == 0 {
			step.shown.Code = ok
		}
		if out.GetOverallCode() != step.code || got != step.shown {
			t.Errorf("step %d: %v, %+v, want %v, %+v", i, out.GetOverallCode(), got, step.code, step.shown)
		}
	}
	if got := w.used(t); got != (limiter.Usage{}) {
		t.Errorf("a limit of its own still charged the quota: %+v", got)
	}
}

func TestMistakesOfTheCaller(t *testing.T) {
	many := func(n int, d string) []string {
		all := make([]string, n)
		for i := range all {
			all[i] = d
		}
		return all
	}
	w := newRLSWorld(t, worldSpec())
	for name, tc := range map[string]struct {
		request *rlsv3.RateLimitRequest
		says    string
	}{
		"no domain":         {request("", "user=ann"), "domain is empty"},
		"no descriptors":    {request("edge"), "descriptors is empty"},
		"33 descriptors":    {request("edge", many(33, "user=ann")...), "33 descriptors; expected at most 32"},
		"33 entries":        {request("edge", strings.Join(many(33, "user=ann"), " ")), "descriptor 0 has 33 entries"},
		"long key":          {request("edge", "user=ann", strings.Repeat("k", 257)+"=x"), "descriptor 1 has a key of 257 bytes"},
		"no unit":           {withLimit(request("edge", "user=ann"), 1, 0), "descriptor 0: limit has the unit 0"},
		"undefined unit":    {withLimit(request("edge", "user=ann"), 1, 8), "limit has the unit 8"},
		"negative unit":     {withLimit(request("edge", "user=ann"), 1, -1), "limit has the unit -1"},
		"zero multiplier":   {withLimit(request("edge", "user=ann"), 1, 1, 0), "a window of 0"},
		"unkept window":     {withLimit(request("edge", "user=ann"), 1, 1, 30), "a window of 30"},
		"absurd multiplier": {withLimit(request("edge", "user=ann"), 1, 6, math.MaxUint32), "a window of 4294967295"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := w.rls.ShouldRateLimit(t.Context(), tc.request)
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, %v, want INVALID_ARGUMENT saying %q", out, err, tc.says)
			}
		})
	}
	if got := shown(w.call(t, "edge", "user=ann"))[0].Remaining; got != 9 {
		t.Errorf("mistakes consumed: %d left, want 9", got)
	}
}

// What the client behind the proxy can bring about must not be an error, which would
// let its call pass.
func TestWhatMustNotPass(t *testing.T) {
	long := strings.Repeat("x", 257)
	w := newRLSWorld(t, worldSpec())
	hits := func(d string, n uint64) *rlsv3.RateLimitRequest {
		r := request("edge", "user=bob", d)
		r.Descriptors[1].HitsAddend = wrapperspb.UInt64(n)
		return r
	}
	big := request("edge", strings.Repeat("k=v ", 32))
	for range 31 {
		big.Descriptors = append(big.Descriptors, big.Descriptors[0])
	}
	for _, e := range big.Descriptors[0].Entries {
		e.Value = strings.Repeat("v", 256)
	}
	spoken := request("llm", "org=acme model=claude-lab-1 meter=output_tokens")
	spoken.Descriptors[0].HitsAddend = wrapperspb.UInt64(math.MaxUint64)
	for name, tc := range map[string]struct {
		request *rlsv3.RateLimitRequest
		says    string
	}{
		"long value":                  {request("edge", "user=bob", "user="+long), "descriptor 1, entry 0 has a value of 257 bytes; at most 256 are accepted"},
		"long value nobody looks at":  {request("nowhere", "user="+long), "a value of 257 bytes"},
		"long model":                  {request("llm", "org=acme model="+long), "a value of 257 bytes"},
		"long value beside a report":  {request("llm", "status=200 error_type="+long, "org=acme model=claude-lab-1"), "a value of 257 bytes"},
		"long request":                {big, "bytes; at most 65536 are read"},
		"hits of 2^53+1":              {hits("user=ann", 1<<53+1), "descriptor 1 asks for 9007199254740993 hits"},
		"hits of 2^63":                {hits("user=ann", 1<<63), "asks for 9223372036854775808 hits"},
		"hits of 2^64-1":              {hits("user=ann", math.MaxUint64), "asks for 18446744073709551615 hits"},
		"hits of 2^64-1 of tokens":    {spoken, "descriptor 0 asks for 18446744073709551615 hits"},
		"hits that no limit admits":   {hits("user=ann", 1<<53), "is less than the 9007199254740992 that this call needs"},
		"hits above the daily limit":  {hits("user=ann", 16), "less than the 16 that this call needs"},
		"an estimate above the limit": {request("llm", "org=acme model=claude-lab-1 input_tokens=80001"), "opus: limit of 80000 input_tokens per minute is less than the 80001 that this call needs at once"},
		"an estimate without end":     {request("llm", "org=acme model=claude-lab-1 body_bytes=1e300"), "opus: limit of 80000 input_tokens per minute is less than"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := w.rls.ShouldRateLimit(t.Context(), tc.request)
			if err != nil {
				t.Fatal(err)
			}
			if out.GetOverallCode() != over || len(out.GetStatuses()) != len(tc.request.GetDescriptors()) && name != "long request" {
				t.Errorf("%v with %d statuses", out.GetOverallCode(), len(out.GetStatuses()))
			}
			if message, _ := errorOf(t, out); !strings.Contains(message, tc.says) {
				t.Errorf("says %q, want %q", message, tc.says)
			}
			want := map[string]string{"content-type": "application/json", "x-should-retry": "false"}
			if diff := cmp.Diff(want, headersOf(out)); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
	for _, user := range []string{"user=ann", "user=bob"} {
		if got := shown(w.call(t, "edge", user))[0].Remaining; got != 9 {
			t.Errorf("%s: refusals consumed: %d left, want 9", user, got)
		}
	}
	if got := w.used(t); got != (limiter.Usage{}) {
		t.Errorf("refusals charged %+v", got)
	}
}

func TestTextThatIsNoText(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	b, err := proto.Marshal(request("edge", "user=ann"))
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] = 0xff
	call := func(b []byte) *rlsv3.RateLimitResponse {
		reply, err := w.rls.handle(t.Context(), func(v any) error { return codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, v) }, nil)
		if err != nil {
			t.Fatal(err)
		}
		out := new(rlsv3.RateLimitResponse)
		if err := proto.Unmarshal(reply.(*encodedReply).data, out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := call(b); out.GetOverallCode() != over {
		t.Errorf("bytes that are no text pass: %v", out)
	}
	// A report lets nothing pass, and is not lost for an error text in another encoding.
	id := w.reserve(t, ordinaryAsk)
	report, err := proto.Marshal(request("llm", "reservation="+id+" status=429 details=via_upstream error_message=caf*"))
	if err != nil {
		t.Fatal(err)
	}
	report[len(report)-1] = 0xe9
	if out := call(report); out.GetOverallCode() != ok {
		t.Errorf("a report is refused: %v", out)
	}
	if got := w.used(t); got != (limiter.Usage{}) {
		t.Errorf("the report was lost: %+v", got)
	}
}

func TestADenialSaysWhatAndWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRLSWorld(t, worldSpec())
		time.Sleep(30 * time.Second)
		w.reserve(t, "org=acme model=claude-lab-1 input_tokens=79000 max_tokens=100")
		time.Sleep(10 * time.Second)
		out := w.call(t, "llm", "org=acme tenant=a model=claude-lab-1 input_tokens=1500 max_tokens=100 request_id=d016")
		message, id := errorOf(t, out)
		// The window counts the whole of its oldest sub-bucket of a second.
		if want := "opus: limit of 80000 input_tokens per minute reached: 79000 used, 1500 more requested; try again in 51.0 s"; message != want {
			t.Errorf("says\n%q, want\n%q", message, want)
		}
		if id != "d016" {
			t.Errorf("request_id %q", id)
		}
		want := map[string]string{"content-type": "application/json", "retry-after": "51", "retry-after-ms": "51000", "x-should-retry": "true"}
		if diff := cmp.Diff(want, headersOf(out)); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]shownStatus{{over, "opus/input_tokens", 80000, "MINUTE", 0, 1000}}, shown(out)); diff != "" {
			t.Errorf("statuses (-want +got):\n%s", diff)
		}
		if out.GetDynamicMetadata() != nil {
			t.Errorf("a denial has a reservation: %v", out.GetDynamicMetadata())
		}
		// The promise is kept: a little earlier it is still refused, then it passes.
		again := []string{"org=acme tenant=a model=claude-lab-1 input_tokens=1500 max_tokens=100"}
		time.Sleep(51*time.Second - time.Millisecond)
		if out := w.call(t, "llm", again...); out.GetOverallCode() != over || headersOf(out)["retry-after-ms"] != "1" || headersOf(out)["retry-after"] != "1" {
			t.Errorf("a millisecond early: %v %v", out.GetOverallCode(), headersOf(out))
		}
		time.Sleep(time.Millisecond)
		if out := w.call(t, "llm", again...); out.GetOverallCode() != ok {
			t.Errorf("in time: %s", out.GetRawBody())
		}
	})
}

func TestStatusesPerUnit(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	ask := []string{
		"llm_phase=admit request_id=r org=acme model=claude-lab-1 hits:0",
		"org=acme model=claude-lab-1 unit=requests hits:1",
		"org=acme model=claude-lab-1 unit=input_tokens hits:50000",
		"org=acme model=claude-lab-1 unit=output_tokens hits:100",
		"user=ann",
	}
	out := w.call(t, "llm", ask...)
	want := []shownStatus{
		uncounted,
		{ok, "opus/requests", 50, "MINUTE", 0, 49},
		{ok, "opus/input_tokens", 80000, "MINUTE", 0, 30000},
		{ok, "opus/output_tokens", 16000, "MINUTE", 0, 15900},
		{ok, "llm-user/requests", 5, "MINUTE", 0, 4},
	}
	if diff := cmp.Diff(want, shown(out)); diff != "" {
		t.Errorf("allowed (-want +got):\n%s", diff)
	}
	if out.GetDynamicMetadata().GetFields()["reservation"].GetStringValue() == "" {
		t.Error("no reservation")
	}
	out = w.call(t, "llm", ask...)
	want[2].Code = over
	if diff := cmp.Diff(want, shown(out)); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	// A peek shows the same and changes nothing.
	if out := w.call(t, "llm", "org=acme model=claude-lab-1 meter=requests hits:0"); shown(out)[0].Remaining != 49 || out.GetDynamicMetadata() != nil {
		t.Errorf("peek: %v", out)
	}
	if got, want := w.used(t), (limiter.Usage{Requests: 1, InputTokens: 50000, OutputTokens: 100}); got != want {
		t.Errorf("charged %+v, want %+v", got, want)
	}
}

// The limit that refused is shown also where no descriptor is about its meter.
func TestARefusalIsAlwaysShown(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	w.reserve(t, "org=acme model=claude-lab-1 input_tokens=80000 max_tokens=1")
	out := w.call(t, "llm", "org=acme model=claude-lab-1 meter=requests")
	if diff := cmp.Diff([]shownStatus{{over, "opus/input_tokens", 80000, "MINUTE", 0, 0}}, shown(out)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAReportIsAlwaysAnsweredOK(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	id := w.reserve(t, ordinaryAsk)
	for _, d := range []string{
		"reservation=" + id + " status=200 input_tokens=1 output_tokens=1",
		"reservation=" + id + " status=200 input_tokens=1 output_tokens=1",
		"reservation=forged status=200",
		"status=200",
		"reservation=" + id + " status=429 error_message=" + strings.Repeat("x", 3000),
		"llm_phase=settle unit=output_tokens hits:5",
	} {
		out := w.call(t, "llm", d)
		if diff := cmp.Diff([]shownStatus{uncounted}, shown(out)); diff != "" || out.GetOverallCode() != ok {
			t.Errorf("%.40s: %v %s", d, out.GetOverallCode(), diff)
		}
	}
	if got, want := w.used(t), (limiter.Usage{Requests: 1, InputTokens: 1, OutputTokens: 1}); got != want {
		t.Errorf("charged %+v, want %+v", got, want)
	}
}

func TestAskAndReportInOneCall(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	id := w.reserve(t, ordinaryAsk)
	out := w.call(t, "llm", "reservation="+id+" status=200 input_tokens=1 output_tokens=1", ordinaryAsk+"x")
	if out.GetOverallCode() != ok || out.GetDynamicMetadata().GetFields()["reservation"].GetStringValue() == id {
		t.Errorf("%v", out)
	}
	if got, want := w.used(t), (limiter.Usage{Requests: 2, InputTokens: 1001, OutputTokens: 201}); got.Requests != want.Requests || got.InputTokens > want.InputTokens {
		t.Errorf("charged %+v, want at most %+v", got, want)
	}
}

// faultyStore fails as it is told to.
type faultyStore struct {
	Store
	decide func(ctx context.Context, d *limiter.Decision) error
	report error
}

func (s *faultyStore) Decide(ctx context.Context, now limiter.Instant, a *limiter.Ask, d *limiter.Decision) error {
	if s.decide == nil {
		return s.Store.Decide(ctx, now, a, d)
	}
	return s.decide(ctx, d)
}

func (s *faultyStore) Report(ctx context.Context, now limiter.Instant, ref Ref, tenant string, o limiter.Outcome) (limiter.Settlement, error) {
	if s.report != nil {
		return limiter.Settlement{}, s.report
	}
	return s.Store.Report(ctx, now, ref, tenant, o)
}

func TestWeirsOwnFailuresRefuse(t *testing.T) {
	retry := map[string]string{"content-type": "application/json", "retry-after": "1", "retry-after-ms": "1000", "x-should-retry": "true"}
	for name, tc := range map[string]struct {
		decide func(ctx context.Context, d *limiter.Decision) error
		says   string
	}{
		"store sick": {func(context.Context, *limiter.Decision) error { return errors.New("connection refused") }, "weir's store failed"},
		"panic":      {func(context.Context, *limiter.Decision) error { panic("a bug") }, "weir failed"},
		"no room": {func(_ context.Context, d *limiter.Decision) error {
			*d = limiter.Decision{Verdict: limiter.Overloaded, RefusedBy: -1}
			return nil
		}, "weir has no room for another reservation"},
		"a verdict without a limit": {func(_ context.Context, d *limiter.Decision) error {
			*d = limiter.Decision{Verdict: limiter.Denied, RefusedBy: -1, RetryAt: limiter.Never}
			return nil
		}, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRLSWorld(t, worldSpec())
			w.d.store = &faultyStore{Store: w.store, decide: tc.decide}
			out := w.call(t, "edge", "user=ann", "user=bob")
			if message, _ := errorOf(t, out); message != tc.says || out.GetOverallCode() != over || len(out.GetStatuses()) != 2 {
				t.Errorf("%v %q, want %q", out.GetOverallCode(), message, tc.says)
			}
			if diff := cmp.Diff(retry, headersOf(out)); diff != "" && name != "a verdict without a limit" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
			w.d.store = w.store
			if got := shown(w.call(t, "edge", "user=ann"))[0].Remaining; got != 9 {
				t.Errorf("it goes on with %d left, want 9", got)
			}
		})
	}
	t.Run("too many calls in flight", func(t *testing.T) {
		w := newRLSWorld(t, worldSpec())
		w.d.maxInFlight = 0
		out := w.call(t, "edge", "user=ann")
		if message, _ := errorOf(t, out); message != "weir is overloaded" {
			t.Errorf("%q", message)
		}
		if diff := cmp.Diff(retry, headersOf(out)); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
		if got := shown(w.call(t, "edge", "nobody=x")); got[0].Code != ok {
			t.Errorf("what needs no decision: %v", got)
		}
	})
	t.Run("a report that cannot be kept", func(t *testing.T) {
		w := newRLSWorld(t, worldSpec())
		w.d.store = &faultyStore{Store: w.store, report: errors.New("connection refused")}
		if out := w.call(t, "llm", "request_id=x status=200"); out.GetOverallCode() != ok {
			t.Errorf("%v", out)
		}
	})
}

// An answer comes before the caller's deadline, after which the proxy lets the call pass.
func TestAnAnswerComesBeforeTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRLSWorld(t, worldSpec())
		w.d.store = &faultyStore{Store: w.store, decide: func(ctx context.Context, _ *limiter.Decision) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		for _, given := range []time.Duration{20 * time.Millisecond, 250 * time.Millisecond, 2 * time.Second, 30 * time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), given)
			began := time.Now()
			out, err := w.rls.ShouldRateLimit(ctx, request("edge", "user=ann"))
			took := time.Since(began)
			cancel()
			if err != nil || out.GetOverallCode() != over {
				t.Fatalf("%v: %v, %v", given, out, err)
			}
			if took >= given || took < given/2 {
				t.Errorf("%v: answered after %v", given, took)
			}
			if message, _ := errorOf(t, out); message != "there was no decision before the caller's deadline" {
				t.Errorf("%v: %q", given, message)
			}
		}
	})
}

func TestACallerThatLeft(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if out, err := w.rls.ShouldRateLimit(ctx, request("edge", "user=ann")); status.Code(err) != codes.Canceled {
		t.Errorf("%v, %v, want CANCELLED", out, err)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if out, err := w.rls.ShouldRateLimit(late, request("edge", "user=ann")); err != nil || out.GetOverallCode() != over {
		t.Errorf("past its deadline: %v, %v", out, err)
	}
	if got := shown(w.call(t, "edge", "user=ann"))[0].Remaining; got != 9 {
		t.Errorf("calls that nobody waited for consumed: %d left, want 9", got)
	}
}

// holdingSpec lets callers of the quota be held.
func holdingSpec(d time.Duration) limiter.Spec {
	s := worldSpec()
	s.Quotas[0].Hold = d
	return s
}

func TestHolding(t *testing.T) {
	full := "org=acme model=claude-lab-1 input_tokens=80000 max_tokens=1"
	small := "org=acme model=claude-lab-1 input_tokens=10 max_tokens=1"
	for name, tc := range map[string]struct {
		hold, given, leaves time.Duration
		code                rlsv3.RateLimitResponse_Code
		after               time.Duration // at least
		canceled            bool
	}{
		"until there is room":           {hold: 90 * time.Second, given: 100 * time.Second, code: over}, // held for 30 s at most: no wait that cannot succeed
		"not at all":                    {hold: 0, given: 100 * time.Second, code: over},
		"not past the deadline":         {hold: 90 * time.Second, given: 2 * time.Second, code: over},
		"the caller leaves while it is": {hold: 30 * time.Second, given: 40 * time.Second, leaves: time.Second, canceled: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newRLSWorld(t, holdingSpec(tc.hold))
				id := w.reserve(t, full)
				if tc.leaves > 0 {
					time.Sleep(40 * time.Second) // now 21 s are left to wait
				}
				ctx, cancel := context.WithTimeout(t.Context(), tc.given)
				defer cancel()
				if tc.leaves > 0 {
					time.AfterFunc(tc.leaves, cancel)
				}
				began := time.Now()
				out, err := w.rls.ShouldRateLimit(ctx, request("llm", small))
				took := time.Since(began)
				if tc.canceled {
					if status.Code(err) != codes.Canceled || took != tc.leaves {
						t.Errorf("%v after %v, %v", out, took, err)
					}
					w.told(t, "reservation="+id+" status=429 details=via_upstream")
					if got := w.used(t); got != (limiter.Usage{}) {
						t.Errorf("a caller that left is charged %+v", got)
					}
					return
				}
				if err != nil || out.GetOverallCode() != tc.code || took >= tc.given {
					t.Errorf("%v after %v, %v", out.GetOverallCode(), took, err)
				}
			})
		})
	}
	t.Run("granted by another's report", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newRLSWorld(t, holdingSpec(25*time.Second))
			id := w.reserve(t, full)
			time.Sleep(40 * time.Second)
			go func() {
				time.Sleep(3 * time.Second)
				w.told(t, "reservation="+id+" status=200 details=via_upstream input_tokens=100 output_tokens=1")
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			began := time.Now()
			out, err := w.rls.ShouldRateLimit(ctx, request("llm", small))
			if took := time.Since(began); err != nil || out.GetOverallCode() != ok || took != 3*time.Second {
				t.Errorf("%v after %v, %v", out, took, err)
			}
			if out.GetDynamicMetadata() == nil {
				t.Error("no reservation")
			}
		})
	})
	t.Run("granted by time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newRLSWorld(t, holdingSpec(25*time.Second))
			w.reserve(t, full)
			time.Sleep(40 * time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			began := time.Now()
			out, err := w.rls.ShouldRateLimit(ctx, request("llm", small))
			if took := time.Since(began); err != nil || out.GetOverallCode() != ok || took < 20*time.Second || took > 22*time.Second {
				t.Errorf("%v after %v, %v", out, took, err)
			}
		})
	})
}

func TestEscaping(t *testing.T) {
	for _, s := range []string{"", "plain", `quo"te\`, "line\nbreak\x7f\x00", "caf\xe9", "日本\u2028", strings.Repeat(`"`, 300)} {
		b := escapeFrom([]byte(`{"a":"`+s), 6)
		var got struct{ A string }
		if err := json.Unmarshal(append(b, `"}`...), &got); err != nil || got.A != strings.ToValidUTF8(s, "�") {
			t.Errorf("%q became %q, %v", s, b, err)
		}
	}
}

func TestHeadersAreNotSharedBetweenCalls(t *testing.T) {
	w := newRLSWorld(t, worldSpec())
	w.call(t, "edge", "user=ann hits:10")
	var first *rlsv3.RateLimitResponse
	for i := range 50 {
		out := w.call(t, "edge", "user=ann", "user=bob")
		if i == 0 {
			first = out
			continue
		}
		if len(out.GetResponseHeadersToAdd()) != 4 || string(out.GetRawBody()) == "" {
			t.Fatalf("call %d: %v", i, out)
		}
	}
	_ = []*corev3.HeaderValue(first.GetResponseHeadersToAdd())
	w.call(t, "nowhere", "user=ann")
	if message, id := errorOf(t, first); !strings.HasPrefix(message, "per-user: limit of 10 requests per minute reached: 10 used") || id != "" {
		t.Errorf("%q %q", message, id)
	}
}

// FuzzRateLimitCall: whatever bytes come, there is an answer of the right form, or an
// error that a caller can act on; never a panic.
func FuzzRateLimitCall(f *testing.F) {
	for _, m := range []*rlsv3.RateLimitRequest{
		request("edge", "user=ann hits:5"), request("llm", ordinaryAsk), request("llm", "status=200 request_id=x output_tokens=5 org=acme model=claude-x"),
		withLimit(request("edge", "user=ann"), 5, 2), request("llm", "llm_phase=admit org=a", "org=a unit=requests hits:1"),
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	w := newRLSWorld(f, worldSpec())
	f.Fuzz(func(t *testing.T, b []byte) {
		reply, err := w.rls.handle(t.Context(), func(v any) error { return codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, v) }, nil)
		if err != nil {
			if !errors.Is(err, errWire) && status.Code(err) != codes.InvalidArgument {
				t.Fatal(err)
			}
			return
		}
		out := new(rlsv3.RateLimitResponse)
		if err := proto.Unmarshal(reply.(*encodedReply).data, out); err != nil {
			t.Fatal(err)
		}
		if n := countDescriptors(b); len(b) <= maxRequest && len(out.GetStatuses()) != n {
			t.Fatalf("%d statuses for %d descriptors", len(out.GetStatuses()), n)
		}
		if out.GetOverallCode() == over {
			errorOf(t, out)
		}
	})
}

func countDescriptors(b []byte) (n int) {
	for len(b) > 0 {
		num, typ, size := protowire.ConsumeField(b)
		if size < 0 {
			return n
		}
		if num == 2 && typ == protowire.BytesType {
			n++
		}
		b = b[size:]
	}
	return n
}
