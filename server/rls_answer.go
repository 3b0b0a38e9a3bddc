package server

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/weir-project/weir/limiter"
)

// refusal is a reason to refuse a call that no limit gave.
type refusal struct {
	reason     string
	retryAfter time.Duration
	infeasible bool // the same call never passes
}

// refuse answers that the whole request is refused.
func (c *rlsCall) refuse(r *refusal) {
	c.response.reset()
	c.text = c.text[:0]
	c.response.code = codeOverLimit
	for range c.request.descriptors {
		c.response.statuses = append(c.response.statuses, rlsStatus{code: codeOverLimit})
	}
	if c.ratelimit != nil && c.ratelimit.ShadowMode {
		c.response.code = codeOK
		return
	}
	if c.quiet {
		return
	}
	c.sayRefused(func(b []byte) []byte { return append(b, r.reason...) }, r.retryAfter, r.infeasible)
}

// admitUncounted answers that nothing limits the request.
func (c *rlsCall) admitUncounted() {
	if c.ratelimit != nil {
		c.scratch.decision.Verdict, c.scratch.decision.Checks = limiter.Allowed, c.scratch.decision.Checks[:0]
		c.fillRatelimit(0)
		return
	}
	c.response.code = codeOK
	for range c.request.descriptors {
		c.response.statuses = append(c.response.statuses, rlsStatus{code: codeOK})
	}
}

// fill answers as the store decided.
func (c *rlsCall) fill(now limiter.Instant) {
	d := &c.scratch.decision
	if d.Verdict == limiter.Overloaded {
		c.refuse(&refusal{reason: "weir has no room for another reservation", retryAfter: max(d.RetryAt.Sub(now), sickRetry)})
		return
	}
	c.response.code = codeOK
	refused := d.Verdict != limiter.Allowed
	if refused {
		c.response.code = codeOverLimit
	}
	shown := false
	for i := range c.request.descriptors {
		s := c.status(now, i)
		shown = shown || s.code == codeOverLimit
		c.response.statuses = append(c.response.statuses, s)
	}
	if !refused {
		c.response.reserved, c.response.reservation = d.Opened, d.ID
		return
	}
	if over := refusedBy(d); !shown && over.Limit != nil {
		// The limit that refused belongs to no descriptor by itself.
		at := min(max(over.Descriptor, 0), len(c.response.statuses)-1)
		c.response.statuses[at] = statusOf(now, over, true)
	}
	c.sayWhy(now)
}

// refusedBy returns the check that refused; one without a limit if that is not known.
func refusedBy(d *limiter.Decision) *limiter.Check {
	if d.RefusedBy >= 0 && d.RefusedBy < len(d.Checks) {
		return &d.Checks[d.RefusedBy]
	}
	return &limiter.Check{}
}

// sayWhy tells the caller of the LLM API why the store refused.
func (c *rlsCall) sayWhy(now limiter.Instant) {
	d := &c.scratch.decision
	over := refusedBy(d)
	infeasible := d.Verdict == limiter.Infeasible
	wait := max(d.RetryAt.Sub(now), 0)
	c.sayRefused(func(b []byte) []byte {
		if over.Limit != nil && d.Refusal.Cause > limiter.CauseLimit {
			return appendSeconds(append(appendCause(b, now, over, &d.Refusal), "; try again in "...), wait)
		}
		return appendReason(b, over, wait, infeasible)
	}, wait, infeasible)
}

// status returns the status of descriptor i: that of the limit which refused, or else
// of the one with the least left.
func (c *rlsCall) status(now limiter.Instant, i int) rlsStatus {
	ordinal, u := i, use{}
	if i < len(c.spoken.uses) {
		u = c.spoken.uses[i]
		switch u.role {
		case rolePlain:
		case roleAsk:
			ordinal = c.spoken.asks[u.ask].ordinal
		case roleContext:
			if len(c.spoken.asks) > 1 || c.spoken.asks[0].ordinal != i {
				return rlsStatus{code: codeOK} // shown where it asks
			}
		case roleReport, roleNone:
			return rlsStatus{code: codeOK}
		}
	}
	var worst *limiter.Check
	worstOver := false
	checks := c.scratch.decision.Checks
	for j := range checks {
		k := &checks[j]
		if k.Descriptor != ordinal || u.metered && k.Limit.Meter != u.meter {
			continue
		}
		over := k.Over && !k.Limit.Shadow && c.response.code == codeOverLimit
		if worst == nil || over && !worstOver || over == worstOver && k.Remaining < worst.Remaining {
			worst, worstOver = k, over
		}
	}
	if worst == nil {
		return rlsStatus{code: codeOK}
	}
	return statusOf(now, worst, worstOver)
}

