package limiter

import (
	"maps"
	"math"
	"slices"
	"time"
)

// Learned is what is known of one quota that is worth keeping over a restart. It is
// plain data: it can be written down and read back by whoever holds the Limiter.
type Learned struct {
	// Quota is the name in the configuration.
	Quota string
	// Attributes tell the quota from others of its name.
	Attributes []Entry
	// Asked is when something was last charged to it.
	Asked Instant
	// Paces are what was learned of requests, input and output tokens; empty for a
	// quota that is not learned.
	Paces []LearnedPace
	// Spend is until when the upstream said that the money is spent; 0 if it did not.
	// OrgSpend is the same of all the money of the quota's organisation at the provider.
	Spend, OrgSpend Instant
	// InFlight is the most calls at a time; 0 if nothing complained.
	InFlight float64
	// Tenants are what was learned of their estimates.
	Tenants []LearnedTenant
}

// LearnedPace is what was learned of one meter.
type LearnedPace struct {
	// Rate, Target and Failed are in units a minute: the rate now, the one that it is on
	// its way back to, and the one at the last cut (0 if there was none).
	Rate, Target, Failed float64
	// Burst, Top and Probe are in seconds: what may be sent at once, what that may grow
	// to, and for how long that holds when it fails again.
	Burst, Top, Probe float64
	// Startup says that the limit was not found yet.
	Startup bool
	// Gate is until when a refusal closed the meter.
	Gate Instant
	// Backlog is what the upstream had not drained yet, in units, at At.
	Backlog float64
	At      Instant
	// Ramp is the limit, in units a minute, that the upstream stated while use grows too
	// fast, RampStep what it rises by, and RampAt when; 0 if there is none.
	Ramp, RampStep float64
	RampAt         Instant
}

// LearnedTenant is what was learned of a tenant's estimates: sums over its requests,
// which forget exponentially.
type LearnedTenant struct {
	Name                        string
	Actual, Estimate, Estimates float64
	Input, Inputs               float64
	Output, Outputs             float64
}

// Learned returns what a shard has learned, in the order in which its quotas were first
// asked for. It touches that shard.
func (l *Limiter) Learned(now Instant, shard int) []Learned {
	var out []Learned
	for _, st := range l.shards[shard].order {
		if st.overflow {
			continue
		}
		s := Learned{Quota: st.quota.name, Asked: st.asked}
		for i, v := range st.values {
			s.Attributes = append(s.Attributes, Entry{st.quota.per[i], v})
		}
		if st.pacer != nil {
			st.pacer.advance(now)
			s.OrgSpend = l.money.get(st.payer).spentUntil()
			if s.InFlight = st.pacer.inFlight; st.pacer.spent {
				s.Spend = st.pacer.spend
			}
			for _, d := range st.pacer.paces {
				s.Paces = append(s.Paces, LearnedPace{
					Rate: d.limit, Target: d.target, Failed: d.failed, Burst: d.burst, Top: d.top, Probe: d.probe,
					Startup: d.startup, Gate: d.gate, Backlog: d.backlog, At: now,
					Ramp: d.ramp.rate, RampStep: d.ramp.step, RampAt: d.ramp.at,
				})
			}
		}
		for _, name := range slices.Sorted(maps.Keys(st.calibrations)) {
			c := st.calibrations[name]
			s.Tenants = append(s.Tenants, LearnedTenant{
				name, c.actual, c.estimate, c.estimates, c.input, c.inputs, c.output, c.outputs,
			})
		}
		out = append(out, s)
	}
	return out
}

// RouteLearned returns the shard that Restore of s touches; false if p has no quota
// of that name, told apart by these attributes.
func (l *Limiter) RouteLearned(p *Plan, s *Learned) (ShardSet, bool) {
	a := p.askLearned(s)
	if a == nil {
		return 0, false
	}
	return l.Route(a), true
}

func (p *Plan) askLearned(s *Learned) *Ask {
	q := p.quotaNamed(s.Quota)
	if q == nil || len(q.per) != len(s.Attributes) {
		return nil
	}
	a := &Ask{}
	for i, e := range s.Attributes {
		if q.per[i] != e.Key {
			return nil
		}
		a.capture(e.Value)
	}
	a.quotas = append(a.quotas, quotaRef{quota: q, key: span{0, a.mark()}})
	return a
}

