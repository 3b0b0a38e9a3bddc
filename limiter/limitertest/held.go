package limitertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-project/weir/limiter"
)

// asker is a caller that lets itself be held.
type asker struct {
	at     string // when it asks
	tenant string
	amount uint64
	until  string // how long it lets itself be held
	leaves string // when it gives up and hangs up, if it does
}

// heldTimeline is a test of callers that wait: what each of them is told, and when.
type heldTimeline struct {
	name   string
	opts   limiter.Options
	used   uint64 // at 0s, of 10 input tokens a minute
	give   string // when the first reservation, of 10, is given back, if at all
	askers []asker
	want   []string
}

// Held checks asks that are held: first come, first served; at the deadline at the
// latest; and nothing is charged for who left.
func Held(t *testing.T, factory Factory) {
	for _, tl := range heldTimelines() {
		t.Run(tl.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { playHeld(t, factory, tl) })
		})
	}
}

func heldTimelines() []heldTimeline {
	return []heldTimeline{
		{name: "held until there is room", used: 10, askers: []asker{
			{at: "1s", amount: 4, until: "2m"},
		}, want: []string{"0: 1m1s allowed 4/10"}},
		{name: "first come, first served", used: 10, askers: []asker{
			{at: "1s", amount: 6, until: "3m"}, {at: "2s", amount: 5, until: "3m"}, {at: "3s", amount: 1, until: "3m"},
		}, want: []string{"0: 1m1s allowed 6/10", "1: 2m2s allowed 5/10", "2: 2m2s allowed 6/10"}},
		{name: "who asks while others wait waits behind them", used: 5, askers: []asker{
			{at: "1s", amount: 6, until: "3m"}, {at: "2s", amount: 1, until: "3m"},
		}, want: []string{"0: 1m1s allowed 6/10", "1: 1m1s allowed 7/10"}},
		{name: "who cannot wait that long is told at once", used: 10, askers: []asker{
			{at: "1s", amount: 1, until: "1m"}, {at: "2s", amount: 11, until: "10m"}, {at: "3s", amount: 1},
		}, want: []string{"0: 1s denied 10/10", "1: 2s infeasible 10/10", "2: 3s denied 10/10"}},
		{name: "at the deadline it passes if there is room", used: 10, askers: []asker{
			{at: "1s", amount: 10, until: "1m1s"},
		}, want: []string{"0: 1m1s allowed 10/10"}},
		{name: "whose turn comes after the deadline is told at once", used: 5, askers: []asker{
			{at: "1s", amount: 6, until: "2m"}, {at: "2s", amount: 1, until: "30s"}, {at: "3s", amount: 1, until: "2m"},
		}, want: []string{"0: 1m1s allowed 6/10", "1: 2s denied 5/10", "2: 1m1s allowed 7/10"}},
		{name: "whose turn cannot come any more is told so", used: 10, askers: []asker{
			{at: "1s", amount: 10, until: "2m"}, {at: "2s", amount: 10, until: "1m30s"}, {at: "3s", amount: 1, until: "10m"},
		}, want: []string{"0: 1m1s allowed 10/10", "1: 1m1s denied 10/10", "2: 2m2s allowed 1/10"}},
		{name: "who leaves is not charged, and holds nobody up", used: 10, askers: []asker{
			{at: "1s", amount: 10, until: "5m", leaves: "30s"}, {at: "2s", amount: 6, until: "5m"}, {at: "3s", amount: 4, until: "5m"},
		}, want: []string{"0: 30s left", "1: 1m1s allowed 6/10", "2: 1m1s allowed 10/10"}},
		{name: "what is given back lets the first one in", used: 10, give: "20s", askers: []asker{
			{at: "1s", amount: 7, until: "5m"}, {at: "2s", amount: 4, until: "5m"},
		}, want: []string{"0: 20s allowed 7/10", "1: 1m21s allowed 4/10"}},
		{name: "few of one tenant are held", used: 10, opts: limiter.Options{MaxHeldPerTenant: 1}, askers: []asker{
			{at: "1s", tenant: "x", amount: 1, until: "5m"}, {at: "2s", tenant: "x", amount: 1, until: "5m"}, {at: "3s", tenant: "y", amount: 1, until: "5m"},
		}, want: []string{"0: 1m1s allowed 1/10", "1: 2s denied 10/10", "2: 1m1s allowed 2/10"}},
		{name: "few are held in all", used: 10, opts: limiter.Options{MaxHeld: 2}, askers: []asker{
			{at: "1s", tenant: "x", amount: 1, until: "5m"}, {at: "2s", tenant: "y", amount: 1, until: "5m"}, {at: "3s", tenant: "z", amount: 1, until: "5m"},
		}, want: []string{"0: 1m1s allowed 1/10", "1: 1m1s allowed 2/10", "2: 3s denied 10/10"}},
	}
}

