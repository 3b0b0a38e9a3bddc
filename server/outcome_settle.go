package server

import (
	"context"
	"errors"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/provider"
)

// settled says what came of a report that a proxy sent.
type settled uint8

const (
	// settledNow: the reservation ended by it.
	settledNow settled = iota
	// settledBefore: it had ended already, nothing changed.
	settledBefore
	// settledLater: the report said too little to end it.
	settledLater
	// settledUnused: the call was never sent, its reservation was given back.
	settledUnused
	// settledDenied: the report is about weir's own refusal, and means nothing.
	settledDenied
	// settledSpent: nobody had asked for the call. What it used was charged.
	settledSpent
	// settledUnmatched: nobody had asked for the call, and no quota knows it.
	settledUnmatched
	// settledUnattributed: what was used cannot be charged, as nothing says by whom.
	settledUnattributed
	// settledUnknown: no such reservation, and no usage; or the call goes on.
	settledUnknown
	// settledFailed: the store failed.
	settledFailed
	numSettled
)

var settledNames = [numSettled]string{
	"settled", "replayed", "inconclusive", "unused", "own_denial", "spent", "unmatched",
	"unattributed", "unknown", "failed",
}

// String returns the label of metrics.
func (s settled) String() string { return settledNames[s] }

// settler applies what proxies report. It is safe for concurrent use.
type settler struct {
	d       *decider
	reports [numSettled]prometheus.Counter
}

// newSettler counts the reports of one door.
func newSettler(d *decider, door string) *settler {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_reports_total",
		Help: "Reports of how calls went, by the door they came in by and what came of them.",
	}, []string{"door", "result"})
	var already prometheus.AlreadyRegisteredError
	if err := d.metrics.registry.Register(vec); errors.As(err, &already) {
		vec = already.ExistingCollector.(*prometheus.CounterVec)
	}
	s := &settler{d: d}
	for r := range numSettled {
		s.reports[r] = vec.WithLabelValues(door, r.String())
	}
	return s
}

// settle applies r. Each call is settled once: the first report that says what was
// used, or that the upstream did not count the call, wins.
func (s *settler) settle(ctx context.Context, now limiter.Instant, a *active, r *report) settled {
	fill(&r.provider, a.provider)
	result := s.apply(ctx, now, a, r)
	s.reports[result].Inc()
	return result
}

func (s *settler) apply(ctx context.Context, now limiter.Instant, a *active, r *report) settled {
	p := a.Profile(r.provider)
	read := r.reading(p, now)
	s.d.metrics.odd(read.Odd)
	if r.ref == (Ref{}) {
		if r.unsent {
			return settledDenied
		}
		return s.unasked(ctx, now, a, r)
	}
	o := r.outcome(p, read)
	if !r.trusted && r.ref.ID == (limiter.ID{}) && r.tenant == "" {
		// Request ids can be guessed: who names neither the reservation nor its tenant
		// tells nothing about the quota.
		unteach(&o)
	}
	st, err := s.d.store.Report(ctx, now, r.ref, r.tenant, o)
	if err != nil {
		return settledFailed
	}
	switch {
	case st.Ending == limiter.Unknown && r.progress:
		return settledUnknown // its last report charges it
	case st.Ending == limiter.Unknown && r.unsent:
		return settledDenied
	case st.Ending == limiter.Unknown && r.ref.ID != (limiter.ID{}):
		// It was asked for and charged, and so long ago that it is forgotten.
		s.d.metrics.settled(st)
		return settledUnknown
	case st.Ending == limiter.Unknown:
		return s.unasked(ctx, now, a, r)
	}
	s.d.metrics.settled(st)
	switch {
	case !st.Applied:
		return settledBefore
	case st.Ending == limiter.Open:
		return settledLater
	case r.unsent:
		return settledUnused
	}
	return settledNow
}

