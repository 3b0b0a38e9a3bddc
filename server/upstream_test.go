package server

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// hidden is an upstream with a limit on requests that nobody is told: a bucket that
// drains at its rate. It is safe for concurrent use.
type hidden struct {
	perSecond, burst float64

	mu       sync.Mutex
	room     float64
	at       time.Time
	ok, over int
}

func newHidden(perSecond, burst float64) *hidden {
	return &hidden{perSecond: perSecond, burst: burst, room: burst, at: time.Now()}
}

// call answers a call: with 200, or with 429 and when there is room again, in whole
// seconds.
func (u *hidden) call() (status uint32, retryAfter time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	u.room = min(u.burst, u.room+u.perSecond*now.Sub(u.at).Seconds())
	u.at = now
	if u.room < 1 {
		u.over++
		return 429, time.Duration(math.Ceil((1-u.room)/u.perSecond)) * time.Second
	}
	u.room--
	u.ok++
	return 200, 0
}

// count starts counting anew, and returns what was counted.
func (u *hidden) count() (ok, over int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	ok, over = u.ok, u.over
	u.ok, u.over = 0, 0
	return ok, over
}

// upstreams are the two ways in which one limit of 600 requests a minute is enforced.
func upstreams() map[string]func() *hidden {
	return map[string]func() *hidden{
		"over a minute": func() *hidden { return newHidden(10, 600) },
		"over a second": func() *hidden { return newHidden(10, 10) },
	}
}

// steady lets callers run for a while, and then for two minutes that count, and checks that they get at least so much of what the upstream grants, with at most so
// many refusals, both in percent.
func steady(t *testing.T, up *hidden, warm time.Duration, least, most float64) {
	t.Helper()
	time.Sleep(warm)
	up.count()
	const counted = 2 * time.Minute
	time.Sleep(counted)
	ok, over := up.count()
	used := 100 * float64(ok) / (up.perSecond * counted.Seconds())
	refused := 100 * float64(over) / float64(max(ok+over, 1))
	t.Logf("used %.1f %%, refused %.2f %%", used, refused)
	if used < least || refused > most {
		t.Errorf("used %.1f %% of the upstream with %.2f %% refused, want at least %.0f and at most %.1f", used, refused, least, most)
	}
}

// caller asks, calls and reports for as long as ctx lives.
type caller struct {
	w      *world
	up     *hidden
	tenant string
	wait   time.Duration
}

func (c *caller) run(ctx context.Context) {
	retry := false
	for ctx.Err() == nil {
		req := call("acme", 10, 10)
		req.Attributes["tenant"], req.Retry = c.tenant, retry
		r := c.w.admitted(ctx, req, c.wait)
		if r == nil {
			return
		}
		time.Sleep(200*time.Millisecond + r.GetDelay().AsDuration())
		status, after := c.up.call()
		report := &weirv1.ReportRequest{Reservation: r.GetReservation(), HttpStatus: status}
		ten := uint64(10)
		if retry = status != 200; retry {
			report.ErrorType, report.RetryAfter = "rate_limit_error", durationpb.New(after)
		} else {
			report.Usage = &weirv1.ReportedUsage{InputTokens: &ten, OutputTokens: &ten}
		}
		if _, err := c.w.quota.Report(ctx, report); err != nil && ctx.Err() == nil {
			c.w.t.Errorf("Report: %v", err)
		}
	}
}

// admitted asks until it is let in, as a good caller does; nil if ctx ends before.
func (w *world) admitted(ctx context.Context, req *weirv1.ReserveRequest, wait time.Duration) *weirv1.ReserveResponse {
	if wait > 0 {
		req.MaxWait = durationpb.New(wait)
	}
	for {
		r, err := w.quota.Reserve(ctx, req)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			w.t.Errorf("Reserve: %v", err)
			return nil
		case r.GetVerdict() == weirv1.Verdict_VERDICT_ALLOW:
			return r
		}
		req.Ticket = r.GetTicket()
		select {
		case <-time.After(r.GetRetryAfter().AsDuration()):
		case <-ctx.Done():
			return nil
		}
	}
}

