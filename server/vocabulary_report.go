package server

import (
	"github.com/weir-project/weir/limiter"
)

// report reads a descriptor that says how a call went. One by itself is a whole
// report; those with a phase or a meter are parts of one, the joint report.
func (s *spoken) report(r *rlsRequest, d *rlsDescriptor, attrs []limiter.Entry) {
	p := &s.phrase
	metered := p.has.has(wordMeter)
	if !metered && p.get(wordPhase) != phaseSettle {
		var said proxied
		s.reports = append(s.reports, report{})
		whole := &s.reports[len(s.reports)-1]
		whole.takeIn(p, attrs, &said)
		whole.conclude(&said)
		return
	}
	if s.joint < 0 {
		s.joint = len(s.reports)
		s.reports = append(s.reports, report{})
	}
	part := &s.reports[s.joint]
	part.takeIn(p, attrs, &s.jointProxied)
	if metered && !d.negative {
		if hits, given := r.hitsOf(d); given {
			part.usage.addHits(p.get(wordMeter), hits)
		}
	}
}

// takeIn adds what p says to the report, where it has not said so yet.
func (r *report) takeIn(p *phrase, attrs []limiter.Entry, said *proxied) {
	if id, ok := decodeID(p.get(wordReservation)); ok {
		r.ref.ID = id
	}
	fill(&r.ref.RequestID, p.get(wordRequestID))
	fill(&r.tenant, p.get(wordTenant))
	fill(&r.provider, p.get(wordProvider))
	fill(&r.errorType, shorten(p.get(wordErrorType)))
	fill(&r.errorMessage, shorten(p.get(wordErrorMessage)))
	fill(&r.retryAfter, p.get(wordRetryAfter))
	if len(attrs) > len(r.attributes) {
		r.attributes = attrs
	}
	if v := parseStatus(p.get(wordStatus)); v != 0 {
		r.status = v
	}
	r.usage.takeIn(p)

	fill(&said.details, p.get(wordDetails))
	fill(&said.lastEvent, p.get(wordLastEvent))
	if n, ok := used(p.get(wordAttempts)); ok {
		said.attempts, said.hasAttempts = int(n), true
	}
}

func fill(s *string, v string) {
	if *s == "" {
		*s = v
	}
}

// takeIn adds the counts of p.
func (u *reportedUsage) takeIn(p *phrase) {
	for _, c := range []struct {
		w   word
		n   *uint64
		has *bool
	}{
		{wordInputTokens, &u.input, &u.hasInput},
		{wordCacheCreationInputTokens, &u.cacheCreation, &u.hasCacheCreation},
		{wordCacheReadInputTokens, &u.cacheRead, &u.hasCacheRead},
		{wordOutputTokens, &u.output, &u.hasOutput},
	} {
		if n, ok := used(p.get(c.w)); ok {
			*c.n, *c.has = n, true
		}
	}
}

// addHits adds what a descriptor counted. More than any call can have used is not
// known.
func (u *reportedUsage) addHits(meter string, hits uint64) {
	if hits > limiter.MaxAmount {
		return
	}
	switch meter {
	case limiter.InputTokens.String():
		u.input, u.hasInput = min(u.input+hits, limiter.MaxAmount), true
	case cacheCreationMeter:
		u.cacheCreation, u.hasCacheCreation = min(u.cacheCreation+hits, limiter.MaxAmount), true
	case cacheReadMeter:
		u.cacheRead, u.hasCacheRead = min(u.cacheRead+hits, limiter.MaxAmount), true
	case limiter.OutputTokens.String():
		u.output, u.hasOutput = min(u.output+hits, limiter.MaxAmount), true
	}
}
