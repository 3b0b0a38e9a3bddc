package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/test/harness"
	"github.com/weir-project/weir/test/upstream"
)

// TestForms runs the same scenarios with each way of asking and reporting.
func TestForms(t *testing.T) {
	scenarios := []struct {
		name string
		run  func(t *testing.T, l loop, org string)
	}{
		{"a call is settled with what it used", answerIsSettled},
		{"a call holds its estimate while it runs", estimateIsHeld},
		{"a stream is settled with what it used", streamIsSettled},
		{"a client that leaves keeps its estimate charged", leavingKeepsTheEstimate},
		{"an SDK that closes its stream keeps its estimate charged", closingKeepsTheEstimate},
		{"a client that leaves before the answer keeps its estimate charged", leavingEarlyKeepsTheEstimate},
		{"an SDK that gives up before the answer keeps its estimate charged", givingUpKeepsTheEstimate},
		{"the provider's 429 reaches the client and gives the tokens back", quotaRefusalIsRefunded},
		{"the provider's 529 reaches the client and gives the tokens back", overloadIsRefunded},
		{"an error within a stream settles what came before", brokenStreamIsSettled},
		{"a stream that is cut settles what came before", cutStreamIsSettled},
		{"a denial is the provider's own form, honest, and free", denialIsHonest},
		{"a request that never fits is told so", infeasibleIsFinal},
		{"the SDK waits as it is told and succeeds", sdkObeys},
		{"other paths are not asked about", otherPathsPass},
	}
	for _, example := range []string{"compact.yaml", "per-unit.yaml", "access-log.yaml"} {
		t.Run(example, func(t *testing.T) {
			l := newLoop(t, example, plan)
			l.sdk = harness.StartSDK(t, l.envoy.URL)
			for i, s := range scenarios {
				t.Run(s.name, func(t *testing.T) { s.run(t, l, "acme-"+strconv.Itoa(i)) })
			}
			if n := l.envoy.Unseen(t); n != 0 {
				t.Errorf("Envoy admitted %d requests without weir's answer, want 0", n)
			}
		})
	}
}

func answerIsSettled(t *testing.T, l loop, org string) {
	harness.MustSend(t, l.envoy.URL, harness.Ask{Org: org, MaxTokens: 1000}, 200)
	l.weir.Settled(t, "claude", org, settled)
	// Whatever comes by the other way, if there are two, changes nothing.
	harness.MustSend(t, l.envoy.URL, harness.Ask{Org: org, Tenant: "chat"}, 200)
	l.weir.Settled(t, "claude", org, harness.Uses(2, 64, 84))
}

func estimateIsHeld(t *testing.T, l loop, org string) {
	slow := upstream.Behavior{Usage: &usage, Delay: upstream.Duration(time.Second)}
	done := make(chan error, 1)
	go func() {
		_, err := harness.Send(t.Context(), l.envoy.URL, harness.Ask{Org: org, MaxTokens: 1000, Behavior: &slow})
		done <- err
	}()
	held(t, l, org)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	l.weir.Settled(t, "claude", org, settled)
}

// held waits until the organisation has one reservation, and returns what it holds.
func held(t *testing.T, l loop, org string) harness.State {
	t.Helper()
	var s harness.State
	harness.Eventually(t, 10*time.Second, "a reservation is open", func() error {
		s = l.weir.State(t, "claude", org)
		if s.Open != 1 || s.Used["requests"] != 1 || s.Used["input_tokens"] == 0 || s.Used["output_tokens"] == 0 {
			return fmt.Errorf("it has %+v", s)
		}
		return nil
	})
	return s
}

func streamIsSettled(t *testing.T, l loop, org string) {
	call := harness.Call{
		Model: "claude-test", MaxTokens: 1000, Text: "Hello", Stream: true,
		Headers: map[string]string{"x-llm-org": org},
	}
	got := l.sdk.Send(t, call)
	if got.Error != "" || got.Usage["output_tokens"] != 42.0 || got.Events[len(got.Events)-1] != "message_stop" {
		t.Errorf("the SDK got %+v", got)
	}
	l.weir.Settled(t, "claude", org, settled)
}

// long is a stream that a client can leave: ten seconds, and an output which nobody
// could have foreseen.
var long = upstream.Behavior{
	Usage: &upstream.Usage{InputTokens: 30, OutputTokens: 5000}, Events: 500, EventGap: upstream.Duration(20 * time.Millisecond),
}

