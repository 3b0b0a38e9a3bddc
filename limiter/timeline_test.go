package limiter

import (
	"encoding/binary"
	"math"
	"testing"
	"time"
)

// timeline drives one learned quota of the organisation acme, instant by instant,
// through what a store may call.
type timeline struct {
	t   *testing.T
	l   *Limiter
	p   *Plan
	ids uint64

	granted map[Ticket]Decision
	times   map[Ticket]Instant
	order   []Ticket // of those that were let in after they were held
}

func newTimeline(t *testing.T, q QuotaSpec, o Options) *timeline {
	t.Helper()
	p, err := Compile(Spec{Quotas: []QuotaSpec{q}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &timeline{t: t, l: New(o), p: p, granted: map[Ticket]Decision{}, times: map[Ticket]Instant{}}
}

// paced is a quota with a limit for each meter, in units a minute; 0 is none.
func paced(mode LimitMode, requests, input, output uint64) QuotaSpec {
	q := QuotaSpec{Name: "q", Learn: true, Mode: mode}
	for m, n := range [...]uint64{requests, input, output} {
		if n > 0 {
			q.Limits = append(q.Limits, LimitSpec{Meter: Meter(m), Amount: n, Window: time.Minute})
		}
	}
	return q
}

// one is a call that takes one unit of everything.
var one = Estimate{Requests: 1, InputTokens: 1, HasInput: true, MaxTokens: 1, HasMax: true, Exact: true}

// estimated asks with an estimate.
func (w *timeline) estimated(now Instant, e Estimate, change ...func(*Ask)) Decision {
	w.t.Helper()
	w.ids++
	a := &Ask{Open: true, Tenant: "t", TTL: MaxTTL}
	binary.LittleEndian.PutUint64(a.ID[8:], w.ids)
	for _, f := range change {
		f(a)
	}
	w.p.MatchAttributes(a, "", -1, []Entry{{"org", "acme"}}, e)
	w.l.Route(a)
	var d Decision
	w.l.Decide(now, a, &d)
	return d
}

func (w *timeline) ask(now Instant, change ...func(*Ask)) Decision {
	w.t.Helper()
	return w.estimated(now, one, change...)
}

// admit asks and must be let in at once.
func (w *timeline) admit(now Instant, change ...func(*Ask)) ID {
	w.t.Helper()
	d := w.ask(now, change...)
	if d.Verdict != Allowed || d.Delay > 0 {
		w.t.Fatalf("%s: %s with a delay of %s, want to be let in at once", now.Sub(t0), d.Verdict, d.Delay)
	}
	return d.ID
}

// held asks and must be held.
func (w *timeline) held(now Instant, change ...func(*Ask)) Ticket {
	w.t.Helper()
	d := w.ask(now, append([]func(*Ask){waits(now.Add(10 * time.Minute))}, change...)...)
	if d.Verdict != Held {
		w.t.Fatalf("%s: %s, want to be held", now.Sub(t0), d.Verdict)
	}
	return d.Ticket
}

func waits(until Instant) func(*Ask) { return func(a *Ask) { a.HoldUntil = until } }
func of(tenant string) func(*Ask)    { return func(a *Ask) { a.Tenant = tenant } }
func again(a *Ask)                   { a.Retry = true }

// outcomeOf is a report of class: the one place where these tests make one.
func outcomeOf(class Class, change ...func(*Outcome)) Outcome {
	o := Outcome{Class: class, Trusted: true}
	if class == ClassOK {
		o.Usage = Usage{Requests: 1, InputTokens: 1, OutputTokens: 1}
		o.HasInput, o.HasOutput, o.Learn = true, true, true
	} else {
		o.RefundRequests, o.RefundInput, o.RefundOutput = true, true, true
	}
	for _, f := range change {
		f(&o)
	}
	return o
}

func after(d time.Duration) func(*Outcome) { return func(o *Outcome) { o.RetryAfter = d } }

func named(m Meter) func(*Outcome) { return func(o *Outcome) { o.Named, o.HasNamed = m, true } }

func used(input, output uint64) func(*Outcome) {
	return func(o *Outcome) { o.Usage.InputTokens, o.Usage.OutputTokens = input, output }
}

func header(m Meter, limit, remaining uint64) func(*Outcome) {
	return func(o *Outcome) {
		o.Headers[m] = HeaderState{Limit: limit, Remaining: remaining, HasLimit: true, HasRemaining: true}
	}
}

func (w *timeline) report(now Instant, id ID, class Class, change ...func(*Outcome)) {
	w.t.Helper()
	if s := w.l.Report(now, id, "", outcomeOf(class, change...)); !s.Applied {
		w.t.Fatalf("%s: the report was not applied: %s", now.Sub(t0), s.Ending)
	}
}

func (w *timeline) pace(now Instant, m Meter) PaceView {
	w.t.Helper()
	q := w.l.Quotas(now, 0)
	if len(q) != 1 {
		w.t.Fatalf("%d quotas", len(q))
	}
	return q[0].Paces[m]
}

// pass lets time go by until end, calling each as it is let in after it was held.
func (w *timeline) pass(end Instant, each func(now Instant, d Decision)) {
	w.t.Helper()
	for range 1_000_000 {
		at, set := w.l.Next(0)
		if at > end {
			return
		}
		w.l.Advance(at, 0, set)
		for _, e := range w.l.Ready(0) {
			if e.Ticket == 0 {
				continue
			}
			if _, twice := w.times[e.Ticket]; twice {
				w.t.Fatalf("ticket %d was decided twice", e.Ticket)
			}
			w.granted[e.Ticket], w.times[e.Ticket] = e.Decision, at
			if e.Decision.Verdict == Allowed {
				w.order = append(w.order, e.Ticket)
			}
			if each != nil {
				each(at, e.Decision)
			}
		}
	}
	w.t.Fatal("time does not pass")
}

// busy keeps n callers waiting from one instant to another, and answers whoever is let
// in at once.
func (w *timeline) busy(from, to Instant, n int, class Class, change ...func(*Outcome)) (admitted int) {
	w.t.Helper()
	var begin func(now Instant)
	serve := func(now Instant, d Decision) {
		if d.Verdict != Allowed {
			return
		}
		admitted++
		w.report(now, d.ID, class, change...)
		begin(now)
	}
	begin = func(now Instant) {
		for range 10_000 {
			d := w.ask(now, waits(now.Add(time.Hour)))
			if d.Verdict != Allowed {
				return
			}
			admitted++
			w.report(now, d.ID, class, change...)
		}
		w.t.Fatalf("%s: nothing holds callers up", now.Sub(t0))
	}
	for range n {
		begin(from)
	}
	w.pass(to, serve)
	return admitted
}

func near(got, want, tolerance float64) bool { return math.Abs(got-want) <= tolerance }

// wantPace checks the rate and the burst of requests.
func (w *timeline) wantPace(now Instant, rate, burst float64, kind EventKind) {
	w.t.Helper()
	v := w.pace(now, Requests)
	if !near(v.Rate, rate, 0.01) || !near(v.Burst, burst, 0.001) || v.LastEvent != kind {
		w.t.Errorf("%s: %.3f a minute, bursts of %.3f s, last event %s; want %.3f, %.3f, %s",
			now.Sub(t0), v.Rate, v.Burst, v.LastEvent, rate, burst, kind)
	}
}