func (p *Plan) quotaNamed(name string) *quota {
	for _, q := range p.quotas {
		if q.name == name {
			return q
		}
	}
	for _, qs := range p.byOrg {
		for _, q := range qs {
			if q.name == name {
				return q
			}
		}
	}
	return nil
}

// Restore takes in what was learned before a restart, under the plan p. Numbers that
// cannot have been learned are left out, and what was learned since is not
// overwritten. It reports whether anything was taken in, and touches RouteLearned.
func (l *Limiter) Restore(now Instant, p *Plan, s *Learned) bool {
	a := p.askLearned(s)
	if a == nil {
		return false
	}
	set := l.Route(a)
	if len(l.shards[set.First()].order) >= l.opts.MaxKeys {
		return false
	}
	st := l.quotaState(now, a, &a.quotas[0])
	if st == nil || st.open > 0 || st.asked != now {
		return false
	}
	st.asked = min(now, max(s.Asked, now.Add(-quotaMemory)))
	if st.pacer != nil && len(s.Paces) == len(st.pacer.paces) {
		for i, d := range st.pacer.paces {
			d.restore(now, &s.Paces[i], st.pacer.configured[i], st.pacer.capped)
		}
		if s.Spend > now {
			st.pacer.spend, st.pacer.spent = min(s.Spend, now.Add(spendProbe)), true
		}
		if s.OrgSpend > now && st.payer.org != "" {
			l.money.spend(now, st.payer, min(s.OrgSpend, now.Add(spendProbe)))
		}
		if s.InFlight >= 1 && s.InFlight <= greatestRate {
			st.pacer.inFlight = s.InFlight
		}
	}
	for _, t := range s.Tenants {
		if sums := [...]float64{t.Actual, t.Estimate, t.Estimates, t.Input, t.Inputs, t.Output, t.Outputs}; !allSums(sums[:]) {
			continue
		}
		c := st.calibration(now, t.Name)
		before := c.mean()
		*c = calibration{
			actual: t.Actual, estimate: t.Estimate, estimates: t.Estimates,
			input: t.Input, inputs: t.Inputs, output: t.Output, outputs: t.Outputs, used: c.used, open: c.open,
		}
		st.pool.answers += c.outputs
		st.pool.move(before, c.mean())
	}
	return true
}

// allSums reports whether each of s can be a sum of calibration.
func allSums(s []float64) bool {
	for _, v := range s {
		if !(v >= 0 && v <= float64(MaxAmount)) {
			return false
		}
	}
	return true
}

// longestGate is how far off the end of a gate can be.
const longestGate = time.Hour

func (p *pace) restore(now Instant, s *LearnedPace, configured float64, capped bool) {
	within := func(v, least, most float64) bool { return v >= least && v <= most }
	if !within(s.Rate, leastRate, greatestRate) || !within(s.Target, leastRate, greatestRate) ||
		!within(s.Failed, 0, greatestRate) || !within(s.Burst, leastBurst, mostBurst) ||
		!within(s.Top, leastBurst, mostBurst) || !within(s.Probe, 1, mostProbe) {
		return
	}
	if capped && configured > 0 {
		s.Rate, s.Target = min(s.Rate, configured), min(s.Target, configured)
	}
	p.limit, p.target, p.failed = s.Rate, s.Target, s.Failed
	p.burst, p.top, p.probe = s.Burst, s.Top, s.Probe
	p.startup = s.Startup
	p.ramp.restore(now, s)
	if !p.startup && math.IsInf(p.most, 1) || p.limit < p.most {
		p.depth = max(0, 1-p.limit/p.target)
		p.curve = 0
	}
	if s.Gate <= now.Add(longestGate) {
		p.gate = max(p.gate, s.Gate)
	}
	if s.Backlog >= 0 && s.Backlog <= greatestRate { // what cannot be is nothing
		p.backlog = max(0, min(s.Backlog, 2*p.room())-p.rate()*max(0, now.Sub(s.At).Seconds()))
	}
	p.calm = max(p.calm, p.gate)
}