func leavingKeepsTheEstimate(t *testing.T, l loop, org string) {
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	res, err := harness.Open(ctx, l.envoy.URL, harness.Ask{Org: org, MaxTokens: 8000, Stream: true, Behavior: &long})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	beginning := make([]byte, 600)
	if _, err := io.ReadFull(res.Body, beginning); err != nil || !strings.Contains(string(beginning), "event: message_start") {
		t.Fatalf("the stream begins with %q, %v", beginning, err)
	}
	leftKeepsTheEstimate(t, l, org, leave)
}

func closingKeepsTheEstimate(t *testing.T, l loop, org string) {
	l.sdk.Begin(t, harness.Call{
		Model: "claude-test", MaxTokens: 8000, Text: "Hello", Stream: true, AbortAfter: 100,
		Headers: map[string]string{"x-llm-org": org, upstream.BehaviorHeader: long.Header()},
	})
	leftKeepsTheEstimate(t, l, org, func() {
		got := l.sdk.End(t)
		if got.Error != "" || len(got.Events) != 100 || got.Events[0] != "message_start" {
			t.Errorf("the SDK got %d events, %+v, want the first 100", len(got.Events), got)
		}
	})
}

// leftKeepsTheEstimate checks what is charged for the stream that runs, which the
// client leaves when it is told to.
func leftKeepsTheEstimate(t *testing.T, l loop, org string, leave func()) {
	t.Helper()
	before, aborted := held(t, l, org), l.up.Totals().Aborted
	leave()
	after := l.weir.Settled(t, "claude", org, func(s harness.State) error {
		if s.Used["input_tokens"] != 30 {
			return fmt.Errorf("used %v, want the 30 input tokens that the stream began with", s.Used)
		}
		return nil
	})
	if after.Used["requests"] != 1 || after.Used["output_tokens"] < before.Used["output_tokens"] {
		t.Errorf("after the client left %v is used, want no less output than what was reserved, %v", after.Used, before.Used)
	}
	harness.Eventually(t, 10*time.Second, "the provider sees the client leave", func() error {
		if n := l.up.Totals().Aborted; n != aborted+1 {
			return fmt.Errorf("%d aborted, want %d", n, aborted+1)
		}
		return nil
	})
}

func leavingEarlyKeepsTheEstimate(t *testing.T, l loop, org string) {
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	slow := upstream.Behavior{Usage: &usage, Delay: upstream.Duration(10 * time.Second)}
	done := make(chan error, 1)
	go func() {
		_, err := harness.Send(ctx, l.envoy.URL, harness.Ask{Org: org, MaxTokens: 1000, Behavior: &slow})
		done <- err
	}()
	leftEarlyKeepsTheEstimate(t, l, org, func() {
		leave()
		if err := <-done; err == nil {
			t.Error("the answer came although the client had left")
		}
	})
}

func givingUpKeepsTheEstimate(t *testing.T, l loop, org string) {
	slow := upstream.Behavior{Usage: &usage, Delay: upstream.Duration(10 * time.Second)}
	l.sdk.Begin(t, harness.Call{
		Model: "claude-test", MaxTokens: 1000, Text: "Hello", Timeout: 2,
		Headers: map[string]string{"x-llm-org": org, upstream.BehaviorHeader: slow.Header()},
	})
	leftEarlyKeepsTheEstimate(t, l, org, func() {
		if got := l.sdk.End(t); got.Error != "APITimeoutError" {
			t.Errorf("the SDK got %+v, want APITimeoutError", got)
		}
	})
}

// leftEarlyKeepsTheEstimate checks what is charged for the call that runs, which the
// client leaves when it is told to, before anything was answered.
func leftEarlyKeepsTheEstimate(t *testing.T, l loop, org string, leave func()) {
	t.Helper()
	reports := inconclusive(t, l)
	before := held(t, l, org)
	leave()
	// Nothing is known of what the provider counted. The reservation may stay open
	// until it expires, in case another report knows more.
	harness.Eventually(t, 10*time.Second, "the report has come", func() error {
		if now := inconclusive(t, l); now == reports {
			return fmt.Errorf("%g reports", now)
		}
		return nil
	})
	if err := harness.Uses(1, before.Used["input_tokens"], before.Used["output_tokens"])(l.weir.State(t, "claude", org)); err != nil {
		t.Error(err)
	}
}

