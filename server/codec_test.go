package server

import (
	"bytes"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-project/weir/limiter"
)

// asProto says what was read as the message that it stands for.
func (r *rlsRequest) asProto() *rlsv3.RateLimitRequest {
	m := &rlsv3.RateLimitRequest{Domain: r.domain, HitsAddend: r.hits}
	for i := range r.descriptors {
		d := &r.descriptors[i]
		p := &ratelimitv3.RateLimitDescriptor{IsNegativeHits: d.negative}
		for _, e := range r.of(d) {
			p.Entries = append(p.Entries, &ratelimitv3.RateLimitDescriptor_Entry{Key: e.Key, Value: e.Value})
		}
		if d.hasHits {
			p.HitsAddend = wrapperspb.UInt64(d.hits)
		}
		if d.limit.set {
			p.Limit = &ratelimitv3.RateLimitDescriptor_RateLimitOverride{
				RequestsPerUnit: d.limit.amount, Unit: typev3.RateLimitUnit(d.limit.unit),
			}
			if d.limit.hasMultiplier {
				p.Limit.UnitMultiplier = wrapperspb.UInt32(d.limit.multiplier)
			}
		}
		m.Descriptors = append(m.Descriptors, p)
	}
	return m
}

func exampleRequests() []*rlsv3.RateLimitRequest {
	entry := func(k, v string) *ratelimitv3.RateLimitDescriptor_Entry {
		return &ratelimitv3.RateLimitDescriptor_Entry{Key: k, Value: v}
	}
	return []*rlsv3.RateLimitRequest{
		{},
		{Domain: "edge"},
		{Domain: "edge", HitsAddend: 1<<32 - 1, Descriptors: []*ratelimitv3.RateLimitDescriptor{{}}},
		{Domain: "llm", Descriptors: []*ratelimitv3.RateLimitDescriptor{
			{Entries: []*ratelimitv3.RateLimitDescriptor_Entry{entry("org", "acme"), entry("model", "claude-lab-1"), entry("", ""), entry("max_tokens", "2048")}},
			{HitsAddend: wrapperspb.UInt64(0)},
			{HitsAddend: wrapperspb.UInt64(1<<64 - 1), IsNegativeHits: true},
			{Entries: []*ratelimitv3.RateLimitDescriptor_Entry{entry("long", strings.Repeat("x", 300))}},
			{Limit: &ratelimitv3.RateLimitDescriptor_RateLimitOverride{}},
			{Limit: &ratelimitv3.RateLimitDescriptor_RateLimitOverride{RequestsPerUnit: 1<<32 - 1, Unit: typev3.RateLimitUnit_YEAR, UnitMultiplier: wrapperspb.UInt32(10)}},
			{Limit: &ratelimitv3.RateLimitDescriptor_RateLimitOverride{Unit: -1, UnitMultiplier: wrapperspb.UInt32(0)}},
		}},
	}
}

// oddRequests are encodings that a friendly peer does not write.
func oddRequests(t testing.TB) map[string][]byte {
	wire := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	descriptor, err := proto.Marshal(exampleRequests()[3].Descriptors[0])
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"twice the domain":           wire([]byte{0x0a, 1, 'a', 0x0a, 1, 'b'}),
		"unknown field":              wire([]byte{0x7a, 2, 1, 2, 0x0a, 1, 'a'}),
		"unknown group":              wire([]byte{0x7b, 0x08, 0x01, 0x7c, 0x0a, 1, 'a'}),
		"group without end":          {0x7b, 0x08, 0x01},
		"end without group":          {0x7c},
		"other group's end":          {0x7b, 0x84, 0x01},
		"domain as number":           {0x08, 1},
		"hits as fixed32":            {0x1d, 1, 0, 0, 0},
		"hits over 32 bits":          {0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"number too long":            {0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02},
		"number cut off":             {0x18, 0xff},
		"length past the end":        {0x12, 5, 0x0a},
		"length in two bytes":        append(append([]byte{0x12, 0x80 | byte(len(descriptor)), 0x00}, descriptor...), 0x18, 1),
		"field number zero":          {0x02, 0},
		"reserved type":              {0x0e},
		"tag cut off":                {0x8a},
		"tag over 29 bits":           wire(protowire.AppendVarint(nil, uint64(protowire.MaxValidNumber+1)<<3), []byte{0}),
		"tag in two bytes":           {0x8a, 0x00, 1, 'a'},
		"invalid utf-8 in domain":    {0x0a, 1, 0xff},
		"limit in two parts":         {0x12, 8, 0x12, 2, 0x08, 5, 0x12, 2, 0x10, 2},
		"hits in two parts":          {0x12, 6, 0x1a, 2, 0x08, 5, 0x1a, 0},
		"multiplier in two parts":    {0x12, 10, 0x12, 4, 0x1a, 2, 0x08, 9, 0x12, 2, 0x1a, 0},
		"broken entry":               {0x12, 3, 0x0a, 1, 0x0a},
		"broken hits":                {0x12, 3, 0x1a, 1, 0x08},
		"broken limit":               {0x12, 3, 0x12, 1, 0x08},
		"descriptor in two, not one": wire([]byte{0x12, 2, 0x20, 1, 0x12, 0}),
	}
}

