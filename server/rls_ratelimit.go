package server

import (
	"context"
	"math"
	"time"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
)

// Requests in domains of files of envoyproxy/ratelimit, and in domains that nobody
// configured. Answers have the form that they have there. With config.Options.Strict
// they are those of there, counted in the same way; otherwise limits are kept as all
// limits are: in windows that slide, and all of a request or nothing is charged.

// strictError returns the error that envoyproxy/ratelimit answers; nil if it decides.
func (a *active) strictError(r *rlsRequest) error {
	switch {
	case r.domain == "":
		return &fault{reason: untyped, got: "rate limit domain must not be empty"}
	case len(r.descriptors) == 0:
		return &fault{reason: untyped, got: "rate limit descriptor list must not be empty"}
	case a.Missing:
		return &fault{reason: untyped, got: "no rate limit configuration loaded"}
	}
	return nil
}

// takesRatelimit says whether a domain is one of such a file, or of nobody.
func (a *active) takesRatelimit(words *vocabulary, domain string) bool {
	return !words.speaks(domain) && (a.Ratelimit[domain] || !a.Plan.HasDomain(domain))
}

// decideRatelimit decides a request of such a domain.
func (s *rls) decideRatelimit(ctx context.Context, now limiter.Instant, a *active, c *rlsCall) error {
	k := &c.scratch.ask
	for i := range c.request.descriptors {
		if err := s.matchPlain(a, c, i); err != nil {
			return err
		}
		if o := s.ratelimit.Observer; o != nil && c.matches[i] == limiter.NoDomain {
			o.DomainNotFound(c.request.domain)
		}
	}
	k.DropReplaced()
	k.OneByOne = a.Strict
	if k.Soft = s.ratelimit.QuotaMode; k.Soft {
		for i, m := range c.matches {
			k.Spare = k.Spare || m != limiter.UnlimitedRule && !k.Concerns(i)
		}
	}
	return s.ask(ctx, now, a, c)
}

// fillRatelimit answers as the store decided.
func (c *rlsCall) fillRatelimit(now limiter.Instant) {
	d, o := &c.scratch.decision, c.ratelimit
	refused := d.Verdict != limiter.Allowed
	c.response.code = codeOK
	if refused && !o.ShadowMode {
		c.response.code = codeOverLimit
	}
	for i := range c.request.descriptors {
		c.response.statuses = append(c.response.statuses, c.ratelimitStatus(now, i))
	}
	c.ratelimitHeaders()
	c.ratelimitMetadata()
	if o.Observer != nil {
		c.observe(o.Observer)
		if refused && o.ShadowMode {
			o.Observer.GlobalShadowMode()
		}
	}
	if c.response.code == codeOverLimit && !c.quiet {
		c.sayWhy(now)
	}
}

// ratelimitStatus returns the status of descriptor i.
func (c *rlsCall) ratelimitStatus(now limiter.Instant, i int) rlsStatus {
	if c.matches[i] == limiter.UnlimitedRule {
		return rlsStatus{code: codeOK, remaining: math.MaxUint32}
	}
	k := c.tightest(i)
	if k == nil {
		return rlsStatus{code: codeOK}
	}
	s := statusOf(now, k, k.Over && !k.Limit.Shadow)
	s.bare = true
	if k.Over {
		s.remaining = 0
	}
	if k.Limit.Fixed {
		length := int64(k.Limit.Window / time.Second)
		s.reset = time.Duration(length-int64(now)/int64(time.Second)%length) * time.Second
	}
	return s
}

// tightest returns the check of descriptor i that is over, or else has the least left;
// nil if there is none.
func (c *rlsCall) tightest(i int) *limiter.Check {
	var worst *limiter.Check
	checks := c.scratch.decision.Checks
	for j := range checks {
		k := &checks[j]
		if k.Descriptor != i {
			continue
		}
		if worst == nil || k.Over && !worst.Over || k.Over == worst.Over && k.Remaining < worst.Remaining {
			worst = k
		}
	}
	return worst
}

// ratelimitHeaders adds the headers that say how the limit with the least left stands;
// the last one that is over, where limits that refuse by themselves are.
func (c *rlsCall) ratelimitHeaders() {
	h := &c.ratelimit.Headers
	if !h.Enabled {
		return
	}
	var shown *rlsStatus
	least := uint32(math.MaxUint32)
	for i := range c.response.statuses {
		s := &c.response.statuses[i]
		if s.limit == nil {
			continue
		}
		hard := s.code == codeOverLimit && !s.limit.Soft && !c.ratelimit.QuotaMode
		if hard || s.remaining < least {
			shown, least = s, s.remaining
		}
	}
	if shown == nil {
		return
	}
	c.number(h.Limit, uint64(shown.perUnit))
	c.number(h.Remaining, uint64(shown.remaining))
	c.number(h.Reset, uint64(max(ceilDiv(shown.reset, time.Second), 0)))
}

// observe tells o what became of the descriptors.
func (c *rlsCall) observe(o RatelimitObserver) {
	d := &c.scratch.decision
	for j := range d.Checks {
		k := &d.Checks[j]
		r := &c.request.descriptors[k.Descriptor]
		entries := c.request.of(r)
		if rule, ok := k.Limit.Note.(*config.RatelimitRule); ok {
			c.path = rule.AppendMetric(c.path[:0], entries)
		} else {
			c.path = config.AppendOverrideMetric(c.path[:0], entries)
		}
		e := &c.event
		*e = RatelimitEvent{
			Domain: c.request.domain, Path: c.path, Hits: k.Requested, Negative: r.negative, Limit: k.Amount,
			Before: k.Used, After: k.Used, Over: k.Over, Shadow: k.Limit.Shadow, Quota: k.Limit.Soft || c.ratelimit.QuotaMode,
		}
		e.Charged = d.Verdict == limiter.Allowed || k.Limit.Fixed || k.Spent
		switch {
		case e.Negative:
		case e.Charged:
			e.Before -= min(k.Requested, e.Before)
		default:
			e.After += k.Requested
		}
		o.Descriptor(e)
	}
}
