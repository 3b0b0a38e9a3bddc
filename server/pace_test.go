package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// learned is a plan with one quota whose limits nobody knows, but for those given.
func learned(limits ...limiter.LimitSpec) limiter.Spec {
	return limiter.Spec{Quotas: []limiter.QuotaSpec{{
		Name: "opus", Provider: "anthropic", Learn: true, Limits: limits,
		Match: []limiter.AttributePattern{{Key: "model", Pattern: "claude-*"}},
	}}}
}

// rpm is a limit of so many requests a minute.
func rpm(n uint64) limiter.LimitSpec {
	return limiter.LimitSpec{Meter: limiter.Requests, Amount: n, Window: time.Minute}
}

// refuse reports that the upstream refused the call of a reservation.
func (w *world) refuse(reservation string, after time.Duration) {
	w.t.Helper()
	if _, err := w.quota.Report(w.t.Context(), &weirv1.ReportRequest{
		Reservation: reservation, HttpStatus: 429, ErrorType: "rate_limit_error", RetryAfter: durationpb.New(after),
	}); err != nil {
		w.t.Fatal(err)
	}
}

func TestARefusalIsSeenEverywhere(t *testing.T) {
	inBubble(t, Options{Loaded: loaded(t, learned(rpm(60)), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		first := w.reserve(call("acme", 10, 10))
		w.refuse(first.GetReservation(), 5*time.Second)
		time.Sleep(time.Second)

		// 1s: the meter is shut for 4 more.
		e, err := w.admin.Explain(t.Context(), &weirv1.ExplainRequest{Attributes: map[string]string{"org": "acme", "model": "claude-opus"}})
		if err != nil {
			t.Fatal(err)
		}
		if e.GetVerdict() != weirv1.Verdict_VERDICT_DENY || len(e.GetPaces()) != 3 {
			t.Fatalf("explained as %v", e)
		}
		p := e.GetPaces()[0]
		if left := time.Until(p.GetGateUntil().AsTime()).Round(time.Second); p.GetOwner() != "opus" || p.GetMeter() != "requests" ||
			p.GetLastEvent() == "none" || p.GetLastEventAt() == nil || left != 4*time.Second {
			t.Errorf("pace %v, shut for %v", p, left)
		}
		list, err := w.admin.ListQuotas(t.Context(), &weirv1.ListQuotasRequest{})
		if err != nil || len(list.GetQuotas()) != 1 || len(list.GetQuotas()[0].GetPaces()) != 3 {
			t.Errorf("listed: %v, %v", list, err)
		}
		_, text, _ := w.fetch("GET", "/metrics", "")
		for _, want := range []string{
			`weir_refusals_total{class="quota",owner="opus"} 1`,
			`weir_pace_gate_seconds{meter="requests",owner="opus"} `,
			`weir_pace_rate{meter="requests",owner="opus"} `,
		} {
			if !strings.Contains(text, want) {
				t.Errorf("metrics lack %s", want)
			}
		}
		if n := strings.Count(w.log.String(), "learned from a refusal"); n != 1 {
			t.Errorf("%d lines in the log:\n%s", n, w.log)
		}
	})
}

func TestOfManyRefusalsOneLineASecondIsLogged(t *testing.T) {
	inBubble(t, Options{Loaded: loaded(t, learned(rpm(60)), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		for i := range 40 { // of 40 organisations, in half a second
			r := w.reserve(call(fmt.Sprint("org-", i), 10, 10))
			w.refuse(r.GetReservation(), time.Second)
			time.Sleep(12 * time.Millisecond)
		}
		time.Sleep(3 * time.Second)
		log := w.log.String()
		if lines := strings.Count(log, "learned from a refusal"); lines != 1+maxPaceLines || !strings.Contains(log, "changes=19") {
			t.Errorf("%d lines:\n%s", lines, log)
		}
	})
}

func TestATicketKeepsThePlaceOfItsCallerAlone(t *testing.T) {
	inBubble(t, Options{Loaded: loaded(t, learned(rpm(60)), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		// 0s: one call a second; the first is let in, the others get places one behind
		// the other.
		w.reserve(call("acme", 10, 10))
		var tickets [][]byte
		var turns []time.Duration
		for range 3 {
			r := w.reserve(call("acme", 10, 10))
			wantVerdict(t, r, weirv1.Verdict_VERDICT_DENY)
			if len(r.GetTicket()) == 0 {
				t.Fatal("a denial without a ticket")
			}
			tickets = append(tickets, r.GetTicket())
			turns = append(turns, r.GetRetryAfter().AsDuration())
		}
		for i := 1; i < len(turns); i++ {
			if gap := turns[i] - turns[i-1]; gap < 500*time.Millisecond || gap > 1500*time.Millisecond {
				t.Errorf("turns %v: %v apart", turns, gap)
			}
		}
		// At the first one's turn: who brings another's ticket, or a forged one, is a
		// newcomer behind all; who brings the right one is let in.
		time.Sleep(turns[0])
		forged := append([]byte{}, tickets[0]...)
		forged[3] ^= 1
		for name, req := range map[string]*weirv1.ReserveRequest{
			"forged":       call("acme", 10, 10),
			"another call": call("acme", 10, 10),
		} {
			req.Ticket = forged
			if name == "another call" {
				req.Ticket = tickets[0]
				req.Attributes["model"] = "claude-sonnet"
			}
			wantVerdict(t, w.reserve(req), weirv1.Verdict_VERDICT_DENY)
		}
		mine := call("acme", 10, 10)
		mine.Ticket = tickets[0]
		wantVerdict(t, w.reserve(mine), weirv1.Verdict_VERDICT_ALLOW)
	})
}

func TestAnswersAreReadAsTheirProviderMeansThem(t *testing.T) {
	for name, header := range map[string]string{
		"openai":    "x-ratelimit-limit-requests",
		"anthropic": "anthropic-ratelimit-requests-limit",
	} {
		t.Run(name, func(t *testing.T) {
			spec := learned()
			spec.Quotas[0].Provider = name
			inBubble(t, Options{Loaded: loaded(t, spec, "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
				r := w.reserve(call("acme", 10, 10))
				time.Sleep(time.Second)
				remaining := strings.Replace(strings.Replace(header, "-limit-requests", "-remaining-requests", 1), "-requests-limit", "-requests-remaining", 1)
				if _, err := w.quota.Report(t.Context(), &weirv1.ReportRequest{
					Reservation: r.GetReservation(), HttpStatus: 200,
					Headers: []*weirv1.Header{{Name: header, Value: "300"}, {Name: remaining, Value: "299"}},
				}); err != nil {
					t.Fatal(err)
				}
				list, err := w.admin.ListQuotas(t.Context(), &weirv1.ListQuotasRequest{})
				if err != nil {
					t.Fatal(err)
				}
				if p := list.GetQuotas()[0].GetPaces()[0]; p.GetRatePerMinute() != 300 || p.GetStartup() {
					t.Errorf("learned %v, want 300 requests a minute", p)
				}
			})
		})
	}
}

func TestALittleDelayIsWaitedOutForAProxy(t *testing.T) {
	inBubble(t, Options{Loaded: loaded(t, learned(rpm(600)), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		ask := request("llm", "org=acme model=claude-opus tenant=chat input_tokens=1 max_tokens=1")
		// The burst of a second is spent at once; whoever comes next is let in when there
		// is room, a tenth of a second later.
		start := time.Now()
		for i := range 12 {
			r, err := w.server.rls.ShouldRateLimit(t.Context(), ask)
			if err != nil || r.GetOverallCode() != rlsv3.RateLimitResponse_OK {
				t.Fatalf("call %d: %v, %v", i, r, err)
			}
		}
		if took := time.Since(start); took < 150*time.Millisecond || took > 300*time.Millisecond {
			t.Errorf("twelve calls took %v, want two tenths of a second", took)
		}
		// Who has no time for that is answered at once.
		start = time.Now()
		ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer stop()
		if _, err := w.server.rls.ShouldRateLimit(ctx, ask); err != nil || time.Since(start) > 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}
