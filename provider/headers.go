package provider

import (
	"math"
	"strings"
	"time"

	"github.com/weir-project/weir/limiter"
)

// headers are what the headers of an answer say beside how the limits stand.
type headers struct {
	errorType          string
	seconds, millis    string // retry-after, and its finer form
	policies, policing string // RateLimit-Policy and RateLimit
	spent              bool   // a window of unknown length is used up
	window             time.Duration
	wait               time.Duration // what headers of the profile's own ask for
	oddWait            bool          // of which something is not believed
	opening            time.Duration // until a limit that is used up has more
}

// common is what a header says that any upstream may send.
type common uint8

const (
	commonRetryAfter common = iota
	commonRetryAfterMillis
	commonErrorType
	commonRateLimit
	commonRateLimitPolicy
	commonShouldRetry
)

var commonHeadersTable = [...]struct {
	name string
	says common
}{
	{"retry-after", commonRetryAfter},
	{"retry-after-ms", commonRetryAfterMillis},
	{"x-ms-retry-after-ms", commonRetryAfterMillis},
	{"x-should-retry", commonShouldRetry},
	{"x-amzn-errortype", commonErrorType},
	{"ratelimit", commonRateLimit},
	{"ratelimit-policy", commonRateLimitPolicy},
}

// readHeaders reads how the limits stand into r, and returns the rest.
func (p *Profile) readHeaders(hs []limiter.Entry, now limiter.Instant, r *Reading) headers {
	var h headers
	var states meterStates
	if len(hs) > MaxHeaders {
		hs = hs[:MaxHeaders]
		r.Odd |= OddCount
	}
	for i := range hs {
		if rule := p.headerRule(hs[i].Key); rule != nil {
			h.take(rule, hs[i].Value, now, &states, r)
		} else {
			h.common(&hs[i], r)
		}
	}
	h.standing(&states, r)
	states.finish(r)
	return h
}

// common takes in a header that any upstream may send, if it is one.
func (h *headers) common(in *limiter.Entry, r *Reading) {
	for i := range commonHeadersTable {
		if !equalFold(in.Key, commonHeadersTable[i].name) {
			continue
		}
		switch commonHeadersTable[i].says {
		case commonRetryAfter:
			h.seconds = in.Value
		case commonRetryAfterMillis:
			h.millis = in.Value
		case commonErrorType:
			h.errorType = in.Value
		case commonRateLimit:
			h.policing = in.Value
		case commonRateLimitPolicy:
			h.policies = in.Value
		case commonShouldRetry:
			switch v := trimmed(in.Value); {
			case equalFold(v, "true"):
				r.Retry = RetryYes
			case equalFold(v, "false"):
				r.Retry = RetryNo
			}
		}
		return
	}
}

func (p *Profile) headerRule(name string) *HeaderRule {
	for i := range p.Headers {
		h := &p.Headers[i]
		n := len(h.Name)
		if n > 0 && h.Name[n-1] == '*' {
			if len(name) >= n-1 && equalFold(name[:n-1], h.Name[:n-1]) {
				return h
			}
		} else if equalFold(name, h.Name) {
			return h
		}
	}
	return nil
}

// meterStates are what is gathered of each meter.
type meterStates [4]struct {
	limit, remaining       uint64
	hasLimit, hasRemaining bool
	none                   bool // the limit is no number: nothing is known
	reset                  time.Duration
}

// take takes in one rate-limit header. Where one comes twice, the tighter one counts.
func (h *headers) take(rule *HeaderRule, value string, now limiter.Instant, states *meterStates, r *Reading) {
	s := &states[rule.Meter]
	switch rule.Part {
	case PartAside, numParts:
		r.Aside++
	case PartLimit:
		n, ok := amount(value)
		switch {
		case !ok:
			s.none = true
			r.Odd |= OddHeader
		case n == 0: // not enabled, or not metered
			s.none = true
		case !s.hasLimit || n < s.limit:
			s.limit, s.hasLimit = n, true
		}
	case PartRemaining:
		n, ok := amount(value)
		if !ok {
			r.Odd |= OddHeader
		} else if !s.hasRemaining || n < s.remaining {
			s.remaining, s.hasRemaining = n, true
		}
	case PartReset:
		if d, ok := instantOrSpan(value, now); ok {
			s.reset = max(s.reset, d)
		} else {
			r.Odd |= OddHeader
		}
	case PartWindowRemaining:
		n, ok := amount(value)
		h.spent = h.spent || ok && n == 0
		r.Aside++
	case PartWindowReset:
		if d, ok := instantOrSpan(value, now); ok {
			h.window = max(h.window, d)
		} else {
			r.Odd |= OddHeader
		}
		r.Aside++
	case PartWaitSeconds, PartWaitMillis, PartWaitDate:
		h.takeWait(rule.Part, value, now)
	}
}

