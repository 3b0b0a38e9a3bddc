package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// wrongCall is a call that is refused with a code and a text.
type wrongCall struct {
	name   string
	method string // of QuotaService, or of AdminService where it says so
	req    proto.Message
	code   codes.Code
	text   string
}

func badReserve(change func(*weirv1.ReserveRequest)) *weirv1.ReserveRequest {
	req := call("acme", 100, 100)
	change(req)
	return req
}

func wrongCalls() []wrongCall {
	const reserve = "weir.v1.QuotaService/Reserve"
	const report = "weir.v1.QuotaService/Report"
	huge, long := uint64(1<<64-1), strings.Repeat("x", 257)
	calls := []wrongCall{
		{"amount of 2^64-1", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.Estimate.InputTokens = &huge }), codes.InvalidArgument, "estimate.input_tokens: got 18446744073709551615, expected at most 9007199254740992 (2^53)"},
		{"requests of 2^64-1", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.Estimate.Requests = &huge }), codes.InvalidArgument, "estimate.requests: got"},
		{"long value", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.Attributes["org"] = long }), codes.InvalidArgument, `attributes["org"]: got "xxx`},
		{"long key", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.Attributes[long] = "x" }), codes.InvalidArgument, "attributes: got the key"},
		{"empty key", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.Attributes[""] = "x" }), codes.InvalidArgument, "attributes: got an empty key"},
		{"33 attributes", reserve, badReserve(func(r *weirv1.ReserveRequest) {
			for i := range 33 {
				r.Attributes[fmt.Sprint("k", i)] = "v"
			}
		}), codes.InvalidArgument, "attributes: got 36 of them, expected at most 32"},
		{"long domain", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.Domain = long }), codes.InvalidArgument, "domain: got"},
		{"long request id", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.RequestId = long }), codes.InvalidArgument, "request_id: got"},
		{"long idempotency key", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.IdempotencyKey = long[:129] }), codes.InvalidArgument, "idempotency_key: got"},
		{"long ticket", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.Ticket = []byte(long) }), codes.InvalidArgument, "ticket: got 257 bytes, expected at most 256"},
		{"unknown priority", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.Priority = 9 }), codes.InvalidArgument, "priority: got 9"},
		{"negative wait", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.MaxWait = durationpb.New(-1) }), codes.InvalidArgument, "max_wait: got -1ns, expected 0 or more"},
		{"wait out of range", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.MaxWait = &durationpb.Duration{Seconds: 1 << 62} }), codes.InvalidArgument, "max_wait: got 4611686018427387904 s"},
		{"wait of two signs", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.MaxWait = &durationpb.Duration{Seconds: 1, Nanos: -1} }), codes.InvalidArgument, "max_wait: got 1 s and -1 ns"},
		{"ttl of nothing", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.Ttl = &durationpb.Duration{} }), codes.InvalidArgument, "ttl: got 0s, expected more than 0"},
		{"ttl of an hour", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.Ttl = durationpb.New(3600e9) }), codes.InvalidArgument, "ttl: got 1h0m0s, expected at most 15m0s"},
		{"long message", reserve, badReserve(func(r *weirv1.ReserveRequest) { r.IdempotencyKey = strings.Repeat("x", maxMessage) }), codes.ResourceExhausted, "expected at most 65536"},

		{"no reservation", report, &weirv1.ReportRequest{}, codes.InvalidArgument, "reservation: got nothing, expected the id that Reserve answered with"},
		{"long reservation", report, &weirv1.ReportRequest{Reservation: long}, codes.InvalidArgument, "reservation: got"},
		{"forged reservation", report, &weirv1.ReportRequest{Reservation: strings.Repeat("A", idLen-1) + "Q"}, codes.NotFound, "reservation: no reservation"},
		{"reservation of zeros", report, &weirv1.ReportRequest{Reservation: strings.Repeat("A", idLen)}, codes.NotFound, "reservation: no reservation"},
		{"no id at all", report, &weirv1.ReportRequest{Reservation: "hello"}, codes.NotFound, `no reservation "hello" is known`},
		{"status 42", report, &weirv1.ReportRequest{Reservation: "x", HttpStatus: 42}, codes.InvalidArgument, "http_status: got 42, expected 0 or a status from 100 to 599"},
		{"retry after nothing", report, &weirv1.ReportRequest{Reservation: "x", RetryAfter: &durationpb.Duration{}}, codes.InvalidArgument, "retry_after: got 0s, expected more than 0"},
		{"usage of 2^64-1", report, &weirv1.ReportRequest{Reservation: "x", Usage: &weirv1.ReportedUsage{OutputTokens: &huge}}, codes.InvalidArgument, "usage.output_tokens: got"},
		{"65 headers", report, &weirv1.ReportRequest{Reservation: "x", Headers: make65()}, codes.InvalidArgument, "headers: got 65 of them, expected at most 64"},
		{"long header", report, &weirv1.ReportRequest{Reservation: "x", Headers: []*weirv1.Header{{}, {Value: strings.Repeat("v", 1025)}}}, codes.InvalidArgument, "headers[1].value: got"},
		{"unknown provider", report, &weirv1.ReportRequest{Reservation: strings.Repeat("A", idLen-1) + "Q", Provider: "opneai"}, codes.InvalidArgument, `provider: got "opneai", expected one of anthropic, azure, bedrock, gemini, generic, groq, mistral, openai, openrouter, vertex`},
		{"long error type", report, &weirv1.ReportRequest{Reservation: "x", ErrorType: long}, codes.InvalidArgument, "error_type: got"},
		{"long tenant", "weir.v1.QuotaService/Release", &weirv1.ReleaseRequest{Reservation: "x", Tenant: long}, codes.InvalidArgument, "tenant: got"},
		{"renewal of what is unknown", "weir.v1.QuotaService/Renew", &weirv1.RenewRequest{Reservation: "x"}, codes.NotFound, "reservation: no reservation"},

		{"page of 1001", "weir.v1.AdminService/ListQuotas", &weirv1.ListQuotasRequest{PageSize: 1001}, codes.InvalidArgument, "page_size: got 1001, expected at most 1000"},
		{"a token of nobody's", "weir.v1.AdminService/ListRules", &weirv1.ListRulesRequest{PageToken: "bm9uZTox"}, codes.InvalidArgument, "page_token: got"},
		{"no token", "weir.v1.AdminService/ListQuotas", &weirv1.ListQuotasRequest{PageToken: "!"}, codes.InvalidArgument, "page_token: got"},
		{"reset of nothing", "weir.v1.AdminService/ResetLimit", &weirv1.ResetLimitRequest{}, codes.InvalidArgument, "owner: got nothing"},
		{"reset of nobody", "weir.v1.AdminService/ResetLimit", &weirv1.ResetLimitRequest{Owner: "nobody"}, codes.NotFound, `owner: no quota or rule is called "nobody"`},
		{"reset without whose", "weir.v1.AdminService/ResetLimit", &weirv1.ResetLimitRequest{Owner: "per-user"}, codes.InvalidArgument, `attributes["user"]: got nothing`},
		{"reset of nobody's quota", "weir.v1.AdminService/ResetLimit", &weirv1.ResetLimitRequest{Owner: "opus", Attributes: map[string]string{"model": "claude-opus"}}, codes.InvalidArgument, `attributes["org"]: got nothing`},
		{"gate of nothing", "weir.v1.AdminService/ClearGate", &weirv1.ClearGateRequest{}, codes.InvalidArgument, "owner: got nothing"},
		{"gate of a rule", "weir.v1.AdminService/ClearGate", &weirv1.ClearGateRequest{Owner: "per-user"}, codes.NotFound, `owner: no quota is called "per-user"`},
		{"gate of nobody's quota", "weir.v1.AdminService/ClearGate", &weirv1.ClearGateRequest{Owner: "opus"}, codes.InvalidArgument, `attributes["org"]: got nothing`},
		{"gate of a meter without", "weir.v1.AdminService/ClearGate", &weirv1.ClearGateRequest{Owner: "opus", Meter: "tokens"}, codes.InvalidArgument, `meter: got "tokens"`},
		{"reset of a meter that is none", "weir.v1.AdminService/ResetLimit", &weirv1.ResetLimitRequest{Owner: "opus", Meter: "gallons"}, codes.InvalidArgument, `meter: got "gallons"`},
		{"explain both ways", "weir.v1.AdminService/Explain", &weirv1.ExplainRequest{Attributes: map[string]string{"a": "b"}, Descriptor_: []*weirv1.DescriptorEntry{{}}}, codes.InvalidArgument, "descriptor: got attributes too"},
		{"explain hits of 2^64-1", "weir.v1.AdminService/Explain", &weirv1.ExplainRequest{Hits: &huge, Descriptor_: []*weirv1.DescriptorEntry{{}}}, codes.InvalidArgument, "hits: got"},
	}
	return calls
}

