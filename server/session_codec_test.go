package server

import (
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// asProto says what was read as the message that it stands for.
func (c *sessionCall) asProto() *weirv1.SessionCall {
	p := &weirv1.SessionCall{Sequence: c.sequence}
	switch c.kind {
	case callReserve:
		p.Call = &weirv1.SessionCall_Reserve{Reserve: c.reserve.asProto()}
	case callReport:
		p.Call = &weirv1.SessionCall_Report{Report: c.report.asProto()}
	case callRenew:
		p.Call = &weirv1.SessionCall_Renew{Renew: &weirv1.RenewRequest{
			Reservation: c.renew.reservation, Tenant: c.renew.tenant, Ttl: c.renew.ttl.asProto(),
		}}
	case callRelease:
		p.Call = &weirv1.SessionCall_Release{Release: &weirv1.ReleaseRequest{Reservation: c.release.reservation, Tenant: c.release.tenant}}
	case noCall:
	}
	return p
}

func (c *reserveCall) asProto() *weirv1.ReserveRequest {
	p := &weirv1.ReserveRequest{
		MaxWait: c.maxWait.asProto(), Priority: weirv1.Priority(c.priority), IdempotencyKey: c.idempotencyKey,
		Ttl: c.ttl.asProto(), Ticket: c.ticket, Retry: c.retry, Domain: c.domain, RequestId: c.requestID,
		UsefulFor: c.usefulFor.asProto(),
	}
	for _, a := range c.attributes {
		if p.Attributes == nil {
			p.Attributes = map[string]string{}
		}
		p.Attributes[a.Key] = a.Value
	}
	if e := c.estimate; e != (estimateFields{}) {
		p.Estimate = &weirv1.Estimate{
			InputTokens: e.input.asProto(), BodyBytes: e.body.asProto(), MaxTokens: e.max.asProto(),
			CachedInputTokens: e.cached.asProto(), Requests: e.requests.asProto(),
		}
	}
	return p
}

func (c *reportCall) asProto() *weirv1.ReportRequest {
	p := &weirv1.ReportRequest{
		Reservation: c.reservation, Tenant: c.tenant, HttpStatus: c.status, ErrorType: c.errorType, ErrorMessage: c.errorMessage,
		RetryAfter: c.retryAfter.asProto(), Progress: c.progress, Aborted: c.aborted, Provider: c.provider,
	}
	for _, h := range c.headers {
		p.Headers = append(p.Headers, &weirv1.Header{Name: h.name, Value: h.value})
	}
	if c.input.set || c.creation.set || c.read.set || c.output.set {
		p.Usage = &weirv1.ReportedUsage{
			InputTokens: c.input.asProto(), CacheCreationInputTokens: c.creation.asProto(),
			CacheReadInputTokens: c.read.asProto(), OutputTokens: c.output.asProto(),
		}
	}
	if c.sentAt.set {
		p.SentAt = &timestamppb.Timestamp{Seconds: c.sentAt.seconds, Nanos: c.sentAt.nanos}
	}
	return p
}

func (s span) asProto() *durationpb.Duration {
	if !s.set {
		return nil
	}
	return &durationpb.Duration{Seconds: s.seconds, Nanos: s.nanos}
}

func (o optional) asProto() *uint64 {
	if !o.set {
		return nil
	}
	return &o.value
}

// plain forgets what reading by hand does not keep: unknown fields, and messages that
// say nothing.
func plain(m *weirv1.SessionRequest) {
	m.ProtoReflect().SetUnknown(nil)
	for _, c := range m.GetCalls() {
		if r := c.GetReserve(); r != nil && r.Estimate != nil && proto.Size(withoutUnknown(r.Estimate)) == 0 {
			r.Estimate = nil
		}
		if r := c.GetReport(); r != nil && r.Usage != nil && proto.Size(withoutUnknown(r.Usage)) == 0 {
			r.Usage = nil
		}
	}
}

func withoutUnknown[M proto.Message](m M) M {
	m.ProtoReflect().SetUnknown(nil)
	return m
}

// readAlike holds the reading of b by hand against protobuf's.
func readAlike(t *testing.T, r *sessionRequest, b []byte) {
	t.Helper()
	var want weirv1.SessionRequest
	wantErr := proto.Unmarshal(b, &want)
	if err := r.parseRetained(mem.SliceBuffer(append([]byte(nil), b...))); err != nil {
		t.Fatal(err)
	}
	err := r.err
	if beyondBounds(b, &want) {
		if wantErr == nil && len(b) <= maxMessage && err == nil && len(want.GetCalls()) > maxCalls {
			t.Fatalf("%d questions are read, at most %d may be", len(want.GetCalls()), maxCalls)
		}
		return
	}
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("error %v, protobuf says %v\n%x", err, wantErr, b)
	}
	if err != nil {
		return
	}
	plain(&want)
	got := &weirv1.SessionRequest{}
	for i := range r.calls {
		got.Calls = append(got.Calls, r.calls[i].asProto())
	}
	if diff := cmp.Diff(&want, got, protocmp.Transform(), protocmp.IgnoreUnknown()); diff != "" {
		t.Fatalf("read otherwise than protobuf does (-protobuf +by hand):\n%s\n%x", diff, b)
	}
}