// takeWait takes in a header that asks for a wait. Where several do, the longest counts.
func (h *headers) takeWait(part Part, value string, now limiter.Instant) {
	var d time.Duration
	var odd bool
	switch part {
	case PartWaitMillis:
		d, odd = readWait(value, time.Millisecond, now)
	case PartWaitDate:
		var ok bool
		d, ok = instantOrSpan(value, now)
		odd = !ok
	default:
		d, odd = readWait(value, time.Second, now)
	}
	h.wait, h.oddWait = max(h.wait, d), h.oddWait || odd
}

// finish puts what was gathered into r.
func (states *meterStates) finish(r *Reading) {
	for m := range states {
		s := &states[m]
		if s.none {
			continue
		}
		out := &r.Headers[m]
		if s.hasLimit {
			out.Limit, out.HasLimit = s.limit, true
		}
		if s.hasRemaining {
			out.Remaining, out.HasRemaining = s.remaining, true
			if s.hasLimit && s.remaining > s.limit {
				out.Remaining = s.limit
				r.Odd |= OddHeader
			}
			if s.remaining == 0 {
				r.Reset = max(r.Reset, s.reset)
			}
		}
	}
}

// amount reads a count. It is false for what is negative, no number, or more than any
// limit; Azure says -1 for what it does not know.
func amount(value string) (uint64, bool) {
	v := trimmed(value)
	if i := strings.IndexAny(v, ",;"); i >= 0 {
		v = trimmed(v[:i]) // further windows, and parameters
	}
	whole, fraction, _ := strings.Cut(v, ".")
	if whole == "" || len(whole) > 16 || len(fraction) > 16 || !digits(fraction) {
		return 0, false
	}
	n, rest := leadingNumber(whole)
	return n, rest == "" && n <= limiter.MaxAmount
}

// instantOrSpan reads when something happens as a wait from now, at least 0 and at most
// MaxRetryAfter: a date, seconds or milliseconds since 1970, seconds, or a duration.
func instantOrSpan(value string, now limiter.Instant) (time.Duration, bool) {
	v := trimmed(value)
	if v == "" || len(v) > 64 {
		return 0, false
	}
	var ns float64
	if f, ok := decimal(v); ok {
		switch {
		case f >= 1e11:
			ns = f*1e6 - float64(now)
		case f >= 1e9:
			ns = f*1e9 - float64(now)
		default:
			ns = f * 1e9
		}
	} else if d, rest := span(v); d >= 0 && rest == "" {
		ns = d
	} else if t, ok := dateOf(v); ok {
		ns = float64(t.Sub(now.Time()))
	} else {
		return 0, false
	}
	if ns > float64(absurdRetryAfter) {
		return 0, false
	}
	return time.Duration(min(max(math.Round(ns), 0), float64(MaxRetryAfter))), true
}

// retryAfter reads how long the headers ask to wait; 0 if they do not. odd says that
// something was said that is not believed as it is.
func (h *headers) retryAfter(a *Answer, now limiter.Instant) (d time.Duration, odd bool) {
	if h.wait > 0 {
		return h.wait, h.oddWait
	}
	if d, odd = readWait(h.millis, time.Millisecond, now); d > 0 {
		return d, odd || h.oddWait
	}
	odd = odd || h.oddWait
	if a.RetryIn > 0 {
		d, clamped := believable(float64(a.RetryIn))
		return d, odd || clamped
	}
	for _, text := range [...]string{a.RetryAfter, h.seconds} {
		d, o := readWait(text, time.Second, now)
		odd = odd || o
		if d > 0 {
			return d, odd
		}
	}
	return 0, odd
}

// opens returns when a limit that is used up has more, as far as headers say that; 0 if
// they do not.
func (h *headers) opens() time.Duration {
	if h.opening > 0 {
		return h.opening
	}
	if h.spent {
		return h.window
	}
	return 0
}
