package simulate

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-project/weir/limiter"
)

// step is a call that arrives at an instant, and what the upstream makes of it.
type step struct {
	at    time.Duration
	input float64
	max   float64 // max_tokens, where that matters
	want  limiter.Class
	after time.Duration
	named limiter.Meter
}

func after(d time.Duration) limiter.Instant { return start.Add(d) }

func upstreamOf(t *testing.T, name string, limits Amounts) *upstream {
	t.Helper()
	s, err := Named(name, "W3r")
	if err != nil {
		t.Fatal(err)
	}
	s.Upstream.Limits = limits
	s = s.withDefaults()
	return newUpstream(start, &s.Upstream, 1)
}

func play(t *testing.T, u *upstream, steps []step) {
	t.Helper()
	for i, s := range steps {
		r := u.arrive(after(s.at), &call{input: s.input, guess: s.input, max: s.max})
		if r.class != s.want || r.retryAfter != s.after || (r.hasNamed && r.named != s.named) {
			t.Fatalf("step %d at %s: class %d after %s named %s, want %d, %s, %s", i, s.at, r.class, r.retryAfter, r.named, s.want, s.after, s.named)
		}
	}
}

const (
	ok    = limiter.ClassOK
	no    = limiter.ClassQuota
	ramps = limiter.ClassAcceleration
)

func TestBucketOfAMinuteHoldsAMinute(t *testing.T) {
	u := upstreamOf(t, "U1", Amounts{Requests: 60, InputTokens: 60_000, OutputTokens: 60_000})
	play(t, u, []step{
		{at: 0, input: 59_000, want: ok},
		{at: 0, input: 1_500, want: no, after: time.Second, named: limiter.InputTokens},
		{at: 0, input: 4_500, want: no, after: 4 * time.Second, named: limiter.InputTokens},
		{at: 499 * time.Millisecond, input: 1_500, want: no, after: time.Second, named: limiter.InputTokens},
		{at: 500 * time.Millisecond, input: 1_500, want: ok},
	})
	for range 58 {
		play(t, u, []step{{at: 500 * time.Millisecond, want: ok}})
	}
	// 60 requests of 60, half of one more refilled: refused calls took nothing.
	play(t, u, []step{
		{at: 500 * time.Millisecond, want: no, after: time.Second, named: limiter.Requests},
		{at: time.Second, want: ok},
	})
	if u.ours != [3]float64{61, 60_500, 0} {
		t.Errorf("used %v", u.ours)
	}
}