// beyondBounds says whether a message is one of those that are read in part, because
// they are refused anyway.
func beyondBounds(b []byte, m *weirv1.SessionRequest) bool {
	if len(b) > maxMessage || len(m.GetCalls()) > maxCalls {
		return true
	}
	for _, c := range m.GetCalls() {
		if len(c.GetReserve().GetAttributes()) > maxAttributes || len(c.GetReport().GetHeaders()) > maxHeaders {
			return true
		}
	}
	return false
}

func exampleCalls() []*weirv1.SessionCall {
	n, zero := uint64(300), uint64(0)
	return []*weirv1.SessionCall{
		{},
		{Sequence: 1<<64 - 1},
		{Sequence: 1, Call: &weirv1.SessionCall_Reserve{Reserve: &weirv1.ReserveRequest{}}},
		{Sequence: 2, Call: &weirv1.SessionCall_Reserve{Reserve: &weirv1.ReserveRequest{
			Attributes: map[string]string{"org": "acme", "tenant": "chat", "model": "claude-opus", "": "", "ünï": "cödé"},
			Estimate:   &weirv1.Estimate{InputTokens: &n, BodyBytes: &n, MaxTokens: &n, CachedInputTokens: &zero, Requests: &n},
			MaxWait:    durationpb.New(1500 * time.Millisecond), Priority: weirv1.Priority_PRIORITY_BATCH, IdempotencyKey: "k", Ttl: durationpb.New(-time.Nanosecond),
			Ticket: []byte{0, 255}, Retry: true, Domain: "edge", RequestId: "r",
		}}},
		{Sequence: 3, Call: &weirv1.SessionCall_Report{Report: &weirv1.ReportRequest{
			Reservation: "x", Tenant: "t", HttpStatus: 429, ErrorType: "rate_limit_error", ErrorMessage: "slow down", RetryAfter: durationpb.New(time.Minute),
			Headers:  []*weirv1.Header{{Name: "retry-after", Value: "60"}, {}},
			Usage:    &weirv1.ReportedUsage{InputTokens: &n, CacheCreationInputTokens: &zero, CacheReadInputTokens: &n, OutputTokens: &n},
			Progress: true, Aborted: true, SentAt: timestamppb.New(time.Unix(1, 2)), Provider: "openai",
		}}},
		{Sequence: 4, Call: &weirv1.SessionCall_Renew{Renew: &weirv1.RenewRequest{Reservation: "x", Tenant: "t", Ttl: durationpb.New(time.Hour)}}},
		{Sequence: 5, Call: &weirv1.SessionCall_Release{Release: &weirv1.ReleaseRequest{Reservation: "x", Tenant: "t"}}},
	}
}

