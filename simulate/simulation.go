package simulate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-project/weir/limiter"
)

// start is the instant at which runs begin: a full hour, so that windows of the clock
// begin with them.
const start = limiter.Instant(1_700_000_400_000_000_000 - 1_700_000_400_000_000_000%3_600_000_000_000)

// gate is a limiter as callers see it. Each ask is answered once, with grant, refer or
// refuse of the simulation, at once or later.
type gate interface {
	// ask asks for leave to send c.
	ask(c *call)
	// arrived says that c, which was granted, is with the upstream.
	arrived(c *call)
	// begun says that the upstream began to answer c, if callers say that.
	begun(c *call)
	// report says what the upstream made of c.
	report(c *call, r *reply)
	// retry says in what time a caller whose call was refused asks again, and whether
	// it does at all.
	retry(c *call, r *reply) (time.Duration, bool)
	// restart loses all that was known.
	restart()
	// learned returns the rate, per minute, at which a meter is paced, 0 if unknown.
	learned(m limiter.Meter) float64
}

// simulation is a run.
type simulation struct {
	sc     *Scenario
	now    limiter.Instant
	end    limiter.Instant
	agenda agenda
	source *source
	net    chance // delays of the network
	luck   chance // of callers
	up     *upstream
	gate   gate
	near   Range // to the gate, and back

	left   int // items that no worker has taken yet
	undone int // items that are not done
	next   int // of the trace
	fault  error

	meters meters
}

// Run plays s. It returns an error if s is not valid, if ctx ends, or if the limiter
// does not come to rest.
func Run(ctx context.Context, s Scenario) (*Result, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("scenario %q: %w", s.Name, err)
	}
	s = s.withDefaults()
	sim := newSimulation(&s)
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		e, ok := sim.agenda.next()
		if !ok || e.at >= sim.end || sim.fault != nil || (s.Workload.Items > 0 && sim.undone == 0) {
			break
		}
		sim.now = e.at
		e.do()
	}
	if sim.fault != nil {
		return nil, fmt.Errorf("scenario %q: %w", s.Name, sim.fault)
	}
	if s.Workload.Items == 0 {
		sim.now = sim.end
	}
	return sim.result(), nil
}

func newSimulation(sc *Scenario) *simulation {
	s := &simulation{
		sc: sc, now: start, end: start.Add(time.Duration(sc.Duration)), near: sc.Network.Near,
		source: newSource(&sc.Workload, sc.Seed), net: newChance(sc.Seed, 2), luck: newChance(sc.Seed, 4),
		up: newUpstream(start, &sc.Upstream, sc.Seed),
	}
	s.meters.init(s)
	s.gate = newGate(s)
	switch w := &sc.Workload; {
	case w.Trace != nil:
		s.replay()
	case w.Items > 0:
		s.left, s.undone = w.Items, w.Items
		for i := range min(w.Workers, w.Items) {
			s.work(i)
		}
	default:
		s.arriveSoon()
	}
	for _, at := range sc.RestartAt {
		s.agenda.plan(start.Add(time.Duration(at)), func() { s.gate.restart() })
	}
	if sc.Upstream.Foreign != nil {
		s.arriveForeign(start)
	}
	s.tick()
	return s
}

// after plans do.
func (s *simulation) after(d time.Duration, do func()) { s.agenda.plan(s.now.Add(d), do) }

// arriveSoon plans the next request of an open workload.
func (s *simulation) arriveSoon() {
	w := &s.sc.Workload
	m := w.binding()
	mean := w.meanOf(m) / (w.Load * s.sc.Upstream.Limits.vector()[m] / 60)
	var arrive func()
	arrive = func() {
		s.begin(s.source.next(s.now, -1, nil))
		s.after(s.source.chance.exponential(mean), arrive)
	}
	s.after(s.source.chance.exponential(mean), arrive)
}

// replay plans the next request of a trace.
func (s *simulation) replay() {
	trace := s.sc.Workload.Trace
	if s.next >= len(trace) {
		return
	}
	a := &trace[s.next]
	s.next++
	s.agenda.plan(start.Add(a.At), func() {
		s.begin(s.source.next(s.now, -1, a))
		s.replay()
	})
}

// work gives a worker its next item.
func (s *simulation) work(worker int) {
	if s.left == 0 {
		return
	}
	s.left--
	s.after(time.Duration(s.luck.uniform()*float64(10*time.Millisecond)), func() {
		s.begin(s.source.next(s.now, worker, nil))
	})
}

