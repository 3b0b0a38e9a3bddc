package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weir-project/weir/test/harness"
	"github.com/weir-project/weir/test/upstream"
)

// While weir is away Envoy admits; when it is back the next call is decided again.
func TestRestart(t *testing.T) {
	for name, connect := range map[string]func(*testing.T, loop) caller{
		"a client without retries": connectPlain,
		"the SDK":                  connectSDK,
	} {
		t.Run(name, func(t *testing.T) {
			l := newLoop(t, "compact.yaml", `
quotas:
- name: claude
  provider: anthropic
  control: fixed
  match: {model: "claude-*"}
  limits: {requests_per_minute: 3, input_tokens_per_minute: 100000, output_tokens_per_minute: 100000}
`)
			restart(t, l, connect(t, l))
		})
	}
}

// caller is how a client sends what a restart needs.
type caller struct {
	// call sends one of the organisation acme, and wants the status.
	call func(status int)
	// stream begins a stream of the organisation long that takes some seconds, and
	// returns what waits for its end.
	stream func() func()
}

// sixSeconds is a stream that outlives the weir that admitted it.
var sixSeconds = upstream.Behavior{Usage: &usage, Events: 30, EventGap: upstream.Duration(200 * time.Millisecond)}

func connectPlain(t *testing.T, l loop) caller {
	t.Helper()
	return caller{
		call: func(status int) {
			t.Helper()
			harness.MustSend(t, l.envoy.URL, harness.Ask{Org: "acme", MaxTokens: 10}, status)
		},
		stream: func() func() {
			ended := make(chan error, 1)
			go func() {
				got, err := harness.Send(t.Context(), l.envoy.URL, harness.Ask{Org: "long", MaxTokens: 10, Stream: true, Behavior: &sixSeconds})
				if err == nil && got.Status != 200 {
					err = fmt.Errorf("status %d", got.Status)
				}
				ended <- err
			}()
			return func() {
				t.Helper()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		},
	}
}

func connectSDK(t *testing.T, l loop) caller {
	t.Helper()
	calls, streams := harness.StartSDK(t, l.envoy.URL), harness.StartSDK(t, l.envoy.URL)
	return caller{
		call: func(status int) {
			t.Helper()
			got := calls.Send(t, harness.Call{
				Model: "claude-test", MaxTokens: 10, Text: "Hello", Headers: map[string]string{"x-llm-org": "acme"},
			})
			if got.Status != status || (got.Error == "") != (status == 200) {
				t.Fatalf("the SDK got %+v, want status %d", got, status)
			}
		},
		stream: func() func() {
			streams.Begin(t, harness.Call{
				Model: "claude-test", MaxTokens: 10, Text: "Hello", Stream: true,
				Headers: map[string]string{"x-llm-org": "long", upstream.BehaviorHeader: sixSeconds.Header()},
			})
			return func() {
				t.Helper()
				got := streams.End(t)
				if got.Error != "" || got.Events[len(got.Events)-1] != "message_stop" {
					t.Errorf("the SDK got %+v, want a whole stream", got)
				}
			}
		},
	}
}

func restart(t *testing.T, l loop, c caller) {
	t.Helper()
	c.call(200)
	l.weir.Settled(t, "claude", "acme", settled)
	streamEnds := c.stream()
	held(t, l, "long")

	l.weir.Kill()
	for range 4 {
		c.call(200)
	}
	if n := l.envoy.Unseen(t); n != 4 {
		t.Errorf("without weir Envoy admitted %d requests, want 4", n)
	}

	l.weir.Again(t)
	for range 3 {
		c.call(200)
	}
	c.call(429)
	if n := l.envoy.Unseen(t); n != 4 {
		t.Errorf("with weir back Envoy admitted %d more requests unseen, want 0", n-4)
	}
	l.weir.Settled(t, "claude", "acme", harness.Uses(3, 96, 126))

	// The stream was charged by the weir before: its report does no harm.
	streamEnds()
	harness.Eventually(t, 10*time.Second, "the stream's report has come", func() error {
		m, err := l.weir.Metrics(t)
		if err == nil && m[`weir_reports_total{door="rls",result="unknown"}`] != 1 {
			err = fmt.Errorf("reports: %g", harness.Sum(m, "weir_reports_total"))
		}
		return err
	})
	l.weir.Settled(t, "claude", "acme", harness.Uses(3, 96, 126))
}

// While weir is frozen Envoy waits its two seconds and admits. What such a call used
// is charged when weir is back, by whichever way it is reported.
func TestFrozen(t *testing.T) {
	for _, example := range []string{"compact.yaml", "per-unit.yaml", "access-log.yaml"} {
		t.Run(example, func(t *testing.T) {
			l := newLoop(t, example, plan)
			l.weir.Freeze(t)
			slow := upstream.Behavior{Usage: &usage, Delay: upstream.Duration(time.Second)}
			answer := make(chan error, 1)
			go func() {
				got, err := harness.Send(t.Context(), l.envoy.URL, harness.Ask{Org: "acme", MaxTokens: 10, Behavior: &slow})
				if err == nil && got.Status != 200 {
					err = fmt.Errorf("status %d: %s", got.Status, got.Body)
				}
				answer <- err
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := l.up.WaitReceived(ctx, 1); err != nil {
				t.Error(err)
			}
			l.weir.Thaw()
			if err := <-answer; err != nil {
				t.Error(err)
			}
			if n := l.envoy.Unseen(t); n != 1 {
				t.Errorf("Envoy admitted %d requests without weir's answer, want 1", n)
			}
			l.weir.Settled(t, "claude", "acme", settled)
		})
	}
}

// A caller that could be held for long is answered within Envoy's patience: past that
// it would be admitted.
func TestHoldEndsBeforeEnvoyAdmits(t *testing.T) {
	l := newLoop(t, "compact.yaml", `
quotas:
- name: claude
  provider: anthropic
  control: fixed
  match: {model: "claude-*"}
  limits: {requests_per_minute: 1, input_tokens_per_minute: 100000, output_tokens_per_minute: 100000}
  hold: 10m
`)
	ask := harness.Ask{Org: "acme", MaxTokens: 10}
	harness.MustSend(t, l.envoy.URL, ask, 200)
	harness.MustSend(t, l.envoy.URL, ask, 429)
	if n := l.envoy.Unseen(t); n != 0 {
		t.Errorf("Envoy admitted %d requests without weir's answer, want 0", n)
	}
	l.weir.Settled(t, "claude", "acme", settled)
}

// A caller that is held and leaves takes nothing: the next one is held only until the
// first one's second is over.
func TestCancelledHold(t *testing.T) {
	l := newLoop(t, "access-log.yaml", `
quotas:
- name: claude
  provider: anthropic
  control: fixed
  match: {model: "claude-*"}
  limits: {requests_per_second: 1, requests_per_minute: 100, input_tokens_per_minute: 100000, output_tokens_per_minute: 100000}
  hold: 1500ms
`)
	ask := harness.Ask{Org: "acme", MaxTokens: 10}
	harness.MustSend(t, l.envoy.URL, ask, 200)

	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	left := make(chan error, 1)
	go func() {
		_, err := harness.Send(ctx, l.envoy.URL, ask)
		left <- err
	}()
	heldCalls := func(want float64) func() error {
		return func() error {
			m, err := l.weir.Metrics(t)
			if err == nil && m["weir_held_calls"] != want {
				err = fmt.Errorf("%g are held, want %g", m["weir_held_calls"], want)
			}
			return err
		}
	}
	harness.Eventually(t, 5*time.Second, "the second call is held", heldCalls(1))
	leave()
	if err := <-left; err == nil {
		t.Error("the answer came although the client had left")
	}
	harness.Eventually(t, 5*time.Second, "nobody is held", heldCalls(0))

	harness.MustSend(t, l.envoy.URL, ask, 200)
	if n := l.up.Totals().Received; n != 2 {
		t.Errorf("the provider received %d requests, want 2", n)
	}
	l.weir.Settled(t, "claude", "acme", harness.Uses(2, 64, 84))
	if n := l.envoy.Unseen(t); n != 0 {
		t.Errorf("Envoy admitted %d requests without weir's answer, want 0", n)
	}
}

// Two replicas are restarted one after the other under traffic: every request is
// decided, and every entry of the access log arrives.
func TestRollingRestart(t *testing.T) {
	harness.Tool(t, "bin/envoy")
	up := harness.StartUpstream(t, upstream.Options{})
	up.SetDefault(upstream.Behavior{Usage: &usage})
	// Long enough for Envoy to see it: two health checks, one second apart.
	options := harness.WeirOptions{Config: plan, DrainDelay: 4 * time.Second}
	replicas := []*harness.Weir{harness.StartWeir(t, options), harness.StartWeir(t, options)}
	envoy := harness.StartEnvoy(t, "access-log.yaml", up, replicas[0].GRPCPort, replicas[1].GRPCPort)
	envoy.SeesHealthy(t, 2)

	traffic := startTraffic(t, envoy)
	var entries float64
	for i, w := range replicas {
		w.Signal(syscall.SIGTERM)
		if err := w.Wait(30 * time.Second); err != nil {
			t.Fatalf("replica %d: %v", i, err)
		}
		n := entriesWhenStopped(t, w)
		t.Logf("replica %d stopped after %g entries", i, n)
		entries += n
		w.Again(t)
		envoy.SeesHealthy(t, 2)
	}
	sent := traffic.stop(t)
	if n := envoy.Unseen(t); n != 0 {
		t.Errorf("Envoy admitted %d of %d requests without weir's answer, want 0", n, sent)
	}
	// One entry for each request.
	harness.Eventually(t, 15*time.Second, "every entry has arrived", func() error {
		now := entries
		for _, w := range replicas {
			m, err := w.Metrics(t)
			if err != nil {
				return err
			}
			now += harness.Sum(m, "weir_access_log_entries_total")
		}
		if now != float64(sent) {
			return fmt.Errorf("%g entries of %d requests have arrived, want %d", now, sent, sent)
		}
		return nil
	})
	t.Logf("%d requests, 0 admitted unseen, 0 entries lost", sent)
}

// entriesWhenStopped is the number of entries that a replica says it has received,
// in its last line of log.
func entriesWhenStopped(t *testing.T, w *harness.Weir) float64 {
	t.Helper()
	for line := range strings.Lines(w.Output()) {
		var said struct {
			Msg     string   `json:"msg"`
			Entries *float64 `json:"access_log_entries"`
		}
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "stopped" && said.Entries != nil {
			return *said.Entries
		}
	}
	t.Fatalf("the replica did not say how many entries it had received:\n%s", w.Output())
	return 0
}

// traffic is a number of clients that send one request after the other.
type traffic struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	sent   atomic.Int64
	failed chan string
}

func startTraffic(t *testing.T, envoy *harness.Envoy) *traffic {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	tr := &traffic{cancel: cancel, failed: make(chan string, 1)}
	t.Cleanup(cancel)
	for client := range 4 {
		ask := harness.Ask{Org: fmt.Sprintf("roll-%d", client), MaxTokens: 10}
		tr.wg.Go(func() {
			for ctx.Err() == nil {
				// Not cut off by the end of the traffic: each request is counted whole.
				got, err := harness.Send(context.WithoutCancel(ctx), envoy.URL, ask)
				tr.sent.Add(1)
				if err != nil || got.Status != 200 {
					select {
					case tr.failed <- fmt.Sprintf("status %d, %v: %s", got.Status, err, got.Body):
					default:
					}
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	return tr
}

// stop ends the traffic and returns the number of requests sent.
func (tr *traffic) stop(t *testing.T) int {
	t.Helper()
	tr.cancel()
	tr.wg.Wait()
	select {
	case text := <-tr.failed:
		t.Errorf("a request failed: %s", text)
	default:
	}
	return int(tr.sent.Load())
}