// inconclusive is the number of reports that said too little to settle anything.
func inconclusive(t *testing.T, l loop) float64 {
	t.Helper()
	m, err := l.weir.Metrics(t)
	if err != nil {
		t.Fatal(err)
	}
	var n float64
	for name, v := range m {
		if strings.HasPrefix(name, "weir_reports_total") && strings.Contains(name, `result="inconclusive"`) {
			n += v
		}
	}
	return n
}

func quotaRefusalIsRefunded(t *testing.T, l loop, org string) {
	reset := time.Now().Add(time.Minute)
	refuse := upstream.Behavior{Status: 429, RetryAfter: "7", RateLimits: []upstream.RateLimit{
		{Meter: "requests", Limit: 50, Remaining: 49, Reset: reset},
		{Meter: "input-tokens", Limit: 1000, Remaining: 0, Reset: reset},
		{Meter: "output-tokens", Limit: 500, Remaining: 500, Reset: reset},
	}, ErrorMessage: "This request would exceed your organization's rate limit of 1,000 input tokens per minute."}
	got := harness.MustSend(t, l.envoy.URL, harness.Ask{Org: org, MaxTokens: 1000, Behavior: &refuse}, 429)
	if got.Header.Get("retry-after") != "7" || got.Header.Get("anthropic-ratelimit-input-tokens-limit") != "1000" {
		t.Errorf("the provider's headers are not those that the client got: %v", got.Header)
	}
	if e, err := harness.ParseError(got.Body); err != nil || !strings.Contains(e.Error.Message, "1,000 input tokens") {
		t.Errorf("the provider's error is not the one that the client got: %s", got.Body)
	}
	l.weir.Settled(t, "claude", org, harness.Uses(0, 0, 0))
}

func overloadIsRefunded(t *testing.T, l loop, org string) {
	refuse := upstream.Behavior{Status: upstream.StatusOverloaded}
	harness.MustSend(t, l.envoy.URL, harness.Ask{Org: org, MaxTokens: 1000, Behavior: &refuse}, 529)
	l.weir.Settled(t, "claude", org, harness.Uses(1, 0, 0))
}

func brokenStreamIsSettled(t *testing.T, l loop, org string) {
	broken := long
	broken.Ending, broken.EndAfter = upstream.Error, 3
	got := harness.MustSend(t, l.envoy.URL, harness.Ask{Org: org, MaxTokens: 100, Stream: true, Behavior: &broken}, 200)
	if !strings.Contains(got.Body, "event: error") {
		t.Errorf("the error event did not reach the client: %s", got.Body)
	}
	l.weir.Settled(t, "claude", org, beganWith30)
}

func cutStreamIsSettled(t *testing.T, l loop, org string) {
	cut := long
	cut.Ending, cut.EndAfter = upstream.Cut, 3
	if got, err := harness.Send(t.Context(), l.envoy.URL, harness.Ask{Org: org, MaxTokens: 100, Stream: true, Behavior: &cut}); err == nil {
		t.Errorf("the client took a cut stream for whole: %s", got.Body)
	}
	l.weir.Settled(t, "claude", org, beganWith30)
}

// beganWith30 checks a stream that stated 30 input tokens and then broke off.
func beganWith30(s harness.State) error {
	if s.Used["requests"] != 1 || s.Used["input_tokens"] != 30 || s.Used["output_tokens"] == 0 {
		return fmt.Errorf("used %v, want 1 request, 30 input tokens and some output", s.Used)
	}
	return nil
}

func denialIsHonest(t *testing.T, l loop, org string) {
	ask := harness.Ask{Org: "narrow-" + org, MaxTokens: 10}
	harness.MustSend(t, l.envoy.URL, ask, 200)
	harness.MustSend(t, l.envoy.URL, ask, 200)
	l.weir.Settled(t, "claude", ask.Org, harness.Uses(2, 64, 84))
	received := l.up.Totals().Received

	denied := harness.MustSend(t, l.envoy.URL, ask, 429)
	wait := retryAfter(t, denied.Header)
	if e, err := harness.ParseError(denied.Body); err != nil || e.Error.Type != "rate_limit_error" {
		t.Errorf("denied with %s (%v), want an error of type rate_limit_error", denied.Body, err)
	}
	if got := denied.Header.Get("content-type"); !strings.HasPrefix(got, "application/json") {
		t.Errorf("denied with content-type %q, want application/json", got)
	}
	if got := denied.Header.Get("x-should-retry"); got != "true" {
		t.Errorf("denied with x-should-retry %q, want true", got)
	}
	if got := l.up.Totals().Received; got != received {
		t.Errorf("the provider received %d more requests, want 0", got-received)
	}
	time.Sleep(wait)
	harness.MustSend(t, l.envoy.URL, ask, 200)
	// The denial was not charged, and its report has taught nothing.
	l.weir.Settled(t, "claude", ask.Org, harness.Uses(3, 96, 126))
}