func TestBucketOfASecondTakesWhatIsLargerWhenItIsFull(t *testing.T) {
	u := upstreamOf(t, "U2", Amounts{Requests: 600, InputTokens: 60_000, OutputTokens: 60_000})
	play(t, u, []step{
		{at: 0, input: 3_000, want: ok}, // 2,000 in debt
		{at: 0, input: 500, want: no, after: 3 * time.Second, named: limiter.InputTokens},
		{at: 2_500 * time.Millisecond, input: 500, want: ok},
		{at: 2_500 * time.Millisecond, input: 9_000, want: no, after: time.Second, named: limiter.InputTokens},
		{at: 3_499 * time.Millisecond, input: 9_000, want: no, after: time.Second, named: limiter.InputTokens},
		{at: 3_500 * time.Millisecond, input: 9_000, want: ok},
	})
	want := [3]limiter.HeaderState{
		{Limit: 600, Remaining: 600, HasLimit: true, HasRemaining: true},
		{Limit: 60_000, Remaining: 51_000, HasLimit: true, HasRemaining: true}, // as of a bucket of a minute
		{Limit: 60_000, Remaining: 60_000, HasLimit: true, HasRemaining: true},
	}
	u.advance(after(3_700 * time.Millisecond))
	if diff := cmp.Diff(want, u.headers()); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

func TestAccelerationFollowsWhatWasAdmitted(t *testing.T) {
	u := upstreamOf(t, "U3", Amounts{Requests: 600, InputTokens: 10e6, OutputTokens: 10e6})
	// A tenth of ten a second, for ten seconds: ten at once.
	for range 10 {
		play(t, u, []step{{want: ok}})
	}
	play(t, u, []step{{want: ramps, after: time.Second}})
	admitted := map[int]int{} // by minute
	for d := time.Duration(0); d < 6*time.Minute; d += 50 * time.Millisecond {
		if u.arrive(after(d), &call{}).class == ok {
			admitted[int(d/time.Minute)]++
		}
	}
	if admitted[0] > 120 || admitted[1] < 120 || admitted[1] > 300 || admitted[5] != 600 {
		t.Errorf("admitted %v by minute, want about 80 at first, twice that next, and 600 at last", admitted)
	}
}

func TestLimitsChangeAtTheirInstants(t *testing.T) {
	u := upstreamOf(t, "U4", Amounts{Requests: 600, InputTokens: 60_000, OutputTokens: 60_000})
	for _, s := range []struct {
		at    time.Duration
		limit uint64
		could float64
	}{
		{399 * time.Second, 600, 600 + 10*399},
		{400 * time.Second, 300, 600 + 10*400},
		{799 * time.Second, 300, 600 + 10*400 + 5*399},
		{900 * time.Second, 600, 600 + 10*400 + 5*400 + 10*100},
	} {
		u.advance(after(s.at))
		if got := u.headers()[0].Limit; got != s.limit {
			t.Errorf("at %s the limit is %d, want %d", s.at, got, s.limit)
		}
		if got := u.couldServe(limiter.Requests); got < s.could-0.01 || got > s.could+0.01 {
			t.Errorf("at %s it could have served %v, want %v", s.at, got, s.could)
		}
	}
}

func TestOthersComeAThirdOfTheTime(t *testing.T) {
	u := upstreamOf(t, "U5", Amounts{Requests: 600, InputTokens: 60_000, OutputTokens: 60_000})
	for _, s := range []struct {
		at   time.Duration
		on   bool
		next time.Duration
	}{
		{0, false, 100 * time.Second},
		{100 * time.Second, true, 100 * time.Second},
		{200*time.Second - 1, true, 200*time.Second - 1},
		{200 * time.Second, false, 400 * time.Second},
		{501 * time.Second, false, 700 * time.Second},
	} {
		if on, next := u.foreignOn(after(s.at)); on != s.on || next != after(s.next) {
			t.Errorf("at %s: %v until %s, want %v until %s", s.at, on, next.Sub(start), s.on, s.next)
		}
	}
	if got := u.foreignRate(); got != 5 {
		t.Errorf("%v a second, want 5", got)
	}
	u.arriveForeign(after(0))
	if u.foreign != [3]float64{1, 100, 100} {
		t.Errorf("one took %v", u.foreign)
	}
}

func TestOverloadedInFourEpisodes(t *testing.T) {
	u := upstreamOf(t, "U6", Amounts{Requests: 600, InputTokens: 60_000, OutputTokens: 60_000})
	play(t, u, []step{
		{at: 199 * time.Second, want: ok},
		{at: 200 * time.Second, want: limiter.ClassOverload},
		{at: 240*time.Second - 1, want: limiter.ClassOverload},
		{at: 240 * time.Second, want: ok},
	})
	refused := 0
	for i := range 1000 {
		if u.arrive(after(700*time.Second+time.Duration(i)*39*time.Millisecond), &call{}).class != ok {
			refused++
		}
	}
	if refused < 850 || refused > 950 {
		t.Errorf("refused %d of 1000, want nine of ten", refused)
	}
}

func TestAnUpstreamThatTellsNothing(t *testing.T) {
	u := upstreamOf(t, "U7", Amounts{Requests: 60, InputTokens: 6000, OutputTokens: 60_000})
	u.arrive(start, &call{guess: 6000})
	r := u.arrive(start, &call{guess: 6000})
	if diff := cmp.Diff(reply{class: no}, r, cmp.AllowUnexported(reply{})); diff != "" {
		t.Error(diff)
	}
}

func TestMaxTokensAreHeldUntilTheEnd(t *testing.T) {
	u := upstreamOf(t, "U9", Amounts{Requests: 600, InputTokens: 60_000, OutputTokens: 6_000})
	c := &call{max: 4096, output: 1000, speed: 100}
	u.arrive(start, c)
	play(t, u, []step{{at: 0, max: 4096, want: no, after: 22 * time.Second, named: limiter.OutputTokens}})
	u.begin(after(0), c)
	u.finish(after(10*time.Second), c)
	// 6,000 less 1,000, and what ten seconds refill.
	play(t, u, []step{{at: 10 * time.Second, max: 6_000, want: ok}})
	if got := u.ours[limiter.OutputTokens]; got != 1000 {
		t.Errorf("used %v output tokens, want 1000", got)
	}
}

func TestOutputCountsAsItIsProduced(t *testing.T) {
	u := upstreamOf(t, "U2", Amounts{Requests: 6000, InputTokens: 60_000, OutputTokens: 6_000})
	var calls []*call
	for range 5 { // that produce three times the limit
		c := &call{max: 4096, output: 600, speed: 60}
		if r := u.arrive(start, c); r.class != ok {
			t.Fatalf("refused, though nothing was produced yet: %+v", r)
		}
		u.begin(start, c)
		calls = append(calls, c)
	}
	play(t, u, []step{
		{at: 499 * time.Millisecond, max: 4096, want: no, after: time.Second, named: limiter.OutputTokens},
	})
	u.advance(after(10 * time.Second))
	for _, c := range calls {
		u.finish(after(10*time.Second), c)
	}
	// 100 at first, 1,000 refilled, 3,000 produced: 1,900 in debt.
	play(t, u, []step{
		{at: 10 * time.Second, want: no, after: 20 * time.Second, named: limiter.OutputTokens},
		{at: 29_020 * time.Millisecond, want: ok},
	})
	if got := math.Round(u.ours[limiter.OutputTokens]); got != 3000 {
		t.Errorf("used %v, want 3000", got)
	}
}

func TestTheFirstCountOfTheInputIsCorrected(t *testing.T) {
	u := upstreamOf(t, "U1", Amounts{Requests: 60, InputTokens: 60_000, OutputTokens: 60_000})
	c := &call{input: 50_000, guess: 30_000, speed: 60}
	u.arrive(start, c)
	play(t, u, []step{{at: 0, input: 30_001, want: no, after: time.Second, named: limiter.InputTokens}})
	u.begin(start, c)
	play(t, u, []step{{at: 0, input: 30_001, want: no, after: 21 * time.Second, named: limiter.InputTokens}})
}

func TestRefusedCallsCanBeCharged(t *testing.T) {
	u := upstreamOf(t, "U1", Amounts{Requests: 2, InputTokens: 60_000, OutputTokens: 60_000})
	u.spec.ChargesRefused = true
	play(t, u, []step{
		{want: ok},
		{want: ok},
		{want: no, after: 30 * time.Second, named: limiter.Requests},
		{want: no, after: 60 * time.Second, named: limiter.Requests},
	})
}
