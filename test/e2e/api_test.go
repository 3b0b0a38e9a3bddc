package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"

	weirv1 "github.com/weir-project/weir/proto/weir/v1"
	"github.com/weir-project/weir/test/harness"
)

// weir starts with no arguments but its addresses, says where it listens, and decides.
func TestFirstRun(t *testing.T) {
	w := harness.StartWeir(t, harness.WeirOptions{})
	for _, part := range []string{"built-in", w.GRPC(), w.HTTP()} {
		if out := w.Output(); !strings.Contains(out, part) {
			t.Errorf("the banner lacks %q:\n%s", part, out)
		}
	}
	got := postJSON(t, w, "weir.v1.QuotaService/Reserve", `{"attributes": {"org": "acme", "model": "claude-opus-4-1"}}`, 200)
	if got["verdict"] != "VERDICT_ALLOW" || got["reservation"] == nil {
		t.Errorf("got %v, want VERDICT_ALLOW and a reservation", got)
	}
}

// The loop of a program in any language, as JSON over HTTP.
func TestJSON(t *testing.T) {
	w := harness.StartWeir(t, harness.WeirOptions{Config: plan})
	reserve := `{"attributes": {"org": "acme", "tenant": "chat", "model": "claude-test"}, "estimate": {"inputTokens": "500", "maxTokens": 100}}`
	got := postJSON(t, w, "weir.v1.QuotaService/Reserve", reserve, 200)
	id, _ := got["reservation"].(string)
	if got["verdict"] != "VERDICT_ALLOW" || id == "" {
		t.Fatalf("got %v, want VERDICT_ALLOW and a reservation", got)
	}
	if s := w.State(t, "claude", "acme"); s.Open != 1 || s.Used["input_tokens"] != 500 {
		t.Errorf("while the call runs: %+v, want 1 open with 500 input tokens", s)
	}
	report := `{"reservation": "` + id + `", "httpStatus": 200, "usage": {"inputTokens": 25, "cacheCreationInputTokens": 7, "cacheReadInputTokens": 100, "outputTokens": 42}}`
	if got := postJSON(t, w, "weir.v1.QuotaService/Report", report, 200); got["ending"] != "ENDING_SETTLED" || got["applied"] != true {
		t.Errorf("got %v, want it settled by this report", got)
	}
	if got := postJSON(t, w, "weir.v1.QuotaService/Report", report, 200); got["ending"] != "ENDING_SETTLED" || got["applied"] == true {
		t.Errorf("got %v for a replay, want it settled before", got)
	}
	w.Settled(t, "claude", "acme", settled)

	for name, c := range map[string]struct {
		method, body string
		status       int
		code         string
	}{
		"a reservation of nobody":  {"Report", `{"reservation": "AAAAAAAAAAAAAAAAAAAAAA", "httpStatus": 200}`, 404, "not_found"},
		"an amount that cannot be": {"Reserve", `{"attributes": {"org": "acme", "model": "claude-test"}, "estimate": {"inputTokens": "18446744073709551615"}}`, 400, "invalid_argument"},
		"an endless attribute":     {"Reserve", `{"attributes": {"org": "` + strings.Repeat("x", 300) + `"}}`, 400, "invalid_argument"},
		"what is no JSON":          {"Reserve", `{"attributes":`, 400, "invalid_argument"},
	} {
		if got := postJSON(t, w, "weir.v1.QuotaService/"+c.method, c.body, c.status); got["code"] != c.code || got["message"] == "" {
			t.Errorf("%s: got %v, want code %s and a message", name, got, c.code)
		}
	}
	w.Settled(t, "claude", "acme", settled)
}

// postJSON calls a method as a program without gRPC does.
func postJSON(t *testing.T, w *harness.Weir, method, body string, status int) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.HTTP()+"/"+method, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("content-type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	if err := json.Unmarshal(text, &got); err != nil || res.StatusCode != status {
		t.Fatalf("%s %s: %s, %v, want status %d: %s", method, body, res.Status, err, status, text)
	}
	return got
}

