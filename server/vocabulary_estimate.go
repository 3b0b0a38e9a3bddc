package server

import (
	"slices"

	"github.com/weir-project/weir/limiter"
)

// get returns what the phrase says of w; empty if nothing.
func (p *phrase) get(w word) string {
	if !p.has.has(w) {
		return ""
	}
	return p.values[w]
}

// estimate returns what an ask in words expects to use.
func (p *phrase) estimate() limiter.Estimate {
	var e limiter.Estimate
	e.InputTokens, e.HasInput = estimate(p.get(wordInputTokens))
	e.BodyBytes, e.HasBody = estimate(p.get(wordBodyBytes))
	e.MaxTokens, e.HasMax = bound(p.get(wordMaxTokens))
	e.CachedInputTokens, _ = estimate(p.get(wordCachedInputTokens))
	return e
}

// merged returns e with what it lacks taken from o.
func merged(e, o limiter.Estimate) limiter.Estimate {
	if !e.HasInput {
		e.InputTokens, e.HasInput = o.InputTokens, o.HasInput
	}
	if !e.HasBody {
		e.BodyBytes, e.HasBody = o.BodyBytes, o.HasBody
	}
	if !e.HasMax {
		e.MaxTokens, e.HasMax = o.MaxTokens, o.HasMax
	}
	if e.CachedInputTokens == 0 {
		e.CachedInputTokens = o.CachedInputTokens
	}
	return e
}

// addHits adds the hits of one descriptor to what an ask expects to use of a meter.
// Of tokens, hits that are not given and hits of zero are not known; the tokens of
// both kinds together bound the input.
func addHits(e *limiter.Estimate, m limiter.Meter, hits uint64, given bool) {
	switch m {
	case limiter.Requests:
		e.Requests = min(e.Requests+hits, limiter.MaxAmount)
	case limiter.InputTokens, limiter.Tokens:
		if given && hits > 0 {
			e.InputTokens, e.HasInput = min(e.InputTokens+hits, limiter.MaxAmount), true
		}
	case limiter.OutputTokens:
		if given && hits > 0 {
			e.MaxTokens, e.HasMax = min(e.MaxTokens+hits, limiter.MaxAmount), true
		}
	}
}

// sameAttributes says whether a and b have the same entries, in whatever order.
func sameAttributes(a, b []limiter.Entry) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && !slices.Contains(b, a[i]) || b[i] != a[i] && !slices.Contains(a, b[i]) {
			return false
		}
	}
	return true
}

// placeInContext gives a the attributes and the estimate of the context, where it has
// none of its own.
func (s *spoken) placeInContext(a *ask) {
	from := len(s.arena)
	s.arena = append(s.arena, a.attributes...)
	for _, e := range s.context.attributes {
		if !slices.ContainsFunc(a.attributes, func(own limiter.Entry) bool { return own.Key == e.Key }) {
			s.arena = append(s.arena, e)
		}
	}
	a.attributes = s.arena[from:len(s.arena):len(s.arena)]
	a.estimate = merged(a.estimate, s.context.estimate)
}
