package limiter

import (
	"testing"
	"time"
)

// begins reports that an answer has begun, with headers.
func (w *timeline) begins(now Instant, id ID, change ...func(*Outcome)) Settlement {
	w.t.Helper()
	s := w.l.Report(now, id, "", outcomeOf(ClassUnset, append([]func(*Outcome){func(o *Outcome) { o.Progress = true }}, change...)...))
	if !s.Applied || s.Ending != Open {
		w.t.Fatalf("%s: the report of progress: %+v", now.Sub(t0), s)
	}
	return s
}

// What the headers say when an answer begins counts then, and not when it ends: an answer
// may take a minute.
func TestHeadersCountWhenAnAnswerBegins(t *testing.T) {
	input := Estimate{InputTokens: 1000, HasInput: true, MaxTokens: 1, HasMax: true, Exact: true}
	w := newTimeline(t, paced(CapLimits, 0, 60_000, 0), Options{}) // 1000 a second
	long := w.estimated(t0, input)
	w.begins(at(500*time.Millisecond), long.ID, header(InputTokens, 60_000, 50_000))
	got := w.pace(at(500*time.Millisecond), InputTokens)
	// 10,000 were not drained when it was sent, half a second before; what they say may be wrong by 750.
	if want := 10_000.0 - 500 - 750; !near(got.Backlog, want, 1) {
		t.Errorf("a backlog of %.0f, want %.0f", got.Backlog, want)
	}
	if d := w.estimated(at(500*time.Millisecond), input); d.Verdict == Allowed {
		t.Error("another was let in, into a bucket of which the upstream said that it is in debt")
	}
	// Its end says the same again, and that is no news.
	w.report(at(5*time.Second), long.ID, ClassOK, used(1000, 1), header(InputTokens, 60_000, 50_000))
	got = w.pace(at(5*time.Second), InputTokens)
	if want := 10_000.0 - 5000 - 750; !near(got.Backlog, want, 1) {
		t.Errorf("in the end a backlog of %.0f, want %.0f", got.Backlog, want)
	}
}

// A limit that an answer states when it begins is adopted then, and lets in who waits.
func TestALimitCountsWhenAnAnswerBegins(t *testing.T) {
	w := newTimeline(t, paced(HintLimits, 60, 0, 0), Options{})
	id := w.admit(t0)
	for range 10 {
		w.held(t0)
	}
	if s := w.begins(at(500*time.Millisecond), id, header(Requests, 6000, 6000)); !s.Adopted {
		t.Errorf("no limit was adopted: %+v", s)
	}
	w.pass(at(600*time.Millisecond), nil)
	if len(w.order) != 10 {
		t.Errorf("%d of 10 were let in", len(w.order))
	}
}

// Whose word does not count at the end of an answer is not believed at its beginning.
func TestABeginningIsBelievedAsFarAsAnEnd(t *testing.T) {
	w := newTimeline(t, paced(CapLimits, 600, 0, 0), Options{})
	w.admit(t0, of("honest"))
	w.admit(t0, of("honest"))
	id := w.admit(t0, of("liar"))
	before := w.pace(at(100*time.Millisecond), Requests)
	w.begins(at(100*time.Millisecond), id, header(Requests, 6, 0), func(o *Outcome) { o.Trusted = false })
	w.begins(at(100*time.Millisecond), id, func(o *Outcome) {
		o.Trusted, o.Class, o.RetryAfter = false, ClassQuota, time.Minute
	})
	if got := w.pace(at(100*time.Millisecond), Requests); got != before {
		t.Errorf("%+v became %+v", before, got)
	}
}