// arriveForeign plans the next request of others.
func (s *simulation) arriveForeign(at limiter.Instant) {
	at = at.Add(s.up.chance.exponential(1 / s.up.foreignRate()))
	if on, next := s.up.foreignOn(at); !on {
		s.agenda.plan(next, func() { s.arriveForeign(s.now) })
		return
	}
	s.agenda.plan(at, func() {
		s.up.arriveForeign(s.now)
		s.arriveForeign(s.now)
	})
}

// begin is when a caller wants to send c.
func (s *simulation) begin(c *call) {
	s.meters.begin(c)
	s.ask(c)
}

func (s *simulation) ask(c *call) {
	if s.now > c.deadline {
		s.drop(c)
		return
	}
	s.meters.ask(s.now)
	s.after(s.net.between(s.near), func() { s.gate.ask(c) })
}

// grant lets c be sent, after a delay.
func (s *simulation) grant(c *call, delay time.Duration) {
	s.after(s.net.between(s.near)+delay, func() { s.send(c) })
}

// refer tells the caller to come back.
func (s *simulation) refer(c *call, at limiter.Instant) {
	at = max(at, s.now.Add(s.net.between(s.near)))
	if at > c.deadline {
		s.drop(c)
		return
	}
	s.agenda.plan(at, func() { s.ask(c) })
}

// refuse tells the caller that it will not be served.
func (s *simulation) refuse(c *call) {
	s.after(s.net.between(s.near), func() { s.drop(c) })
}

func (s *simulation) drop(c *call) {
	s.meters.drop(c)
	s.done(c)
}

// done lets a worker go on.
func (s *simulation) done(c *call) {
	if c.worker >= 0 {
		s.undone--
		s.work(c.worker)
	}
}

func (s *simulation) send(c *call) {
	c.sent = s.now
	c.attempts++
	s.meters.send()
	s.after(s.net.between(s.sc.Network.Far), func() { s.arrive(c) })
}

// arrive is when c reaches the upstream.
func (s *simulation) arrive(c *call) {
	r := s.up.arrive(s.now, c)
	s.gate.arrived(c)
	s.meters.answer(c, &r)
	if r.class != limiter.ClassOK {
		s.after(s.net.between(s.sc.Network.Far), func() { s.refused(c, &r) })
		return
	}
	c.headers = r.headers
	s.after(c.first, func() {
		s.up.begin(s.now, c)
		if s.sc.Progress {
			s.after(s.net.between(s.sc.Network.Far)+s.net.between(s.near), func() { s.gate.begun(c) })
		}
		s.after(seconds(c.output/c.speed), func() {
			s.up.finish(s.now, c)
			s.after(s.net.between(s.sc.Network.Far), func() { s.complete(c) })
		})
	})
}

// complete is when the caller has its answer.
func (s *simulation) complete(c *call) {
	s.tell(c, &reply{class: limiter.ClassOK, headers: c.headers})
	s.meters.complete()
	s.done(c)
}

// refused is when the caller hears that it was.
func (s *simulation) refused(c *call, r *reply) {
	s.tell(c, r)
	c.refused++
	wait, again := s.gate.retry(c, r)
	switch {
	case again:
		c.retry = true
	case c.worker >= 0: // its item is to be done, all the same
		c.retry, c.attempts = false, 0
	default:
		s.drop(c)
		return
	}
	if s.now.Add(wait) > c.deadline {
		s.drop(c)
		return
	}
	s.after(wait, func() { s.ask(c) })
}

// tell reports to the limiter, unless the report is lost.
func (s *simulation) tell(c *call, r *reply) {
	if s.sc.LostReports > 0 && s.luck.uniform() < s.sc.LostReports {
		return
	}
	s.after(s.net.between(s.near), func() { s.gate.report(c, r) })
}

// tick samples the run once a second.
func (s *simulation) tick() {
	s.meters.sample(s)
	s.after(time.Second, s.tick)
}

var errRestless = errors.New("the limiter does not come to rest: it wants to be called again at the same instant, without end")

// backoff is what Anthropic's SDKs wait before they repeat a call: what the upstream
// asked for, or else half a second, doubled each time up to eight, less up to a quarter.
func backoff(luck chance, repeats int, after time.Duration) time.Duration {
	if after > 0 && after <= time.Minute {
		return after
	}
	d := min(500*time.Millisecond<<min(repeats, 10), 8*time.Second)
	return time.Duration(float64(d) * (1 - 0.25*luck.uniform()))
}
