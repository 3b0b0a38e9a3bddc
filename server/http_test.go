package server

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

const (
	asJSON = "application/json"
	asked  = `{"attributes":{"org":"acme","model":"claude-opus","tenant":"chat"},"estimate":{"inputTokens":"600","maxTokens":100}}`
)

func TestCallsAsJSON(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		post := func(method, body string, answer any) {
			t.Helper()
			code, text, _ := w.fetch("POST", "/weir.v1."+method, body, "Content-Type", asJSON)
			if code != 200 {
				t.Fatalf("%s: %d %s", method, code, text)
			}
			if err := json.Unmarshal([]byte(text), answer); err != nil {
				t.Fatalf("%s: %v in %s", method, err, text)
			}
		}
		var reserved struct{ Verdict, Reservation, ExpiresAt, Plan string }
		post("QuotaService/Reserve", asked, &reserved)
		if reserved.Verdict != "VERDICT_ALLOW" || reserved.Plan != "aaaaaaaaaaaa" {
			t.Errorf("reserve: %+v", reserved)
		}
		var denied struct {
			Verdict, RetryAfter string
			RefusedBy           struct{ Owner, Meter, Used string }
		}
		post("QuotaService/Reserve", asked, &denied)
		if denied.Verdict != "VERDICT_DENY" || denied.RefusedBy.Meter != "input_tokens" || denied.RefusedBy.Used != "600" || !strings.HasSuffix(denied.RetryAfter, "s") {
			t.Errorf("second reserve: %+v", denied)
		}
		var renewed struct{ ExpiresAt string }
		post("QuotaService/Renew", `{"reservation":"`+reserved.Reservation+`","ttl":"300s"}`, &renewed)
		if at, err := time.Parse(time.RFC3339Nano, renewed.ExpiresAt); err != nil || time.Until(at) != 300*time.Second {
			t.Errorf("renew: %+v, %v", renewed, err)
		}
		var reported struct {
			Ending  string
			Applied bool
			Charged struct{ InputTokens string }
		}
		post("QuotaService/Report", `{"reservation":"`+reserved.Reservation+`","httpStatus":200,"usage":{"inputTokens":"10","outputTokens":"20"}}`, &reported)
		if reported.Ending != "ENDING_SETTLED" || !reported.Applied || reported.Charged.InputTokens != "10" {
			t.Errorf("report: %+v", reported)
		}
		var released struct{ Ending string }
		post("QuotaService/Release", `{"reservation":"`+reserved.Reservation+`"}`, &released)
		if released.Ending != "ENDING_SETTLED" {
			t.Errorf("release: %+v", released)
		}
		if code, text, _ := w.fetch("POST", "/weir.v1.QuotaService/Session", "{}", "Content-Type", asJSON); code < 400 {
			t.Errorf("a session over HTTP/1.1: %d %s", code, text)
		}
		if code, _, _ := w.fetch("POST", "/weir.v1.QuotaService/Nothing", "{}", "Content-Type", asJSON); code != 404 {
			t.Errorf("an unknown method: %d, want 404", code)
		}
	})
}

func TestACallerIsHeldOverHTTPLongerThanReadingMayTake(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		w.reserve(call("acme", 900, 100))
		time.Sleep(38 * time.Second)
		began := time.Now()
		body := strings.TrimSuffix(asked, "}") + `,"maxWait":"30s"}`
		code, text, _ := w.fetch("POST", "/weir.v1.QuotaService/Reserve", body, "Content-Type", asJSON)
		if took := time.Since(began); code != 200 || !strings.Contains(text, "VERDICT_ALLOW") || took < 20*time.Second {
			t.Errorf("after %v: %d %s, want to be let in after more than 20s", took, code, text)
		}
	})
}

func TestJSONOfProxies(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		const user = `{"domain":"edge","descriptors":[{"entries":[{"key":"user","value":"u1"}]}]}`
		for i, want := range []int{200, 200, 200, 429, 429} {
			method := []string{"POST", "PUT", "POST", "POST", "GET"}[i]
			code, text, header := w.fetch(method, "/json", user, "Content-Type", asJSON)
			if code != want || header.Get("Content-Type") != asJSON {
				t.Errorf("call %d: %d %s %v, want %d", i, code, text, header, want)
			}
			overall := map[int]string{200: `"OK"`, 429: `"OVER_LIMIT"`}[want]
			if !strings.Contains(strings.ReplaceAll(text, " ", ""), `"overallCode":`+overall) {
				t.Errorf("call %d: %s, want %s", i, text, overall)
			}
		}
		for body, want := range map[string]string{
			"":                               "the body is empty",
			"{":                              "body: ",
			`{"domane":"edge"}`:              "domane",
			`{"descriptors":[{}]}`:           "domain",
			`{"domain":"edge"}`:              "descriptors",
			`{"domain":"e","hitsAddend":-1}`: "hitsAddend",
		} {
			code, text, _ := w.fetch("POST", "/json", body, "Content-Type", asJSON)
			if code != 400 || !strings.HasPrefix(text, "Bad Request") || !strings.Contains(text, want) {
				t.Errorf("%q: %d %q, want 400 and %q", body, code, text, want)
			}
		}
		if code, _, _ := w.fetch("POST", "/json", strings.Repeat(" ", maxMessage+1)); code != 413 {
			t.Errorf("a long body: %d, want 413", code)
		}
	})
}