func oddSessionRequests(t testing.TB) map[string][]byte {
	t.Helper()
	whole, err := proto.Marshal(&weirv1.SessionRequest{Calls: exampleCalls()})
	if err != nil {
		t.Fatal(err)
	}
	message := func(num protowire.Number, b ...byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), b)
	}
	join := func(parts ...[]byte) (out []byte) {
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	reserve := func(b ...byte) []byte { return message(1, message(2, b...)...) }
	return map[string][]byte{
		"empty":                      {},
		"whole":                      whole,
		"cut":                        whole[:len(whole)-1],
		"a oneof sent twice":         message(1, join(message(2, message(5, 'a')...), message(2, message(9, 'b')...))...),
		"a oneof that changes":       message(1, join(message(2, message(5, 'a')...), message(5, message(1, 'b')...))...),
		"a oneof that changes back":  message(1, join(message(2, message(5, 'a')...), message(5, message(1, 'b')...), message(2))...),
		"a key sent twice":           reserve(join(message(1, join(message(1, 'k'), message(2, '1'))...), message(1, join(message(1, 'k'), message(2, '2'))...))...),
		"an attribute without value": reserve(message(1, message(1, 'k')...)...),
		"an empty attribute":         reserve(message(1)...),
		"text that is not UTF-8":     reserve(message(9, 0xff)...),
		"a number as text":           reserve(message(4, 1)...),
		"text as a number":           reserve(9<<3, 1),
		"a group":                    join([]byte{15<<3 | 3}, []byte{1 << 3, 1}, []byte{15<<3 | 4}),
		"a group that does not end":  {15<<3 | 3},
		"the end of no group":        {15<<3 | 4},
		"field number 0":             {0, 0},
		"a field number too large":   {0xf8, 0xff, 0xff, 0xff, 0xff, 0x0f, 0},
		"a varint of 11 bytes":       message(1, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
		"fixed widths, unknown":      {9 << 3 & 0x7f, 1, 10<<3 | 5, 1, 2, 3, 4, 11<<3 | 1, 1, 2, 3, 4, 5, 6, 7, 8},
		"wire type 7":                {1<<3 | 7},
		"a bool of 2":                reserve(8<<3, 2),
		"an enum beyond 32 bits":     reserve(4<<3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
	}
}

func TestSessionRequestsAreReadAsProtobufReadsThem(t *testing.T) {
	odd := oddSessionRequests(t)
	var r sessionRequest
	for range 2 { // the second time with what the first left behind
		for name := range maps.Keys(odd) {
			t.Run(name, func(t *testing.T) { readAlike(t, &r, odd[name]) })
		}
	}
}

func FuzzSessionRequest(f *testing.F) {
	for _, b := range oddSessionRequests(f) {
		f.Add(b)
	}
	var r sessionRequest
	f.Fuzz(func(t *testing.T, b []byte) { readAlike(t, &r, b) })
}

func TestSessionAnswersAreWrittenAsProtobufReadsThem(t *testing.T) {
	now := limiter.InstantOf(time.Date(2026, 11, 23, 12, 0, 0, 5, time.UTC))
	limit := &limiter.Limit{Owner: "opus", Meter: limiter.InputTokens, Window: 90 * time.Second}
	wide := limiter.Check{
		Limit: limit, Amount: limiter.MaxAmount, Requested: 3, Used: limiter.MaxAmount, Remaining: 1,
		RetryAt: now.Add(time.Second), ResetAt: now.Add(90*time.Second + 1), Over: true, Overflow: true,
	}
	small := limiter.Check{Limit: &limiter.Limit{Meter: limiter.Requests, Window: time.Millisecond}, ResetAt: now.Add(-time.Hour)}
	a := &active{Loaded: &config.Loaded{Digest: "0123456789ab"}}
	many := make([]limiter.Check, 300)
	for i := range many {
		many[i] = wide
	}
	for name, d := range map[string]limiter.Decision{
		"allowed": {
			Verdict: limiter.Allowed, RefusedBy: -1, Checks: []limiter.Check{wide, small}, Opened: true, ID: limiter.ID{1, 2, 255},
			ExpiresAt: now.Add(time.Minute), Reserved: limiter.Usage{Requests: 1, InputTokens: 300},
		},
		"nothing matches":         {Verdict: limiter.Allowed, RefusedBy: -1},
		"denied":                  {Verdict: limiter.Denied, RefusedBy: 1, Checks: []limiter.Check{small, wide}, RetryAt: now.Add(1500 * time.Millisecond)},
		"denied until now":        {Verdict: limiter.Denied, RefusedBy: 0, Checks: []limiter.Check{wide}, RetryAt: now},
		"infeasible":              {Verdict: limiter.Infeasible, RefusedBy: 0, Checks: []limiter.Check{wide}, RetryAt: limiter.Never},
		"more than 16 KiB":        {Verdict: limiter.Denied, RefusedBy: 0, Checks: many, RetryAt: now},
		"before 1970":             {Verdict: limiter.Allowed, RefusedBy: -1, Opened: true, ExpiresAt: -1},
		"allowed, a little later": {Verdict: limiter.Allowed, RefusedBy: -1, Opened: true, ExpiresAt: now, Delay: 150 * time.Millisecond},
		"allowed, not held":       {Verdict: limiter.Allowed, RefusedBy: -1, Checks: []limiter.Check{small}},
	} {
		t.Run(name, func(t *testing.T) {
			var ticket []byte
			if d.Verdict == limiter.Denied {
				ticket = []byte("sixteen bytes, 0")
			}
			var r sessionResponse
			r.addError(1, wrong("f", "x", "y"))
			r.addReserve(1<<40, now, a, &d, ticket)
			r.addReport(3, limiter.Settlement{Ending: limiter.Settled, Applied: true, Charged: limiter.Usage{OutputTokens: limiter.MaxAmount}})
			r.addRenew(4, limiter.Settlement{ExpiresAt: now})
			r.addRelease(5, limiter.Settlement{Ending: limiter.Released})
			var got weirv1.SessionResponse
			if err := proto.Unmarshal(r.appendWire(nil), &got); err != nil {
				t.Fatal(err)
			}
			want := &weirv1.SessionResponse{Answers: []*weirv1.SessionAnswer{
				{Sequence: 1, Answer: &weirv1.SessionAnswer_Error{Error: &weirv1.SessionError{Code: 3, Message: "f: got x, expected y"}}},
				{Sequence: 1 << 40, Answer: &weirv1.SessionAnswer_Reserve{Reserve: reserveAnswer(now, a, &d, ticket)}},
				{Sequence: 3, Answer: &weirv1.SessionAnswer_Report{Report: &weirv1.ReportResponse{
					Ending: weirv1.Ending_ENDING_SETTLED, Applied: true, Charged: &weirv1.Usage{OutputTokens: limiter.MaxAmount},
				}}},
				{Sequence: 4, Answer: &weirv1.SessionAnswer_Renew{Renew: &weirv1.RenewResponse{ExpiresAt: timestampOf(now)}}},
				{Sequence: 5, Answer: &weirv1.SessionAnswer_Release{Release: &weirv1.ReleaseResponse{Ending: weirv1.Ending_ENDING_RELEASED}}},
			}}
			if diff := cmp.Diff(want, &got, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