// stage is where a heldTimeline is played.
type stage struct {
	*World
	began time.Time
	mu    sync.Mutex
	told  []string
}

func playHeld(t *testing.T, factory Factory, tl heldTimeline) {
	spec := quotas(limiter.QuotaSpec{Name: "q", Hold: time.Hour, Limits: []limiter.LimitSpec{meter(limiter.InputTokens, 10, time.Minute)}})
	time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute)))
	inBubble := func(tb testing.TB, o limiter.Options, _ func() limiter.Instant) Store {
		return factory(tb, o, func() limiter.Instant { return limiter.InstantOf(time.Now()) })
	}
	s := stage{World: NewWorld(t, t, inBubble, tl.opts, spec), began: time.Now(), told: make([]string, len(tl.askers))}
	s.Beyond = true
	first := s.Decide(s.now(), s.asking(asker{tenant: "first", amount: tl.used}))
	var wg sync.WaitGroup
	if tl.give != "" {
		wg.Go(func() {
			time.Sleep(duration(t, tl.give))
			if _, err := s.Store.Release(context.Background(), s.now(), s.ref(first.ID), ""); err != nil {
				t.Errorf("Release: %v", err)
			}
		})
	}
	for i, a := range tl.askers {
		wg.Go(func() { s.ask(i, a) })
	}
	wg.Wait()
	if diff := cmp.Diff(tl.want, s.told); diff != "" {
		t.Errorf("what the askers were told, and when (-want +got):\n%s", diff)
	}
	s.checkCharged(tl)
}

func (s *stage) now() limiter.Instant { return limiter.InstantOf(time.Now()) }

// asking is the request of a; those of the first one can be given back.
func (s *stage) asking(a asker) Request {
	r := Request{
		Tenant: a.tenant, Open: a.tenant == "first", ID: idOf(1),
		Attributes: []limiter.Entry{{Key: "org", Value: "o"}}, Use: limiter.Usage{InputTokens: a.amount},
	}
	if a.until != "" {
		r.HoldUntil = limiter.InstantOf(s.began).Add(duration(s.t, a.until))
	}
	return r
}

// ask makes the call of one asker and notes what it was told, and when.
func (s *stage) ask(i int, a asker) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if a.leaves != "" {
		time.AfterFunc(duration(s.t, a.leaves), cancel)
	}
	time.Sleep(duration(s.t, a.at))
	var ask limiter.Ask
	var d limiter.Decision
	s.Fill(&ask, s.asking(a))
	err := s.Store.Decide(ctx, s.now(), &ask, &d)
	text := fmt.Sprintf("%d: %s ", i, durationText(time.Since(s.began)))
	switch {
	case errors.Is(err, context.Canceled):
		text += "left"
	case err != nil:
		text += err.Error()
	default:
		text += fmt.Sprintf("%v %d/%d", d.Verdict, d.Checks[0].Used, d.Checks[0].Amount)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told[i] = text
}

// checkCharged checks that nothing else was charged than what was allowed in the last
// minute.
func (s *stage) checkCharged(tl heldTimeline) {
	want := uint64(0)
	for i, text := range s.told {
		var at, verdict string
		if _, err := fmt.Sscanf(text, fmt.Sprintf("%d: %%s %%s", i), &at, &verdict); err != nil || verdict != "allowed" {
			continue
		}
		if s.now().Sub(limiter.InstantOf(s.began).Add(duration(s.t, at))) < time.Minute {
			want += tl.askers[i].amount
		}
	}
	r := s.asking(asker{})
	r.DryRun = true
	if d := s.Decide(s.now(), r); len(tl.askers) > 0 && d.Checks[0].Used != want && want > 0 {
		s.t.Fatalf("%d are charged, %d were allowed: %s", d.Checks[0].Used, want, strings.Join(s.told, "; "))
	}
}