func make65() []*weirv1.Header {
	headers := make([]*weirv1.Header, 65)
	for i := range headers {
		headers[i] = &weirv1.Header{Name: "n", Value: "v"}
	}
	return headers
}

func TestWrongCallsAreRefusedWithACodeAndAText(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		for _, c := range wrongCalls() {
			err := w.conn.Invoke(t.Context(), "/"+c.method, c.req, &weirv1.ReserveResponse{})
			if status.Code(err) != c.code || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: got %v, want %v with %q", c.name, err, c.code, c.text)
			}
		}
		for _, meter := range []string{"requests", "input_tokens", "output_tokens"} {
			if used := w.used("acme", meter); used != 0 {
				t.Errorf("%d %s are used, want 0: nothing of this was admitted", used, meter)
			}
		}
	})
}

func TestWrongCallsAreRefusedAsJSONToo(t *testing.T) {
	names := map[codes.Code]string{codes.InvalidArgument: "invalid_argument", codes.NotFound: "not_found", codes.ResourceExhausted: "resource_exhausted"}
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		for _, c := range wrongCalls() {
			body, err := protojson.Marshal(c.req)
			if err != nil {
				continue // it cannot be said in JSON
			}
			code, text, _ := w.fetch("POST", "/"+c.method, string(body), "Content-Type", "application/json")
			if c.code == codes.ResourceExhausted {
				if code != 413 {
					t.Errorf("%s: got %d %s, want 413", c.name, code, text)
				}
				continue
			}
			var got struct{ Code, Message string }
			if err := json.Unmarshal([]byte(text), &got); err != nil {
				t.Errorf("%s: %d %q: %v", c.name, code, text, err)
			}
			if got.Code != names[c.code] || !strings.Contains(got.Message, c.text) {
				t.Errorf("%s: got %d %s, want %s with %q", c.name, code, text, names[c.code], c.text)
			}
		}
	})
}

func TestWrongJSONIsRefused(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		for body, want := range map[string]string{
			``:                                    "invalid_argument",
			`{`:                                   "invalid_argument",
			`[]`:                                  "invalid_argument",
			`{"estimate":{"inputTokens":-1}}`:     "invalid_argument",
			`{"estimate":{"inputTokens":"NaN"}}`:  "invalid_argument",
			`{"estimate":{"inputTokens":1.5}}`:    "invalid_argument",
			`{"estimate":{"inputTokens":1e400}}`:  "invalid_argument",
			`{"attributes":{"org":7}}`:            "invalid_argument",
			`{"maxWait":"soon"}`:                  "invalid_argument",
			"{\"attributes\":{\"org\":\"\xff\"}}": "invalid_argument",
		} {
			_, text, _ := w.fetch("POST", "/weir.v1.QuotaService/Reserve", body, "Content-Type", "application/json")
			if !strings.Contains(text, want) {
				t.Errorf("%q: got %s, want %s", body, text, want)
			}
		}
		if used := w.used("", "requests"); used != 0 {
			t.Errorf("%d requests are used, want 0", used)
		}
	})
}