// grpcurl knows the services by reflection.
func TestGRPCurl(t *testing.T) {
	grpcurl := harness.Tool(t, "bin/grpcurl")
	w := harness.StartWeir(t, harness.WeirOptions{Config: plan})
	call := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, grpcurl, append([]string{"-plaintext"}, args...)...).CombinedOutput()
		return string(out), err
	}
	mustCall := func(method, data string) map[string]any {
		t.Helper()
		out, err := call("-d", data, w.GRPC(), method)
		got := map[string]any{}
		if bad := json.Unmarshal([]byte(out), &got); err != nil || bad != nil {
			t.Fatalf("%s: %v, %v\n%s", method, err, bad, out)
		}
		return got
	}
	out, err := call(w.GRPC(), "list")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, service := range []string{
		"weir.v1.QuotaService", "weir.v1.AdminService", "grpc.health.v1.Health",
		"envoy.service.ratelimit.v3.RateLimitService", "envoy.service.accesslog.v3.AccessLogService",
	} {
		if !strings.Contains(out, service+"\n") {
			t.Errorf("reflection does not list %s:\n%s", service, out)
		}
	}
	for _, service := range []string{"", "ratelimit"} {
		if got := mustCall("grpc.health.v1.Health/Check", `{"service": "`+service+`"}`); got["status"] != "SERVING" {
			t.Errorf("health of %q: %v, want SERVING", service, got)
		}
	}
	reserve := `{"attributes": {"org": "acme", "model": "claude-test"}, "estimate": {"inputTokens": 500, "maxTokens": 100}}`
	got := mustCall("weir.v1.QuotaService/Reserve", reserve)
	id, _ := got["reservation"].(string)
	if got["verdict"] != "VERDICT_ALLOW" || id == "" {
		t.Fatalf("Reserve: %v", got)
	}
	if got := mustCall("weir.v1.QuotaService/Renew", `{"reservation": "`+id+`", "ttl": "300s"}`); got["expiresAt"] == nil {
		t.Errorf("Renew: %v", got)
	}
	if got := mustCall("weir.v1.QuotaService/Release", `{"reservation": "`+id+`"}`); got["ending"] != "ENDING_RELEASED" || got["applied"] != true {
		t.Errorf("Release: %v", got)
	}
	w.Settled(t, "claude", "acme", harness.Uses(0, 0, 0))
	if got := mustCall("weir.v1.AdminService/Explain", reserve); got["verdict"] != "VERDICT_ALLOW" || got["summary"] == "" {
		t.Errorf("Explain: %v", got)
	}
	if got := mustCall("weir.v1.AdminService/GetPlan", `{}`); got["quotas"] != 1.0 || got["rules"] != 2.0 {
		t.Errorf("GetPlan: %v", got)
	}
	if out, err := call("-d", `{"reservation": "AAAAAAAAAAAAAAAAAAAAAA"}`, w.GRPC(), "weir.v1.QuotaService/Release"); err == nil || !strings.Contains(out, "NotFound") {
		t.Errorf("releasing nobody's reservation: %v, want NotFound\n%s", err, out)
	}
}

// Many questions over one stream: answers carry the sequence number of their question.
func TestSession(t *testing.T) {
	w := harness.StartWeir(t, harness.WeirOptions{Config: plan})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := weirv1.NewQuotaServiceClient(w.Dial(t)).Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	reserve := func(seq uint64, org string) *weirv1.SessionCall {
		return &weirv1.SessionCall{Sequence: seq, Call: &weirv1.SessionCall_Reserve{Reserve: &weirv1.ReserveRequest{
			Attributes: map[string]string{"org": org, "model": "claude-test"},
			Estimate:   &weirv1.Estimate{InputTokens: new(uint64(10)), MaxTokens: new(uint64(10))},
		}}}
	}
	exchange := func(calls ...*weirv1.SessionCall) map[uint64]*weirv1.SessionAnswer {
		t.Helper()
		if err := stream.Send(&weirv1.SessionRequest{Calls: calls}); err != nil {
			t.Fatal(err)
		}
		got := map[uint64]*weirv1.SessionAnswer{}
		for len(got) < len(calls) {
			res, err := stream.Recv()
			if err != nil {
				t.Fatalf("after %d of %d answers: %v", len(got), len(calls), err)
			}
			for _, a := range res.GetAnswers() {
				got[a.GetSequence()] = a
			}
		}
		return got
	}
	got := exchange(reserve(7, "narrow-s"), reserve(8, "narrow-s"), reserve(9, "narrow-s"), &weirv1.SessionCall{
		Sequence: 10, Call: &weirv1.SessionCall_Release{Release: &weirv1.ReleaseRequest{Reservation: "nonsense"}},
	})
	for seq, want := range map[uint64]weirv1.Verdict{7: weirv1.Verdict_VERDICT_ALLOW, 8: weirv1.Verdict_VERDICT_ALLOW, 9: weirv1.Verdict_VERDICT_DENY} {
		if v := got[seq].GetReserve().GetVerdict(); v != want {
			t.Errorf("call %d: %v, want %v", seq, v, want)
		}
	}
	if e := got[10].GetError(); e.GetCode() == 0 || e.GetMessage() == "" {
		t.Errorf("call 10: %v, want an error", got[10])
	}
	report := func(seq uint64, id string) *weirv1.SessionCall {
		return &weirv1.SessionCall{Sequence: seq, Call: &weirv1.SessionCall_Report{Report: &weirv1.ReportRequest{
			Reservation: id, HttpStatus: 200,
			Usage: &weirv1.ReportedUsage{InputTokens: new(uint64(32)), OutputTokens: new(uint64(42))},
		}}}
	}
	got = exchange(report(11, got[7].GetReserve().GetReservation()), report(12, got[8].GetReserve().GetReservation()))
	for seq := uint64(11); seq <= 12; seq++ {
		if r := got[seq].GetReport(); !r.GetApplied() || r.GetEnding() != weirv1.Ending_ENDING_SETTLED {
			t.Errorf("call %d: %v, want it settled", seq, got[seq])
		}
	}
	w.Settled(t, "claude", "narrow-s", harness.Uses(2, 64, 84))
}