// For who expects the answers of envoyproxy/ratelimit to the letter, and nothing else.
func TestBareErrors(t *testing.T) {
	inBubble(t, Options{BareErrors: true}, func(t *testing.T, w *world) {
		for _, body := range []string{"", "{", `{"domane":"edge"}`, `{"domain":"edge"}`, `{"domain":"","descriptors":[{"entries":[{"key":"k"}]}]}`} {
			code, text, header := w.fetch("POST", "/json", body)
			if code != 400 || text != "Bad Request\n" || header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("%q: %d %q %v, want 400 and nothing more", body, code, text, header)
			}
		}
	})
}

func TestOnlyThisMachinesPagesAreServed(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		for host, want := range map[string]int{
			"localhost": 200, "localhost:8080": 200, "127.0.0.1:8080": 200, "[::1]:8080": 200, "weir.localhost": 200,
			"evil.test": 421, "evil.test:8080": 421, "localhost.evil.test": 421,
		} {
			if code, text, _ := w.fetch("GET", "/", "", "Host", host); code != want {
				t.Errorf("host %s: %d %q, want %d", host, code, text, want)
			}
		}
		for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.test"}} {
			code, text, _ := w.fetch("POST", "/weir.v1.AdminService/ResetLimit", `{"owner":"opus"}`, append(header, "Content-Type", asJSON)...)
			if code != 403 {
				t.Errorf("%v: %d %s, want 403", header, code, text)
			}
		}
	})
}

func TestThePagesAreThere(t *testing.T) {
	inBubble(t, Options{Version: "1.2.3"}, func(t *testing.T, w *world) {
		if code, text, _ := w.fetch("GET", "/", ""); code != 200 || !containsAny(text, "weir 1.2.3, plan aaaaaaaaaaaa") || !containsAny(text, "/metrics") {
			t.Errorf("/: %d %s", code, text)
		}
		for _, path := range []string{"/nothing", "/debug/pprof/", "/rlconfig"} {
			if code, _, _ := w.fetch("GET", path, ""); code != 404 {
				t.Errorf("%s: %d, want 404", path, code)
			}
		}
	})
}

func TestOperatorsSeeAndResetLimits(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		for _, org := range []string{"c", "a", "b"} {
			w.reserve(call(org, 600, 100))
		}
		// Quotas come page by page, in order.
		first, err := w.admin.ListQuotas(t.Context(), &weirv1.ListQuotasRequest{PageSize: 2})
		if err != nil || len(first.GetQuotas()) != 2 || first.GetQuotas()[0].GetAttributes()["org"] != "a" || first.GetNextPageToken() == "" {
			t.Fatalf("first page: %v, %v", first, err)
		}
		q := first.GetQuotas()[0]
		if q.GetName() != "opus" || q.GetProvider() != "anthropic" || q.GetOpenReservations() != 1 || len(q.GetLimits()) != 3 || q.GetLimits()[1].GetUsed() != 600 {
			t.Errorf("quota %v", q)
		}
		second, err := w.admin.ListQuotas(t.Context(), &weirv1.ListQuotasRequest{PageSize: 2, PageToken: first.GetNextPageToken()})
		if err != nil || len(second.GetQuotas()) != 1 || second.GetQuotas()[0].GetAttributes()["org"] != "c" || second.GetNextPageToken() != "" {
			t.Errorf("second page: %v, %v", second, err)
		}
		rules, err := w.admin.ListRules(t.Context(), &weirv1.ListRulesRequest{PageSize: 1})
		if err != nil || len(rules.GetRules()) != 1 || rules.GetRules()[0].GetName() != "per-user" {
			t.Fatalf("rules: %v, %v", rules, err)
		}
		rules, err = w.admin.ListRules(t.Context(), &weirv1.ListRulesRequest{PageSize: 1, PageToken: rules.GetNextPageToken()})
		if err != nil || len(rules.GetRules()) != 1 || rules.GetNextPageToken() != "" {
			t.Fatalf("more rules: %v, %v", rules, err)
		}
		if r := rules.GetRules()[0]; r.GetName() != "path=/v1/*,method=POST" || r.GetDomain() != "edge" || strings.Join(r.GetMatch(), " ") != "path=/v1/* method=POST" ||
			r.GetLimits()[0].GetAmount() != 5 || r.GetLimits()[0].GetWindow().AsDuration() != time.Hour {
			t.Errorf("rule %v", r)
		}
		plan, err := w.admin.GetPlan(t.Context(), &weirv1.GetPlanRequest{})
		if err != nil || plan.GetPlan() != "aaaaaaaaaaaa" || plan.GetSources()[0] != "test.yaml" || plan.GetOpenReservations() != 3 || plan.GetKeys() == 0 || plan.GetLastError() != "" {
			t.Errorf("plan %v, %v", plan, err)
		}
		// One organisation's input tokens are forgotten, and nothing else.
		reset, err := w.admin.ResetLimit(t.Context(), &weirv1.ResetLimitRequest{
			Owner: "opus", Attributes: map[string]string{"org": "a", "model": "claude-opus"}, Meter: "input_tokens",
		})
		if err != nil || reset.GetCounters() != 1 {
			t.Errorf("reset: %v, %v", reset, err)
		}
		for org, want := range map[string]uint64{"a": 0, "b": 600} {
			if used := w.used(org, "input_tokens"); used != want {
				t.Errorf("%s: %d input tokens used, want %d", org, used, want)
			}
		}
		if used := w.used("a", "requests"); used != 1 {
			t.Errorf("%d requests used, want 1", used)
		}
	})
}