// sameAsProtobuf reads b both ways and reports a difference.
func sameAsProtobuf(t *testing.T, b []byte) {
	t.Helper()
	if len(b) > maxRequest {
		return // not read at all
	}
	want := new(rlsv3.RateLimitRequest)
	wantErr := proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, want)
	var r rlsRequest
	err := r.parseRetained(mem.SliceBuffer(b))
	if refused := err != nil || r.notText; refused != (wantErr != nil) {
		t.Fatalf("%x: refused %v (%v, not text %v), protobuf says %v", b, refused, err, r.notText, wantErr)
	}
	if wantErr != nil {
		return
	}
	if diff := cmp.Diff(want, r.asProto(), protocmp.Transform()); diff != "" {
		t.Fatalf("%x (-protobuf +weir):\n%s", b, diff)
	}
}

func TestRequestsAreReadAsProtobufReadsThem(t *testing.T) {
	for _, m := range exampleRequests() {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		sameAsProtobuf(t, b)
	}
	for name, b := range oddRequests(t) {
		t.Run(name, func(t *testing.T) { sameAsProtobuf(t, b) })
	}
}

func TestARequestIsReadWholeAgainAndAgain(t *testing.T) {
	var r rlsRequest
	for range 3 {
		for _, m := range exampleRequests() {
			b, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if err := (codec{}).Unmarshal(split(b), &r); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m, r.asProto(), protocmp.Transform()); diff != "" {
				t.Fatalf("(-sent +read):\n%s", diff)
			}
		}
	}
}

// split returns b as the transport does that received it in two frames.
func split(b []byte) mem.BufferSlice {
	h := len(b) / 2
	return mem.BufferSlice{mem.SliceBuffer(b[:h]), mem.SliceBuffer(b[h:])}
}

func exampleResponses() map[string]struct {
	sent rlsResponse
	want *rlsv3.RateLimitResponse
} {
	perMinute := &limiter.Limit{Owner: "opus", Meter: limiter.InputTokens, Amount: 80000, Window: time.Minute}
	named := &limiter.Limit{Owner: strings.Repeat("a rule ", 30), Name: strings.Repeat("long ", 40)}
	id := limiter.ID{1, 2, 3, 0xff}
	return map[string]struct {
		sent rlsResponse
		want *rlsv3.RateLimitResponse
	}{
		"ok": {rlsResponse{code: codeOK}, &rlsv3.RateLimitResponse{OverallCode: rlsv3.RateLimitResponse_OK}},
		"reservation": {
			rlsResponse{code: codeOK, statuses: []rlsStatus{{code: codeOK}}, reservation: id, reserved: true},
			&rlsv3.RateLimitResponse{
				OverallCode: rlsv3.RateLimitResponse_OK,
				Statuses:    []*rlsv3.RateLimitResponse_DescriptorStatus{{Code: rlsv3.RateLimitResponse_OK}},
				DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{
					"reservation": structpb.NewStringValue(encodeID(id)),
				}},
			},
		},
		"denial": {
			rlsResponse{
				code: codeOverLimit,
				statuses: []rlsStatus{
					{code: codeOverLimit, limit: perMinute, perUnit: 80000, unit: 2, multiplier: 1, reset: 12400 * time.Millisecond},
					{code: codeOK, limit: named, perUnit: 1<<32 - 1, unit: 1, multiplier: 10, remaining: 1<<32 - 1},
				},
				headers: []rlsHeader{{"retry-after", []byte("13")}, {"x-empty", nil}},
				body:    bytes.Repeat([]byte("{}"), 9000),
			},
			&rlsv3.RateLimitResponse{
				OverallCode: rlsv3.RateLimitResponse_OVER_LIMIT,
				Statuses: []*rlsv3.RateLimitResponse_DescriptorStatus{
					{
						Code: rlsv3.RateLimitResponse_OVER_LIMIT,
						CurrentLimit: &rlsv3.RateLimitResponse_RateLimit{
							Name: "opus/input_tokens", RequestsPerUnit: 80000, Unit: rlsv3.RateLimitResponse_RateLimit_MINUTE,
						},
						DurationUntilReset: durationpb.New(12400 * time.Millisecond),
					},
					{
						Code: rlsv3.RateLimitResponse_OK,
						CurrentLimit: &rlsv3.RateLimitResponse_RateLimit{
							Name: named.Name, RequestsPerUnit: 1<<32 - 1, Unit: rlsv3.RateLimitResponse_RateLimit_SECOND,
							UnitMultiplier: wrapperspb.UInt32(10),
						},
						LimitRemaining: 1<<32 - 1, DurationUntilReset: durationpb.New(0),
					},
				},
				ResponseHeadersToAdd: []*corev3.HeaderValue{{Key: "retry-after", Value: "13"}, {Key: "x-empty"}},
				RawBody:              bytes.Repeat([]byte("{}"), 9000),
			},
		},
	}
}

