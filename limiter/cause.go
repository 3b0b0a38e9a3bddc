package limiter

import "time"

// Cause says what refused an Ask.
type Cause uint8

// The causes.
const (
	// CauseNone: nothing refused.
	CauseNone Cause = iota
	// CauseLimit: a limit has no room.
	CauseLimit
	// CausePace: the learned pace has no room yet.
	CausePace
	// CauseGate: the upstream refused, and said when to come back.
	CauseGate
	// CauseSpend: the money is spent.
	CauseSpend
	// CauseCeiling: the tenant has had its share.
	CauseCeiling
	// CauseLine: others wait whose turn is earlier.
	CauseLine
	// CauseInFlight: as many calls are open as the upstream takes.
	CauseInFlight
	// CauseOverload: the upstream is overloaded, and few calls are tried.
	CauseOverload
	// CauseLane: the tenant's own calls were refused, and its lane is closed for a while.
	CauseLane
	// CauseRight: the credential may not use the model with a long context.
	CauseRight
)

// String returns the cause in lower case, empty for none.
func (c Cause) String() string {
	return [...]string{"", "limit", "pace", "gate", "spend", "ceiling", "line", "in_flight", "overload", "lane", "entitlement"}[c]
}

// Refusal says why an Ask was denied, beyond the limit that Decision.RefusedBy shows.
type Refusal struct {
	// Cause is what refused.
	Cause Cause
	// Rate is the learned rate in units a minute and Burst how many seconds of it may be
	// sent at once, if the Cause is CausePace; with CauseOverload Rate is how many calls a
	// minute are tried, and with CauseInFlight how many may be open.
	Rate, Burst float64
	// Org is whose money is spent, if the Cause is CauseSpend and it is that of all its
	// quotas at the provider; empty if it is that of the quota.
	Org string
	// Until is when the cause ends, as far as is known. Decision.RetryAt may be earlier,
	// where the caller should look again in between, or later, for other reasons.
	Until Instant
}

// why says what keeps c from the pacer for w seconds, of which m is the scarcest meter. What
// would keep it alone, if nobody were ahead of it, is asked for before those who are.
func (p *pacer) why(now Instant, c cost, m Meter, w float64, open int) Refusal {
	alone, by := p.wait(now, c, cost{}, open)
	decides := func(s float64) bool { return s >= alone-leastWait.Seconds() }
	r := Refusal{Until: now.Add(secondsOf(w))}
	switch gate := p.paces[by].gate; {
	case alone <= fit:
		r.Cause = CauseLine
	case p.moneyAt() > now && decides(p.moneyAt().Sub(now).Seconds()):
		r.Cause, r.Until = CauseSpend, p.moneyAt()
		if p.purse.shutUntil() == r.Until {
			r.Org = p.purse.org
		}
	case p.inFlight > 0 && float64(open) >= p.inFlight && decides(p.inFlightWait()):
		r.Cause, r.Rate = CauseInFlight, p.inFlight
	case p.isSick() && p.load > 0 && decides(p.load/p.healthRate()):
		r.Cause, r.Rate = CauseOverload, 60*p.healthRate()
	case gate > now && decides(gate.Sub(now).Seconds()):
		r.Cause, r.Until = CauseGate, gate
	default:
		r.Cause, r.Rate, r.Burst = CausePace, p.paces[m].perMinute(), p.paces[m].burst
	}
	return r
}

// foresee answers a dry Ask of a quota as decideFairly would one that cannot be held, and
// changes nothing.
func (l *Limiter) foresee(now Instant, a *Ask, d *Decision, r *quotaRef) {
	st := r.state
	f, t := st.foreseeFlow(now, a.Tenant), st.terms(a.Tenant)
	if pause, cause := st.pause(now, a, &f, t, a.secondsOf(r)); pause > 0 {
		l.check(now, a, d)
		l.views(now, a, d)
		l.denyForPause(now, a, d, pause, cause)
		return
	}
	switch {
	case st.pacer != nil:
		l.foreseeTurn(now, a, d, r, &f)
	case a.mustWait():
		l.check(now, a, d)
		l.views(now, a, d)
		if d.Verdict != Infeasible {
			l.denyForLine(now, a, d)
		}
	default:
		l.settleVerdict(now, a, d)
	}
}

// foreseeTurn answers a dry Ask as appoint would.
func (l *Limiter) foreseeTurn(now Instant, a *Ask, d *Decision, r *quotaRef, f *flow) {
	st, p := r.state, r.state.pacer
	l.check(now, a, d)
	l.views(now, a, d)
	if d.Verdict != Allowed {
		return
	}
	band, start := st.band(a), st.line.startOf(f, st.terms(a.Tenant))
	before := p.turns.foreseeBefore(now, band, start).plus(st.line.ahead.before(band, start))
	w, by := p.wait(now, r.paced, before, st.open)
	switch {
	case w > maxDelay:
		l.denyByPace(now, a, d, r, by, p.told(now, by, w))
	case w > fit:
		d.Delay = secondsOf(w)
	}
}

// foreseeFlow returns a copy of the tenant's flow as it will be at now.
func (s *quotaState) foreseeFlow(now Instant, tenant string) flow {
	f, t := flow{at: now}, s.terms(tenant)
	if known := s.line.flows[tenant]; known != nil {
		f = *known
		f.window = f.window.copied()
	} else if others := s.line.flows[otherTenants]; others != nil && len(s.line.flows) >= maxTenants {
		f = *others
		f.window = f.window.copied()
	}
	f.bring(now, t)
	return f
}

// startOf is the start tag that f's next ask gets.
func (q *line) startOf(f *flow, t *TenantSpec) float64 {
	if t.Floor > 0 && f.below <= 0 {
		return q.virtual // below its floor: as if it had not been served
	}
	return max(q.virtual, f.finish)
}

// foreseeBefore is before, of the places that are not given up at now.
func (t *turns) foreseeBefore(now Instant, b Priority, start float64) cost {
	c := t.before(b, start)
	for _, n := range t.dying {
		if n.dies <= now && (n.band < b || (n.band == b && n.start < start)) {
			for m := range c {
				c[m] = max(0, c[m]-n.cost[m])
			}
		}
	}
	return c
}

// pause returns for how long a must stay out of the line, and why; 0 if it need not.
func (s *quotaState) pause(now Instant, a *Ask, f *flow, t *TenantSpec, seconds float64) (time.Duration, Cause) {
	pause, cause := f.overCeiling(now, t, seconds), CauseCeiling
	if shut := f.shut.Sub(now); shut > pause {
		pause, cause = shut, CauseLane
	}
	if barred := s.barred(now, a); barred > pause {
		pause, cause = barred, CauseRight
	}
	return pause, cause
}

// denyForPause makes d a denial for somebody who must pause.
func (l *Limiter) denyForPause(now Instant, a *Ask, d *Decision, pause time.Duration, cause Cause) {
	fits := d.Verdict == Allowed
	l.denyForLine(now, a, d)
	d.RetryAt = max(d.RetryAt, now.Add(pause))
	if fits {
		d.Refusal = Refusal{Cause: cause, Until: now.Add(pause)}
	}
}
