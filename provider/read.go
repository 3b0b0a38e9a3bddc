package provider

import (
	"strings"
	"time"

	"github.com/weir-project/weir/limiter"
)

// Bounds of what is read of an answer.
const (
	// MaxText is how much of a message is read, in bytes.
	MaxText = 4 << 10
	// MaxHeaders is how many headers are read.
	MaxHeaders = 256
)

// Read says what an answer means. now is when it came.
func (p *Profile) Read(a *Answer, now limiter.Instant) Reading {
	r := Reading{Class: limiter.ClassUnknown, Weight: p.weightOf(a.Model)}
	if a.Unsent {
		r.Class = limiter.ClassUnused
		r.Refund = p.Refunds[limiter.ClassUnused]
		return r
	}
	h := p.readHeaders(a.Headers, now, &r)
	success := a.Status >= 200 && a.Status < 300
	switch {
	case success && !a.MidStream:
		r.Class = limiter.ClassOK
		return r
	case a.Status < 0 || a.Status > 999 || a.Status > 0 && a.Status < 100:
		r.Odd |= OddStatus
		return r
	}
	errorType := a.ErrorType
	if errorType == "" {
		errorType = h.errorType
	}
	if a.Status == 0 && errorType == "" && !a.MidStream {
		r.Class = limiter.ClassUnset
		return r
	}
	errorType = bareType(errorType)
	status := a.Status
	if success || status == 0 {
		status = p.statusOf(errorType)
	}
	switch {
	case status != 0:
		p.failed(&r, a, &h, errorType, status, now)
	case a.MidStream:
		// An error of a type that nobody described is a failure of the upstream.
		r.Class = limiter.ClassServer
	}
	r.Begun = r.Begun || a.MidStream
	r.Refund = p.refund(&r)
	return r
}

// failed reads a failure by the first rule that fits.
func (p *Profile) failed(r *Reading, a *Answer, h *headers, errorType string, status int, now limiter.Instant) {
	text := a.Message
	if len(text) > MaxText {
		r.Odd |= OddText
		text = text[:MaxText]
	}
	text = lowered(text)
	rule := p.ruleFor(status, errorType, text)
	if rule == nil {
		return
	}
	r.Class, r.Begun = rule.Class, rule.Begun
	switch r.Class {
	case limiter.ClassQuota, limiter.ClassAcceleration:
		at := 0
		r.Named, at, r.HasNamed = p.meterIn(text, errorType)
		if rule.HasMeter {
			if r.Named != rule.Meter {
				at = 0 // numbers after that name are another meter's
			}
			r.Named, r.HasNamed = rule.Meter, true
		}
		p.numbersIn(r, text, at)
	case limiter.ClassSpend:
		r.Narrow = rule.Narrow
		p.untilIn(r, text, now)
	case limiter.ClassOK, limiter.ClassUnused:
		return
	default:
	}
	switch {
	case r.Until != 0:
		r.RetryAfter = r.Until.Sub(now)
	case !rule.Mute:
		r.RetryAfter = p.waitOf(r, a, h, text, now)
	}
}

// bareType returns an error type without the namespace and the address that some
// clients write around it.
func bareType(t string) string {
	if i := strings.LastIndexByte(t, '#'); i >= 0 {
		t = t[i+1:]
	}
	t, _, _ = strings.Cut(t, ":")
	return t
}

func (p *Profile) ruleFor(status int, errorType, text string) *Rule {
	// A code stands in few texts, and few texts have what is in most codes.
	joined := strings.IndexByte(text, '_') >= 0
	for i := range p.Rules {
		r := &p.Rules[i]
		if status < r.From || r.To < status || r.Text != "" && !strings.Contains(text, r.Text) {
			continue
		}
		if r.Code == "" || equalFold(errorType, r.Code) ||
			(joined || strings.IndexByte(r.Code, '_') < 0) && strings.Contains(text, r.Code) {
			return r
		}
	}
	return nil
}

func (p *Profile) statusOf(errorType string) int {
	for i := range p.Types {
		if equalFold(errorType, p.Types[i].Type) {
			return p.Types[i].Status
		}
	}
	return 0
}

// meterIn returns the meter that a refusal names, and where it does.
func (p *Profile) meterIn(text, errorType string) (m limiter.Meter, at int, ok bool) {
	for i := range p.Meters {
		m := &p.Meters[i]
		if m.Text != "" {
			if at := strings.Index(text, m.Text); at >= 0 {
				return m.Meter, at, true
			}
		}
		if m.Type != "" && equalFold(errorType, m.Type) {
			return m.Meter, 0, true
		}
	}
	return 0, 0, false
}

// numbersIn reads what a refusal says in numbers: what stands after the meter's name,
// where several quotas are named, belongs to it.
func (p *Profile) numbersIn(r *Reading, text string, meterAt int) {
	to := [numNumbers]*uint64{&r.Limit, &r.Requested, &r.Ramp, &r.RampNext}
	ramps := r.Class == limiter.ClassAcceleration
	for i := range p.Numbers {
		n := &p.Numbers[i]
		if n.Number >= numNumbers || *to[n.Number] != 0 || ramps != (n.Number >= NumberRamp) {
			continue
		}
		if *to[n.Number] = numberAfter(text[meterAt:], n.Text); *to[n.Number] == 0 && meterAt > 0 {
			*to[n.Number] = numberAfter(text, n.Text)
		}
	}
}