func TestResponsesAreWrittenAsProtobufReadsThem(t *testing.T) {
	for name, tc := range exampleResponses() {
		t.Run(name, func(t *testing.T) {
			b := tc.sent.append(nil)
			got := new(rlsv3.RateLimitResponse)
			if err := proto.Unmarshal(b, got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			sent, err := codec{}.Marshal(newEncodedReply(b))
			if err != nil {
				t.Fatal(err)
			}
			if got := sent.Materialize(); !bytes.Equal(got, b) {
				t.Errorf("the codec sends %x, want %x", got, b)
			}
		})
	}
}

// numberMessage is a message with an encoding of its own, as other parts of the server
// have them.
type numberMessage struct{ data []byte }

func (m *numberMessage) appendWire(b []byte) []byte { return append(b, m.data...) }

func (m *numberMessage) parseWire(b []byte) error {
	if len(b) == 0 {
		return errWire
	}
	m.data = bytes.Clone(b)
	return nil
}

func TestTheCodecServesOtherMessages(t *testing.T) {
	c := codec{fallback: encoding.GetCodecV2(grpcproto.Name)}
	if c.Name() != "proto" {
		t.Errorf("Name = %q", c.Name())
	}
	for _, size := range []int{1, 100, 1000, 5000, 100000} {
		sent := &numberMessage{data: bytes.Repeat([]byte{7}, size)}
		data, err := c.Marshal(sent)
		if err != nil {
			t.Fatal(err)
		}
		got := new(numberMessage)
		if err := c.Unmarshal(data, got); err != nil {
			t.Fatal(err)
		}
		data.Free()
		if !bytes.Equal(sent.data, got.data) {
			t.Errorf("%d bytes became %d", size, len(got.data))
		}
	}
	if err := c.Unmarshal(nil, new(numberMessage)); err == nil {
		t.Error("a message's own error was swallowed")
	}

	want := structpb.NewStringValue("plain protobuf")
	data, err := c.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := new(structpb.Value)
	if err := c.Unmarshal(data, got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-sent +read):\n%s", diff)
	}
}

// FuzzRateLimitRequest: the codec takes and refuses what protobuf does, and reads the
// same from it.
func FuzzRateLimitRequest(f *testing.F) {
	for _, m := range exampleRequests() {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, b := range oddRequests(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { sameAsProtobuf(t, b) })
}

// FuzzRateLimitResponse: whatever is answered, protobuf reads it back.
func FuzzRateLimitResponse(f *testing.F) {
	f.Add("opus", "", uint32(5), int64(12400), []byte("{}"), "13", 3)
	f.Add(strings.Repeat("x", 127), strings.Repeat("y", 16384), uint32(0), int64(0), []byte{}, "", 0)
	f.Fuzz(func(t *testing.T, owner, name string, n uint32, millis int64, body []byte, header string, statuses int) {
		l := &limiter.Limit{Owner: strings.ToValidUTF8(owner, "?"), Name: strings.ToValidUTF8(name, "?")}
		reset := time.Duration(max(0, millis%(1<<40))) * time.Millisecond
		header = strings.ToValidUTF8(header, "?")
		r := rlsResponse{code: codeOverLimit, body: body, headers: []rlsHeader{{"h", []byte(header)}}}
		for range statuses & 31 {
			r.statuses = append(r.statuses, rlsStatus{code: codeOverLimit, limit: l, perUnit: n, multiplier: n, remaining: n, reset: reset})
		}
		got := new(rlsv3.RateLimitResponse)
		if err := proto.Unmarshal(r.append(nil), got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.GetRawBody(), body) || got.GetResponseHeadersToAdd()[0].GetValue() != header || len(got.GetStatuses()) != statuses&31 {
			t.Fatalf("read back as %v", got)
		}
		for _, s := range got.GetStatuses() {
			if s.GetDurationUntilReset().AsDuration() != reset || s.GetLimitRemaining() != n || s.GetCurrentLimit().GetName() != string(appendLimitName(nil, l)) {
				t.Fatalf("status read back as %v", s)
			}
		}
	})
}

// buffersOf returns b as the transport does that received it in one frame.
func buffersOf(b []byte) mem.BufferSlice { return mem.BufferSlice{mem.SliceBuffer(b)} }

// A request of a great many parts leaves no room behind that nobody needs again.
func TestRoomIsNotKeptForGiants(t *testing.T) {
	var r rlsRequest
	for name, b := range map[string][]byte{
		"descriptors": bytes.Repeat([]byte{0x12, 0}, maxRequest/2),
		"entries":     append([]byte{0x12, 0x80, 0x80, 0x02}, bytes.Repeat([]byte{0x0a, 0}, 16<<10)...),
		"bytes":       bytes.Repeat([]byte{0x12, 0}, 1<<20),
	} {
		if err := r.parseRetained(mem.SliceBuffer(b)); err != nil {
			t.Fatal(err)
		}
		if name == "bytes" && len(r.descriptors) > 0 {
			t.Errorf("%d descriptors of a request that is too long", len(r.descriptors))
		}
		r.release()
		if cap(r.entries) > keptEntries || cap(r.descriptors) > keptDescriptors {
			t.Errorf("%s: room for %d entries and %d descriptors is kept", name, cap(r.entries), cap(r.descriptors))
		}
	}
}