func TestRulesAreResetByTheirPath(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		const post = `{"domain":"edge","descriptors":[{"entries":[{"key":"path","value":"/v1/x"},{"key":"method","value":"POST"}]}]}`
		for range 5 {
			w.fetch("POST", "/json", post)
		}
		if code, text, _ := w.fetch("POST", "/json", post); code != 429 {
			t.Fatalf("%d %s, want that the limit is reached", code, text)
		}
		reset, err := w.admin.ResetLimit(t.Context(), &weirv1.ResetLimitRequest{
			Owner: "path=/v1/*,method=POST", Attributes: map[string]string{"path": "/v1/x"},
		})
		if err != nil || reset.GetCounters() != 1 {
			t.Errorf("reset: %v, %v", reset, err)
		}
		if code, text, _ := w.fetch("POST", "/json", post); code != 200 {
			t.Errorf("%d %s, want 200 after the reset", code, text)
		}
	})
}

func TestExplainChargesNothing(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		explain := func(text string) *weirv1.ExplainResponse {
			t.Helper()
			req := &weirv1.ExplainRequest{}
			if err := protojson.Unmarshal([]byte(text), req); err != nil {
				t.Fatal(err)
			}
			resp, err := w.admin.Explain(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		for range 2 {
			r := explain(asked)
			if r.GetVerdict() != weirv1.Verdict_VERDICT_ALLOW || len(r.GetLimits()) != 3 || r.GetLimits()[1].GetUsed() != 0 || !containsAny(r.GetSummary(), "3 limits have room") {
				t.Errorf("explain: %v", r)
			}
		}
		w.reserve(call("acme", 600, 100))
		r := explain(asked)
		if r.GetVerdict() != weirv1.Verdict_VERDICT_DENY || r.GetRefusedBy().GetMeter() != "input_tokens" || r.GetRetryAfter() == nil ||
			!containsAny(r.GetSummary(), "opus admits 1000 input_tokens per 1m0s, of which 400 are left; the call asks for 600") {
			t.Errorf("explain what is denied: %v", r)
		}
		r = explain(`{"attributes":{"org":"acme","model":"claude-x"},"estimate":{"inputTokens":"1001"}}`)
		if r.GetVerdict() != weirv1.Verdict_VERDICT_INFEASIBLE || !containsAny(r.GetSummary(), "can never be allowed") {
			t.Errorf("explain what is too large: %v", r)
		}
		r = explain(`{"attributes":{"model":"gpt"}}`)
		if r.GetVerdict() != weirv1.Verdict_VERDICT_ALLOW || !containsAny(r.GetSummary(), "Nothing matches") {
			t.Errorf("explain what nothing matches: %v", r)
		}
		for hits, want := range map[string]weirv1.Verdict{"3": weirv1.Verdict_VERDICT_ALLOW, "4": weirv1.Verdict_VERDICT_INFEASIBLE} {
			r = explain(`{"domain":"edge","descriptor":[{"key":"user","value":"u"}],"hits":"` + hits + `"}`)
			if r.GetVerdict() != want || r.GetLimits()[0].GetOwner() != "per-user" {
				t.Errorf("explain a descriptor with %s hits: %v", hits, r)
			}
		}
	})
}
