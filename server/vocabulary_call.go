package server

import (
	"slices"

	"github.com/weir-project/weir/limiter"
)

// spoken is a rate limit request in an LLM domain, read by a vocabulary. It is used
// again and again, and belongs to one call at a time.
type spoken struct {
	uses    []use // one for each descriptor
	asks    []ask
	reports []report
	// tenant and requestID are those of the asks.
	tenant, requestID string
	// again says that they repeat a call that was refused.
	again bool
	// tooMuch is the first descriptor whose hits are more than any limit admits; -1 if
	// none.
	tooMuch int

	arena   []limiter.Entry // attributes of asks and reports
	context ask             // what context descriptors say, if hasContext
	// joint is the report that is made up of several descriptors, -1 if there is none;
	// jointProxied is what the proxy said in them.
	joint        int
	jointProxied proxied
	hasContext   bool
	phrase       phrase
}

// use is what a descriptor is used for.
type use struct {
	role  role
	ask   int // the ask that it is part of, if it asks
	meter limiter.Meter
	// metered says that the descriptor is about meter alone.
	metered bool
}

// ask is one call that is asked for: what descriptors with the same attributes say
// together.
type ask struct {
	ordinal    int // of its first descriptor
	attributes []limiter.Entry
	estimate   limiter.Estimate
	// looks and wants say that descriptors had hits of zero, and others.
	looks, wants bool
}

// peeks says whether nothing is to be charged.
func (a *ask) peeks() bool { return a.looks && !a.wants }

// reset forgets what was read. The phrase is left as it is: nothing of it is looked at
// before it is filled anew.
func (s *spoken) reset() {
	if len(s.uses) == 0 {
		return
	}
	clear(s.asks)
	clear(s.reports)
	clear(s.arena)
	s.uses, s.asks, s.reports, s.arena = s.uses[:0], s.asks[:0], s.reports[:0], s.arena[:0]
	s.tenant, s.requestID, s.again = "", "", false
	s.hasContext, s.context, s.jointProxied = false, ask{}, proxied{}
}

// read makes sense of r. The strings of s are those of r.
func (s *spoken) read(v *vocabulary, r *rlsRequest) {
	s.reset()
	s.tooMuch, s.joint = -1, -1
	for i := range r.descriptors {
		s.uses = append(s.uses, s.descriptor(v, r, i))
	}
	if s.joint >= 0 {
		s.reports[s.joint].conclude(&s.jointProxied)
	}
	if !s.hasContext {
		return
	}
	if len(s.asks) == 0 {
		s.asks = append(s.asks, s.context)
		return
	}
	for i := range s.asks {
		s.placeInContext(&s.asks[i])
	}
}

func (s *spoken) descriptor(v *vocabulary, r *rlsRequest, i int) use {
	d := &r.descriptors[i]
	p := &s.phrase
	p.has = 0
	from := len(s.arena)
	for _, e := range r.of(d) {
		switch w := v.say(p, e); {
		case w == wordOther:
			s.arena = append(s.arena, e)
		case w <= lastAttribute:
			s.arena = append(s.arena, limiter.Entry{Key: attributeNames[w], Value: e.Value})
		}
	}
	role := p.role()
	if role == rolePlain || d.limit.set {
		s.arena = s.arena[:from]
		return use{role: rolePlain}
	}
	attrs := s.arena[from:len(s.arena):len(s.arena)]
	switch role {
	case roleReport:
		s.report(r, d, attrs)
	case roleContext:
		s.hasContext = true
		s.context = ask{ordinal: i, attributes: attrs, wants: true}
		s.context.estimate = p.estimate()
		s.name()
	default:
		if d.negative {
			return use{role: roleNone}
		}
		return s.ask(r, i, attrs)
	}
	return use{role: role}
}

// name takes from the phrase the names of the caller and the request, and whether it
// is repeated.
func (s *spoken) name() {
	if v := s.phrase.get(wordTenant); v != "" && s.tenant == "" {
		s.tenant = v
	}
	if v := s.phrase.get(wordRequestID); v != "" && s.requestID == "" {
		s.requestID = v
	}
	s.again = s.again || repeats(s.phrase.get(wordRetry))
}

// ask adds descriptor i to the ask with its attributes.
func (s *spoken) ask(r *rlsRequest, i int, attrs []limiter.Entry) use {
	d := &r.descriptors[i]
	u := use{role: roleAsk}
	if s.phrase.has.has(wordMeter) {
		if u.meter, u.metered = limiter.ParseMeter(s.phrase.get(wordMeter)); !u.metered {
			return use{role: roleNone} // only reports count such
		}
	}
	s.name()
	at := slices.IndexFunc(s.asks, func(a ask) bool { return sameAttributes(a.attributes, attrs) })
	if at < 0 {
		at = len(s.asks)
		s.asks = append(s.asks, ask{ordinal: i, attributes: attrs})
	}
	a := &s.asks[at]
	hits, given := r.hitsOf(d)
	if hits > limiter.MaxAmount {
		if s.tooMuch < 0 {
			s.tooMuch = i
		}
		hits = limiter.MaxAmount
	}
	if given && hits == 0 {
		a.looks = true
	} else {
		a.wants = true
	}
	a.estimate = merged(a.estimate, s.phrase.estimate())
	u.ask = at
	if u.metered || given {
		addHits(&a.estimate, u.meter, hits, given)
	}
	return u
}

// hitsOf returns the hits of a descriptor, and whether the request gives any: the
// descriptor's, or those of the request as a whole, or 1.
func (r *rlsRequest) hitsOf(d *rlsDescriptor) (hits uint64, given bool) {
	switch {
	case d.hasHits:
		return d.hits, true
	case r.hits > 0:
		return uint64(r.hits), true
	}
	return 1, false
}