// retryAfter reads the wait that a denial states: within the rule's three seconds.
func retryAfter(t *testing.T, h http.Header) time.Duration {
	t.Helper()
	text := h.Get("retry-after")
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || seconds <= 0 || seconds > 4 || len(h.Values("retry-after")) != 1 {
		t.Fatalf("retry-after %q, want one of up to 4 seconds", h.Values("retry-after"))
	}
	return time.Duration(seconds * float64(time.Second))
}

func infeasibleIsFinal(t *testing.T, l loop, org string) {
	denials := func() int {
		return l.envoy.Stats(t, "^cluster.upstream.ratelimit.")["cluster.upstream.ratelimit.over_limit"]
	}
	before := denials()
	got := l.sdk.Send(t, harness.Call{
		Model: "claude-test", MaxTokens: 10, Text: strings.Repeat("word ", 1000),
		Headers: map[string]string{"x-llm-org": "tiny-" + org}, MaxRetries: 2,
	})
	if got.Error != "RateLimitError" || got.Headers["x-should-retry"] != "false" || got.Headers["retry-after"] != "" {
		t.Errorf("the SDK got %+v, want RateLimitError, x-should-retry: false and no retry-after", got)
	}
	if n := denials() - before; n != 1 {
		t.Errorf("the SDK tried %d times, want once", n)
	}
}

func sdkObeys(t *testing.T, l loop, org string) {
	call := harness.Call{Model: "claude-test", MaxTokens: 10, Text: "Hello", MaxRetries: 2}
	call.Headers = map[string]string{"x-llm-org": "narrow-patient-" + org}
	for i := range 3 {
		if got := l.sdk.Send(t, call); got.Error != "" || (got.Retries > 0) != (i == 2) || got.Retries > 1 {
			t.Errorf("call %d of 3 with retries: %+v, want an answer, after one retry if it is the third", i+1, got)
		}
	}
	call.MaxRetries = 0
	call.Headers = map[string]string{"x-llm-org": "narrow-hasty-" + org}
	for i := range 2 {
		if got := l.sdk.Send(t, call); got.Error != "" {
			t.Errorf("call %d of 3 without retries: %+v, want an answer", i+1, got)
		}
	}
	got := l.sdk.Send(t, call)
	body, _ := got.Body.(map[string]any)
	inner, _ := body["error"].(map[string]any)
	if got.Error != "RateLimitError" || got.Status != 429 || inner["type"] != "rate_limit_error" {
		t.Errorf("call 3 of 3 without retries: %+v, want RateLimitError with its body parsed", got)
	}
}

func otherPathsPass(t *testing.T, l loop, _ string) {
	asked := l.envoy.Stats(t, "^cluster.upstream.ratelimit.ok$")
	if _, err := harness.Get(t, l.envoy.URL+"/v1/models"); err != nil {
		t.Error(err)
	}
	if now := l.envoy.Stats(t, "^cluster.upstream.ratelimit.ok$"); now["cluster.upstream.ratelimit.ok"] != asked["cluster.upstream.ratelimit.ok"] {
		t.Error("weir was asked about /v1/models")
	}
}

// What examples/envoy/README.md promises of its quotas.yaml: the 31st request of a
// tenant within a minute is denied, while another tenant goes on.
func TestExampleQuotas(t *testing.T) {
	up := harness.StartUpstream(t, upstream.Options{})
	w := harness.StartWeir(t, harness.WeirOptions{Paths: []string{"examples/envoy/quotas.yaml"}})
	envoy := harness.StartEnvoy(t, "compact.yaml", up, w.GRPCPort)
	ask := harness.Ask{Org: "acme", Tenant: "chat", Model: "claude-sonnet-4-5", MaxTokens: 100, Text: "Hello"}
	for range 30 {
		harness.MustSend(t, envoy.URL, ask, 200)
	}
	harness.MustSend(t, envoy.URL, ask, 429)
	ask.Tenant = "batch"
	harness.MustSend(t, envoy.URL, ask, 200)
}
