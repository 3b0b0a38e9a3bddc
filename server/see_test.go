package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// explain explains a call of an organisation.
func (w *world) explain(org string) *weirv1.ExplainResponse {
	w.t.Helper()
	e, err := w.admin.Explain(w.t.Context(), &weirv1.ExplainRequest{Attributes: map[string]string{
		"org": org, "model": "claude-opus", "tenant": "chat",
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// tell reports that a call ended with a status and an error type.
func (w *world) tell(reservation string, status uint32, errorType, message string, headers ...*weirv1.Header) {
	w.t.Helper()
	if _, err := w.quota.Report(w.t.Context(), &weirv1.ReportRequest{
		Reservation: reservation, HttpStatus: status, ErrorType: errorType, ErrorMessage: message, Headers: headers,
	}); err != nil {
		w.t.Fatal(err)
	}
}

func TestOperatorsSeeWhatIsLearnedAndWhoWaits(t *testing.T) {
	inBubble(t, Options{Loaded: loaded(t, learned(rpm(60)), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		first := w.reserve(call("acme", 10, 10))
		time.Sleep(time.Second)
		w.refuse(first.GetReservation(), 5*time.Second)
		for i := range 3 { // three are told when to come back
			wantVerdict(t, w.reserve(call("acme", 10, uint64(10+i))), weirv1.Verdict_VERDICT_DENY)
		}
		list, err := w.admin.ListQuotas(t.Context(), &weirv1.ListQuotasRequest{})
		if err != nil {
			t.Fatal(err)
		}
		e := w.explain("acme")
		for name, q := range map[string]*weirv1.QuotaState{"listed": list.GetQuotas()[0], "explained": e.GetQuotas()[0]} {
			if len(q.GetQueue()) != 1 || q.GetQueue()[0].GetTenant() != "chat" || q.GetQueue()[0].GetTickets() != 3 {
				t.Errorf("%s: queue %v", name, q.GetQueue())
			}
		}
		p := e.GetPaces()[0]
		if p.GetLastClass() != "quota" || time.Since(p.GetLastClassAt().AsTime()) != 0 || p.GetProbesSpent() != 1 ||
			p.GetLimitPerMinute() != 60 || p.GetLimitSource() != "configured" {
			t.Errorf("pace %v", p)
		}
		if len(e.GetQuotas()[0].GetLimits()) > 0 || len(e.GetQuotas()[0].GetPaces()) > 0 {
			t.Errorf("said twice: %v", e.GetQuotas()[0])
		}
	})
}

func TestOperatorsSeeTheSpendGateAndOverload(t *testing.T) {
	inBubble(t, Options{Loaded: loaded(t, learned(rpm(600)), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		w.tell(w.reserve(call("acme", 10, 10)).GetReservation(), 529, "overloaded_error", "Overloaded")
		q := w.explain("acme").GetQuotas()[0]
		if q.GetOverloadRatePerMinute() <= 0 || q.GetSpendUntil() != nil {
			t.Errorf("overloaded: %v", q)
		}
		time.Sleep(time.Minute)
		w.tell(w.reserve(call("acme", 10, 10)).GetReservation(), 402, "billing_error", "credit is used up")
		q = w.explain("acme").GetQuotas()[0]
		if left := time.Until(q.GetSpendUntil().AsTime()); left != 15*time.Minute || q.GetOverloadRatePerMinute() != 0 {
			t.Errorf("spent: %v, for %v", q, left)
		}
	})
}

// gauge says what /metrics shows for a series, written as Prometheus does.
func (w *world) gauge(series string) string {
	w.t.Helper()
	_, text, _ := w.fetch("GET", "/metrics", "")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "missing"
}

func TestMetricsShowWhatIsLearnedAndWhoWaits(t *testing.T) {
	spec := learned(rpm(60))
	spec.Quotas[0].Tenants = map[string]limiter.TenantSpec{"chat": {Weight: 2}, "idle": {}}
	inBubble(t, Options{Loaded: loaded(t, spec, "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		first := w.reserve(call("acme", 10, 10))
		time.Sleep(time.Second)
		w.refuse(first.GetReservation(), 5*time.Second)
		for i := range 4 {
			ask := call("acme", 10, 10)
			if i > 0 {
				ask.Attributes["tenant"] = fmt.Sprint("tenant-", i)
			}
			wantVerdict(t, w.reserve(ask), weirv1.Verdict_VERDICT_DENY)
		}
		other := w.reserve(call("globex", 10, 10))
		w.tell(other.GetReservation(), 402, "billing_error", "credit is used up")
		for series, want := range map[string]string{
			`weir_pace_events_total{event="rate",meter="requests",owner="opus"}`: "1",
			`weir_pace_limit{meter="requests",owner="opus"}`:                     "120",
			// Others came since: what one tenant said alone closes the quota to them for a second.
			`weir_pace_backlog{meter="requests",owner="opus"}`:                     "1.97",
			`weir_quota_spend_gate_seconds{owner="opus"}`:                          "900",
			`weir_quota_overloaded{owner="opus"}`:                                  "0",
			`weir_quota_in_flight_cap{owner="opus"}`:                               "0",
			`weir_quota_waiting{owner="opus",state="appointed",tenant="chat"}`:     "1",
			`weir_quota_waiting{owner="opus",state="appointed",tenant="idle"}`:     "0",
			`weir_quota_waiting{owner="opus",state="appointed",tenant="other"}`:    "3",
			`weir_quota_waiting{owner="opus",state="held",tenant="other"}`:         "0",
			`weir_quota_waiting{owner="opus",state="appointed",tenant="tenant-1"}`: "missing",
		} {
			if got := w.gauge(series); got != want {
				t.Errorf("%s is %s, want %s", series, got, want)
			}
		}
	})
}

// lines are those of the log that say what, and nothing of others.
func (w *world) lines(what string) (found []string) {
	for line := range strings.Lines(w.log.String()) {
		if strings.Contains(line, what) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func (w *world) wantLines(n int, what string, parts ...string) {
	w.t.Helper()
	found := w.lines(what)
	if len(found) != n {
		w.t.Errorf("%d lines say %q, want %d:\n%s", len(found), what, n, w.log)
		return
	}
	for _, part := range parts {
		if !strings.Contains(found[n-1], part) {
			w.t.Errorf("%q lacks %s", found[n-1], part)
		}
	}
}

func TestEachLearnedChangeIsOneLine(t *testing.T) {
	spec := learned(rpm(60))
	spec.Quotas[0].Mode = limiter.HintLimits
	inBubble(t, Options{Loaded: loaded(t, spec, "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		// Five answers state one limit: a line for the first.
		for range 5 {
			r := w.reserve(call("acme", 10, 10))
			time.Sleep(2 * time.Second)
			w.tell(r.GetReservation(), 200, "", "", &weirv1.Header{Name: "anthropic-ratelimit-requests-limit", Value: "4000"},
				&weirv1.Header{Name: "anthropic-ratelimit-requests-remaining", Value: "3990"})
		}
		w.wantLines(1, "learned a limit from headers", "limit_per_minute=4000", "rate_before=6", "meter=requests", "quota=opus", "of.org=acme")

		// An overload begins, and ends by itself.
		for range 3 {
			r := w.reserve(call("acme", 10, 10))
			w.tell(r.GetReservation(), 529, "overloaded_error", "Overloaded")
			time.Sleep(time.Second)
		}
		w.wantLines(1, "the upstream is overloaded")
		w.wantLines(0, "not overloaded any more")
		time.Sleep(time.Minute)
		w.wantLines(1, "not overloaded any more", "quota=opus")

		// The money is spent: what was on its way is refused too.
		one, two := w.reserve(call("acme", 10, 10)), w.reserve(call("acme", 10, 10))
		w.tell(one.GetReservation(), 402, "billing_error", "credit is used up")
		time.Sleep(5 * time.Second)
		w.tell(two.GetReservation(), 402, "billing_error", "credit is used up")
		time.Sleep(2 * time.Second)
		w.wantLines(1, "the money is spent", "until=")
	})
}

func TestALackOfRightsIsWrittenOnceAMinute(t *testing.T) {
	inBubble(t, Options{Loaded: loaded(t, learned(rpm(600)), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		for range 9 { // in 90 seconds
			w.tell(w.reserve(call("acme", 10, 10)).GetReservation(), 429, "rate_limit_error", "Extra usage is required for long context requests.")
			time.Sleep(10 * time.Second)
		}
		w.wantLines(2, "lacks a right", "quota=opus")
	})
}

func TestACapOnOpenCallsIsWrittenWhenItFalls(t *testing.T) {
	inBubble(t, Options{Loaded: loaded(t, learned(rpm(600)), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		var open []string
		for range 9 {
			open = append(open, w.reserve(call("acme", 10, 10)).GetReservation())
		}
		w.tell(open[8], 429, "rate_limit_error", "Number of concurrent connections has exceeded your rate limit")
		time.Sleep(2 * time.Second)
		w.wantLines(1, "learned how many calls may be open", "in_flight_cap=7", "cap_before=0")
		w.tell(open[0], 200, "", "") // it grows by a seventh: nothing to say
		time.Sleep(2 * time.Second)
		w.wantLines(1, "learned how many calls may be open")
	})
}

// At each door at which reports come in, an answer that nobody can mean is counted.
func TestOddAnswersAreCountedAtEachDoor(t *testing.T) {
	inBubble(t, Options{Loaded: loaded(t, learned(rpm(600)), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		const series = `weir_odd_answers_total{what="retry_after"}`
		if got := w.gauge(series); got != "0" {
			t.Fatalf("%s is %s", series, got)
		}
		odd := func(r *weirv1.ReserveResponse) {
			w.tell(r.GetReservation(), 429, "rate_limit_error", "", &weirv1.Header{Name: "retry-after", Value: "-7"})
		}
		odd(w.reserve(call("acme", 10, 10)))
		if got := w.gauge(series); got != "1" {
			t.Errorf("after a report: %s is %s", series, got)
		}
		// A stream-done call of Envoy's, and an access log entry, settle by the same hands.
		for i, r := range []*report{
			{status: 429, retryAfter: "soon", ref: Ref{RequestID: "r-1"}},
			{status: 429, retryAfter: "99999999"},
		} {
			w.server.rls.settler.settle(t.Context(), w.server.d.now(), w.server.d.loaded.Load(), r)
			if got := w.gauge(series); got != fmt.Sprint(2+i) {
				t.Errorf("after %+v: %s is %s", r, series, got)
			}
		}
	})
}

// A second call of a minute that admits sixty is refused by the pace, and everything that
// is said to anybody says so.
func TestWhatReallyRefusesIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		drive       func(*world)
		cause, text string
	}{
		"pace": {func(*world) {}, "pace", "the learned pace of opus/requests (60 a minute, burst 1.0 s) has room in 1.0 s"},
		"gate": {func(w *world) {
			w.refuse(w.reserve(call("acme", 10, 10)).GetReservation(), 9*time.Second)
			time.Sleep(time.Second)
		}, "gate", "the upstream refused opus/requests and is asked again in 8.0 s"},
		"spend": {func(w *world) {
			w.tell(w.reserve(call("acme", 10, 10)).GetReservation(), 402, "billing_error", "credit is used up")
			time.Sleep(time.Minute)
		}, "spend", "the money of opus is spent: the spend gate is shut until 2000-01-01T00:15:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{Loaded: loaded(t, learned(rpm(60)), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
				c.drive(w)
				if name == "pace" {
					w.reserve(call("acme", 10, 10))
				}
				e := w.explain("acme")
				if e.GetCause() != c.cause || !strings.HasPrefix(e.GetSummary(), "The call would be denied: "+c.text+". It would pass in ") {
					t.Errorf("explained by %q: %s", e.GetCause(), e.GetSummary())
				}
				if e.GetRefusedBy().GetRemaining() != 0 || e.GetRefusedBy().GetMeter() != "requests" {
					t.Errorf("refused by %v", e.GetRefusedBy())
				}
				r, err := w.server.rls.ShouldRateLimit(t.Context(), request("llm", "org=acme model=claude-opus tenant=chat input_tokens=1 max_tokens=1"))
				if err != nil || r.GetOverallCode() != rlsv3.RateLimitResponse_OVER_LIMIT {
					t.Fatalf("%v, %v", r, err)
				}
				if s := r.GetStatuses()[0]; s.GetLimitRemaining() != 0 {
					t.Errorf("%d of %d are said to be left", s.GetLimitRemaining(), s.GetCurrentLimit().GetRequestsPerUnit())
				}
				if body := string(r.GetRawBody()); !strings.Contains(body, `"message":"`+c.text+"; try again in ") {
					t.Errorf("said %s", body)
				}
			})
		})
	}
}

func TestATenantThatHasHadItsShareIsToldSo(t *testing.T) {
	spec := learned(rpm(600))
	spec.Quotas[0].Tenants = map[string]limiter.TenantSpec{"chat": {Ceiling: 0.01}}
	inBubble(t, Options{Loaded: loaded(t, spec, "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		for range 6 {
			wantVerdict(t, w.reserve(call("acme", 10, 10)), weirv1.Verdict_VERDICT_ALLOW)
			time.Sleep(100 * time.Millisecond)
		}
		e := w.explain("acme")
		if want := "The call would be denied: the tenant has had its share of opus, and gets more in "; e.GetCause() != "ceiling" || !strings.HasPrefix(e.GetSummary(), want) {
			t.Errorf("explained by %q: %s", e.GetCause(), e.GetSummary())
		}
		wantVerdict(t, w.reserve(call("acme", 10, 10)), weirv1.Verdict_VERDICT_DENY)
	})
}

func TestOperatorsClearGates(t *testing.T) {
	inBubble(t, Options{Loaded: loaded(t, learned(rpm(60)), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		clearGate := func(org, meter string) uint32 {
			t.Helper()
			r, err := w.admin.ClearGate(t.Context(), &weirv1.ClearGateRequest{Owner: "opus", Attributes: map[string]string{"org": org}, Meter: meter})
			if err != nil {
				t.Fatal(err)
			}
			return r.GetGates()
		}
		// A refusal says to come back in a minute; the operator knows better. Another
		// organisation's gate, and another meter's, are none of that.
		w.refuse(w.reserve(call("acme", 10, 10)).GetReservation(), time.Minute)
		time.Sleep(time.Second)
		if n := clearGate("globex", "") + clearGate("acme", "input_tokens"); n != 0 {
			t.Errorf("%d gates of others were shut", n)
		}
		denied := w.reserve(call("acme", 10, 10))
		wantVerdict(t, denied, weirv1.Verdict_VERDICT_DENY)
		if n := clearGate("acme", "requests"); n != 1 {
			t.Errorf("%d gates were shut, want 1", n)
		}
		if e := w.explain("acme"); e.GetPaces()[0].GetGateUntil() != nil {
			t.Errorf("still shut: %v", e.GetPaces()[0])
		}
		again := call("acme", 10, 10)
		again.Ticket = denied.GetTicket()
		one := w.reserve(again)
		wantVerdict(t, one, weirv1.Verdict_VERDICT_ALLOW)

		// The money is paid in.
		w.tell(one.GetReservation(), 402, "billing_error", "credit is used up")
		time.Sleep(2 * time.Second)
		denied = w.reserve(call("acme", 10, 10))
		wantVerdict(t, denied, weirv1.Verdict_VERDICT_DENY)
		if n := clearGate("acme", ""); n != 1 {
			t.Errorf("%d gates were shut, want 1", n)
		}
		if e := w.explain("acme"); e.GetQuotas()[0].GetSpendUntil() != nil {
			t.Errorf("still spent: %v", e.GetQuotas()[0])
		}
		again.Ticket = denied.GetTicket()
		wantVerdict(t, w.reserve(again), weirv1.Verdict_VERDICT_ALLOW)
	})
}

// Who is held while a gate is shut is let in when it is cleared.
func TestAClearedGateLetsInWhoIsHeld(t *testing.T) {
	spec := learned(rpm(60))
	inBubble(t, Options{Loaded: loaded(t, spec, "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		w.refuse(w.reserve(call("acme", 10, 10)).GetReservation(), 20*time.Second)
		start := time.Now()
		answer := make(chan *weirv1.ReserveResponse, 1)
		go func() {
			held := call("acme", 10, 10)
			held.MaxWait = durationpb.New(30 * time.Second)
			r, err := w.quota.Reserve(t.Context(), held)
			if err != nil {
				t.Error(err)
			}
			answer <- r
		}()
		time.Sleep(3 * time.Second)
		if _, err := w.admin.ClearGate(t.Context(), &weirv1.ClearGateRequest{Owner: "opus", Attributes: map[string]string{"org": "acme"}}); err != nil {
			t.Fatal(err)
		}
		wantVerdict(t, <-answer, weirv1.Verdict_VERDICT_ALLOW)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("let in after %v", took)
		}
	})
}

// A quota that is told apart by org is reset for one org; what it only matches by need not
// be said.
func TestAResetNeedsWhatTellsQuotasApart(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		w.reserve(call("acme", 10, 10))
		r, err := w.admin.ResetLimit(t.Context(), &weirv1.ResetLimitRequest{Owner: "opus", Attributes: map[string]string{"org": "acme"}})
		if err != nil || r.GetCounters() != 3 {
			t.Errorf("%v, %v", r, err)
		}
		if n := w.used("acme", "requests"); n != 0 {
			t.Errorf("%d are used still", n)
		}
	})
}