func statusOf(now limiter.Instant, k *limiter.Check, over bool) rlsStatus {
	s := rlsStatus{
		code: codeOK, limit: k.Limit,
		perUnit: saturate32(k.Amount), remaining: saturate32(k.Remaining),
		reset: max(k.ResetAt.Sub(now), 0),
	}
	s.unit, s.multiplier = unitOf(k.Limit.Window)
	if over {
		s.code = codeOverLimit
	}
	return s
}

func saturate32(n uint64) uint32 { return uint32(min(n, math.MaxUint32)) }

// sayRefused fills in what the caller of the LLM API gets to see: the provider's own
// form of an error, and when to come back. say appends the reason as plain text.
func (c *rlsCall) sayRefused(say func([]byte) []byte, wait time.Duration, infeasible bool) {
	c.header("content-type", func(b []byte) []byte { return append(b, "application/json"...) })
	if infeasible {
		c.header("x-should-retry", func(b []byte) []byte { return append(b, "false"...) })
	} else {
		wait = max(wait, time.Millisecond)
		c.header("retry-after", func(b []byte) []byte { return strconv.AppendInt(b, ceilDiv(wait, time.Second), 10) })
		c.header("retry-after-ms", func(b []byte) []byte { return strconv.AppendInt(b, ceilDiv(wait, time.Millisecond), 10) })
		c.header("x-should-retry", func(b []byte) []byte { return append(b, "true"...) })
	}
	from := len(c.text)
	c.text = append(c.text, `{"type":"error","error":{"type":"rate_limit_error","message":"`...)
	at := len(c.text)
	c.text = say(c.text)
	c.text = escapeFrom(c.text, at)
	c.text = append(c.text, `"}`...)
	if id := c.spoken.requestID; id != "" {
		c.text = append(c.text, `,"request_id":"`...)
		at = len(c.text)
		c.text = append(c.text, id...)
		c.text = escapeFrom(c.text, at)
		c.text = append(c.text, '"')
	}
	c.text = append(c.text, '}')
	c.response.body = c.text[from:len(c.text):len(c.text)]
}

// header adds a header of the answer.
func (c *rlsCall) header(key string, value func([]byte) []byte) {
	from := len(c.text)
	c.text = value(c.text)
	c.response.headers = append(c.response.headers, rlsHeader{key, c.text[from:len(c.text):len(c.text)]})
}

// number adds a header with a number.
func (c *rlsCall) number(key string, n uint64) {
	c.header(key, func(b []byte) []byte { return strconv.AppendUint(b, n, 10) })
}

// ceilDiv returns d in whole units, rounded up: who comes back early is refused again.
func ceilDiv(d, unit time.Duration) int64 {
	n := int64(d / unit)
	if d%unit > 0 {
		n++
	}
	return n
}

// appendReason says which limit refused, how it stands, and when to come back.
func appendReason(b []byte, k *limiter.Check, wait time.Duration, infeasible bool) []byte {
	if k.Limit == nil {
		return append(b, "refused"...)
	}
	b = append(b, k.Limit.Owner...)
	if k.Limit.Name != "" && k.Limit.Name != k.Limit.Owner {
		b = append(append(append(b, " ("...), k.Limit.Name...), ')')
	}
	b = strconv.AppendUint(append(b, ": limit of "...), k.Amount, 10)
	b = append(append(b, ' '), k.Limit.Meter.String()...)
	b = appendWindow(append(b, " per "...), k.Limit.Window)
	if infeasible {
		b = strconv.AppendUint(append(b, " is less than the "...), k.Requested, 10)
		return append(b, " that this call needs at once; make it smaller, waiting does not help"...)
	}
	b = strconv.AppendUint(append(b, " reached: "...), k.Used, 10)
	b = strconv.AppendUint(append(b, " used, "...), k.Requested, 10)
	b = append(b, " more requested"...)
	if k.Overflow {
		b = append(b, " (counted with others, as the bound on keys is reached)"...)
	}
	return appendSeconds(append(b, "; try again in "...), wait)
}

// appendWindow names a window.
func appendWindow(b []byte, w time.Duration) []byte {
	unit, n := unitOf(w)
	if unit == 0 {
		return append(b, w.String()...)
	}
	if n > 1 {
		b = append(strconv.AppendUint(b, uint64(n), 10), ' ')
	}
	b = append(b, unitNames[unit]...)
	if n > 1 {
		b = append(b, 's')
	}
	return b
}

var unitNames = [...]string{1: "second", 2: "minute", 3: "hour", 4: "day", 5: "month", 6: "year", 7: "week"}

// escapeFrom makes b[at:] the inside of a JSON string.
func escapeFrom(b []byte, at int) []byte {
	plain := utf8.Valid(b[at:])
	for _, c := range b[at:] {
		plain = plain && c >= ' ' && c != '"' && c != '\\' && c != 0x7f
	}
	if plain {
		return b
	}
	raw := string(b[at:])
	b = b[:at]
	for _, r := range raw { // what is not UTF-8 becomes U+FFFD
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

const hexDigits = "0123456789abcdef"