// Files of envoyproxy/ratelimit are served as they are, over gRPC and at /json.
func TestRatelimitFiles(t *testing.T) {
	w := harness.StartWeir(t, harness.WeirOptions{Paths: []string{"test/e2e/testdata/ratelimit"}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	client := rlsv3.NewRateLimitServiceClient(w.Dial(t))
	ask := func(domain string, entries ...string) rlsv3.RateLimitResponse_Code {
		t.Helper()
		d := &commonv3.RateLimitDescriptor{}
		for i := 0; i < len(entries); i += 2 {
			d.Entries = append(d.Entries, &commonv3.RateLimitDescriptor_Entry{Key: entries[i], Value: entries[i+1]})
		}
		res, err := client.ShouldRateLimit(ctx, &rlsv3.RateLimitRequest{Domain: domain, Descriptors: []*commonv3.RateLimitDescriptor{d}})
		if err != nil {
			t.Fatal(err)
		}
		return res.GetOverallCode()
	}
	const ok, over = rlsv3.RateLimitResponse_OK, rlsv3.RateLimitResponse_OVER_LIMIT
	for i, step := range []struct {
		domain  string
		entries []string
		want    rlsv3.RateLimitResponse_Code
	}{
		{"edge", []string{"user", "ann"}, ok},
		{"edge", []string{"user", "ann"}, ok},
		{"edge", []string{"user", "ann"}, over},
		{"edge", []string{"user", "bob"}, ok}, // each value by itself
		{"edge", []string{"user", "root"}, over},
		{"edge", []string{"path", "/v1/messages"}, ok}, // no limit at this level
		{"edge", []string{"path", "/v1/messages", "tenant", "batch"}, ok},
		{"edge", []string{"path", "/v1/messages", "tenant", "batch"}, over},
		{"edge", []string{"path", "/v1/messages", "tenant", "chat"}, ok},
		{"edge", []string{"nobody", "knows"}, ok},
		{"batch", []string{"job", "nightly"}, ok},
		{"batch", []string{"job", "nightly"}, over},
	} {
		if got := ask(step.domain, step.entries...); got != step.want {
			t.Errorf("step %d: %s %v: %v, want %v", i, step.domain, step.entries, got, step.want)
		}
	}

	post := func(value string) (int, string) {
		t.Helper()
		body := `{"domain": "edge", "descriptors": [{"entries": [{"key": "user", "value": "` + value + `"}]}]}`
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.HTTP()+"/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("content-type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var text bytes.Buffer
		if _, err := text.ReadFrom(res.Body); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, text.String()
	}
	if status, body := post("cem"); status != 200 || !strings.Contains(body, "OK") {
		t.Errorf("/json: status %d: %s, want 200 and OK", status, body)
	}
	if status, body := post("ann"); status != 429 || !strings.Contains(body, "OVER_LIMIT") {
		t.Errorf("/json: status %d: %s, want 429 and OVER_LIMIT", status, body)
	}
}

// The command line asks a running server.
func TestCommandsAskTheServer(t *testing.T) {
	w := harness.StartWeir(t, harness.WeirOptions{Config: plan})
	run := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, harness.Binary(t), args...)
		cmd.Env = append(harness.Environ(), "WEIR_GRPC_ADDR="+w.GRPC(), "WEIR_HTTP_ADDR="+w.HTTPAddr())
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("healthcheck"); err != nil {
		t.Errorf("healthcheck: %v\n%s", err, out)
	}
	if out, err := run("explain", "org=acme", "model=claude-test"); err != nil || !strings.Contains(out, "claude") {
		t.Errorf("explain: %v\n%s", err, out)
	}
	w.Stop()
	if out, err := run("healthcheck"); err == nil {
		t.Errorf("healthcheck of a server that is gone ended with 0\n%s", out)
	}
}

// Held callers are answered as soon as there is room.
func TestReserveWaits(t *testing.T) {
	w := harness.StartWeir(t, harness.WeirOptions{Config: plan})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	client := weirv1.NewQuotaServiceClient(w.Dial(t))
	ask := &weirv1.ReserveRequest{Attributes: map[string]string{"org": "narrow-w", "model": "claude-test"}}
	for i, want := range []weirv1.Verdict{weirv1.Verdict_VERDICT_ALLOW, weirv1.Verdict_VERDICT_ALLOW, weirv1.Verdict_VERDICT_DENY} {
		res, err := client.Reserve(ctx, ask)
		if err != nil || res.GetVerdict() != want {
			t.Fatalf("call %d: %v, %v, want %v", i+1, res, err, want)
		}
	}
	ask.MaxWait = durationpb.New(10 * time.Second)
	res, err := client.Reserve(ctx, ask)
	if err != nil || res.GetVerdict() != weirv1.Verdict_VERDICT_ALLOW {
		t.Errorf("a call that may wait: %v, %v, want VERDICT_ALLOW", res, err)
	}
}