// attempt applies what a proxy says of an attempt, if that was refused in a way that can
// be told without the text of the error: it leaves the reservation open.
func (s *settler) attempt(ctx context.Context, now limiter.Instant, a *active, r *report) {
	fill(&r.provider, a.provider)
	p := a.Profile(r.provider)
	read := r.reading(p, now)
	s.d.metrics.odd(read.Odd)
	if !telling(&read) {
		return
	}
	if st, err := s.d.store.Report(ctx, now, r.ref, "", r.outcome(p, read)); err == nil && st.Applied {
		s.d.metrics.settled(st)
	}
}

// goesOn says of a call that it goes on.
func (s *settler) goesOn(ctx context.Context, now limiter.Instant, a *active, r *report) {
	if st, err := s.d.store.Report(ctx, now, r.ref, r.tenant, r.outcome(a.Profile(a.provider), provider.Reading{Class: limiter.ClassUnknown})); err == nil && st.Quota != "" {
		s.d.metrics.settled(st)
	}
}

// telling says whether status and headers alone tell what a refusal was for. A lack of
// rights or of money has the status of a reached limit, but neither a wait nor a limit that
// is used up comes with it.
func telling(r *provider.Reading) bool {
	switch r.Class {
	case limiter.ClassOverload:
		return true
	case limiter.ClassQuota, limiter.ClassAcceleration:
		usedUp := func(h limiter.HeaderState) bool {
			return h.HasLimit && h.HasRemaining && h.Remaining == 0 && h.Limit > 0
		}
		return r.RetryAfter > 0 || slices.ContainsFunc(r.Headers[:], usedUp)
	default:
		return false
	}
}

// unasked charges what was used by a call that nobody had asked for: weir was not
// reached, or was asked and did not answer in time. The upstream has counted it.
func (s *settler) unasked(ctx context.Context, now limiter.Instant, a *active, r *report) settled {
	if !r.usage.any() || r.unsent {
		return settledUnknown
	}
	if !attributable(r.attributes) {
		return settledUnattributed
	}
	used := r.usage.spent()
	input, _ := used.Counted(true)
	spent := limiter.Estimate{
		Exact: true, Requests: 1,
		InputTokens: input, CachedInputTokens: min(used.CacheRead, input), HasInput: true,
		MaxTokens: min(r.usage.output, limiter.MaxAmount), HasMax: true,
	}
	if !r.trusted {
		spent.InputTokens, spent.MaxTokens = min(spent.InputTokens, mostUnasked), min(spent.MaxTokens, mostUnasked)
	}
	domain := ""
	if d := a.Vocabulary.Domains; len(d) > 0 {
		domain = d[0]
	}
	c := s.d.getScratch()
	defer s.d.putScratch(c)
	c.ask.Tenant, c.ask.RequestID = r.tenant, r.ref.RequestID
	c.ask.Force, c.ask.Open, c.ask.ID = true, true, c.newID()
	if a.match(c, domain, -1, r.attributes, spent) == 0 {
		return settledUnmatched
	}
	if err := s.d.decide(ctx, now, a, domain, c); err != nil {
		return settledFailed
	}
	if c.decision.Replayed {
		return settledBefore
	}
	if c.decision.Opened {
		// The reservation makes the other path's report of the same call a replay.
		o := outcomeOf(*r, a.Profile(r.provider), now)
		o.HasInput, o.HasOutput, o.Progress = true, true, false
		unteach(&o) // a refusal counts only for a call that was asked for
		if _, err := s.d.store.Report(ctx, now, Ref{ID: c.decision.ID}, "", o); err != nil {
			return settledFailed
		}
	}
	return settledSpent
}

// mostUnasked is the most that somebody who is not trusted can have charged for a call
// that nobody asked for, in tokens of each kind.
const mostUnasked = 100_000

// unteach leaves of o what the call is charged.
func unteach(o *limiter.Outcome) {
	if teaches(o.Class) || o.Class == limiter.ClassEntitlement {
		o.Class = limiter.ClassUnknown
	}
	o.Headers, o.Learn = [3]limiter.HeaderState{}, false
}

// attributable says whether attributes name somebody's quota.
func attributable(attrs []limiter.Entry) bool {
	for i := range attrs {
		if k := attrs[i].Key; k == attributeNames[wordOrg] || k == attributeNames[wordModel] {
			return true
		}
	}
	return false
}