// callers runs so many callers of ten tenants until f has ended.
func callers(t *testing.T, w *world, up *hidden, n int, wait time.Duration, f func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for i := range n {
		c := &caller{w: w, up: up, tenant: string(rune('a' + i%10)), wait: wait}
		running.Go(func() { c.run(ctx) })
	}
	f()
	stop()
	running.Wait()
}

// TestHeldCallersAreKeptAtAHiddenLimit: 200 callers who are held share an upstream
// whose limit nobody knows.
func TestHeldCallersAreKeptAtAHiddenLimit(t *testing.T) {
	for name, start := range upstreams() {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{Loaded: loaded(t, learned(), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
				up := start()
				callers(t, w, up, 200, 30*time.Second, func() { steady(t, up, 3*time.Minute, 95, 1.5) })
			})
		})
	}
}

// TestCallersWithTicketsAreKeptAtAHiddenLimit: the same for 40 callers who come back
// by themselves.
func TestCallersWithTicketsAreKeptAtAHiddenLimit(t *testing.T) {
	for name, start := range upstreams() {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{Loaded: loaded(t, learned(), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
				up := start()
				callers(t, w, up, 40, 0, func() { steady(t, up, 3*time.Minute, 95, 1.5) })
			})
		})
	}
}

// proxyCaller is a caller behind a proxy that asks in its own protocol.
type proxyCaller struct {
	s      *rls
	up     *hidden
	tenant string
}

func (c *proxyCaller) run(ctx context.Context, t *testing.T) {
	tries := "0"
	for ctx.Err() == nil {
		bounded, done := context.WithTimeout(ctx, 20*time.Second)
		r, err := c.s.ShouldRateLimit(bounded, request("llm", "org=acme model=claude-opus tenant="+c.tenant+" input_tokens=10 max_tokens=10 retry="+tries))
		done()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			t.Errorf("ShouldRateLimit: %v", err)
			return
		}
		if r.GetOverallCode() != rlsv3.RateLimitResponse_OK {
			tries = "1"
			wait := time.Duration(0)
			for _, h := range r.GetResponseHeadersToAdd() {
				if h.GetKey() == "retry-after-ms" {
					wait, _ = time.ParseDuration(h.GetValue() + "ms")
				}
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
			continue
		}
		time.Sleep(200 * time.Millisecond)
		status, after := c.up.call()
		settle := "reservation=" + r.GetDynamicMetadata().GetFields()["reservation"].GetStringValue() + " details=via_upstream attempts=1"
		if tries = "0"; status == 200 {
			settle += " status=200 input_tokens=10 output_tokens=10 last_event=message_stop"
		} else {
			tries = "1"
			settle += fmt.Sprintf(" status=429 error_type=rate_limit_error retry-after=%.3f", after.Seconds())
		}
		if _, err := c.s.ShouldRateLimit(ctx, request("llm", settle)); err != nil && ctx.Err() == nil {
			t.Errorf("report: %v", err)
		}
	}
}

// TestCallersBehindAProxyAreKeptAtAHiddenLimit: the same over Envoy's protocol, for
// 40 callers who are held as long as the quota says, and for those who are told to come
// back and bring nothing but the number of their tries.
func TestCallersBehindAProxyAreKeptAtAHiddenLimit(t *testing.T) {
	for name, hold := range map[string]time.Duration{"held": 15 * time.Second, "told to come back": 0} {
		for enforced, start := range upstreams() {
			t.Run(name+", "+enforced, func(t *testing.T) {
				spec := learned()
				spec.Quotas[0].Hold = hold
				inBubble(t, Options{Loaded: loaded(t, spec, "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
					ctx, stop := context.WithCancel(t.Context())
					var running sync.WaitGroup
					up := start()
					for i := range 40 {
						c := &proxyCaller{s: w.server.rls, up: up, tenant: string(rune('a' + i%10))}
						running.Go(func() { c.run(ctx, t) })
					}
					steady(t, up, 3*time.Minute, 95, 1.5)
					stop()
					running.Wait()
				})
			})
		}
	}
}