// waitOf says how long a failed call is to wait: what headers say, then what the text
// does.
func (p *Profile) waitOf(r *Reading, a *Answer, h *headers, text string, now limiter.Instant) time.Duration {
	d, odd := h.retryAfter(a, now)
	if d == 0 {
		d = h.opens()
	}
	for i := 0; d == 0 && i < len(p.Waits); i++ {
		ns := spanAfter(text, p.Waits[i])
		if ns > 0 {
			var clamped bool
			d, clamped = believable(ns)
			odd = odd || clamped
		}
	}
	if odd {
		r.Odd |= OddRetryAfter
	}
	return d
}

// untilIn reads when a budget comes back.
func (p *Profile) untilIn(r *Reading, text string, now limiter.Instant) {
	for i := range p.Untils {
		t, ok := dateAfter(text, p.Untils[i])
		if !ok {
			continue
		}
		until := limiter.InstantOf(t)
		switch left := until.Sub(now); {
		case left <= 0 || left > absurdRetryAfter:
			r.Odd |= OddDate
		case left > MaxUntil:
			r.Odd |= OddDate
			r.Until = now.Add(MaxUntil)
		default:
			r.Until = until
		}
		return
	}
}

func (p *Profile) weightOf(model string) uint64 {
	if len(p.Weights) == 0 || model == "" || len(model) > maxWord {
		return 1
	}
	model = lowered(model)
	for i := range p.Weights {
		if strings.Contains(model, p.Weights[i].Text) {
			return p.Weights[i].Weight
		}
	}
	return 1
}

// refund says what to give back of a call that failed in the way read.
func (p *Profile) refund(r *Reading) Refund {
	switch {
	case r.Begun:
		return Refund{}
	case r.Class == limiter.ClassQuota && r.HasNamed && r.Named == limiter.OutputTokens:
		// Output is judged while it is produced: the call had been let in.
		return Refund{Output: true}
	}
	return p.Refunds[r.Class]
}

// Outcome puts a Reading of this profile, and what is known of the usage, in the core's
// terms. What was used is charged as stated; what is not known stays charged as
// reserved, unless the upstream did not count it.
func (p *Profile) Outcome(r *Reading, u *Usage) limiter.Outcome {
	o := limiter.Outcome{
		Class:          r.Class,
		RefundRequests: r.Refund.Requests,
		RefundInput:    r.Refund.Input,
		RefundOutput:   r.Refund.Output,
	}
	if r.Class == limiter.ClassUnused {
		return o
	}
	o.Named, o.HasNamed = r.Named, r.HasNamed
	o.RetryAfter, o.Narrow = r.RetryAfter, r.Narrow
	o.Ramp, o.RampNext = r.Ramp, r.RampNext
	o.OutputFloor = r.Begun
	o.Headers = [3]limiter.HeaderState(r.Headers[:limiter.Tokens])
	if r.Class == limiter.ClassUnset {
		o.Class = limiter.ClassUnknown
		if u.Any() {
			o.Class = limiter.ClassOK
		}
	}
	if r.Class == limiter.ClassEntitlement {
		// It is about what the credential may do, and no wait changes that.
		o.RetryAfter = 0
	}
	joint(r, &o)
	if h := &o.Headers; o.Class == limiter.ClassQuota && o.HasNamed && o.Named <= limiter.OutputTokens &&
		r.Limit > 0 && !h[o.Named].HasLimit {
		h[o.Named] = limiter.HeaderState{Limit: r.Limit, HasLimit: true}
	}
	o.Usage.Requests = 1
	o.Usage.InputTokens, o.HasInput = u.Counted(false)
	if o.HasInput {
		o.CacheReads, o.CountCacheReads = min(u.CacheRead, limiter.MaxAmount), p.CountsCacheReads
	}
	o.Usage.OutputTokens, o.HasOutput = weighed(u.Output, r.Weight), u.HasOutput
	o.Learn = r.Class == limiter.ClassOK && u.Any()
	return o
}

// joint puts what is said of input and output together under input: where they share a
// limit its pace is both's, and elsewhere input is by far the larger part.
func joint(r *Reading, o *limiter.Outcome) {
	if o.HasNamed && o.Named == limiter.Tokens {
		o.Named = limiter.InputTokens
	}
	if in := &o.Headers[limiter.InputTokens]; !in.HasLimit && !in.HasRemaining {
		*in = r.Headers[limiter.Tokens]
	}
}

// weighed counts tokens weight times.
func weighed(n, weight uint64) uint64 {
	n = min(n, limiter.MaxAmount)
	if weight > 1 && n > limiter.MaxAmount/weight {
		return limiter.MaxAmount
	}
	return n * max(weight, 1)
}
