package server

import (
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-project/weir/limiter"
)

// sessionResponse is one message of answers, written straight into its encoding.
type sessionResponse struct{ out []byte }

// appendWire implements wireMessage.
func (r *sessionResponse) appendWire(b []byte) []byte { return append(b, r.out...) }

// parseWire implements wireMessage; a server reads no answers.
func (r *sessionResponse) parseWire(b []byte) error {
	r.out = append(r.out[:0], b...)
	return nil
}

// The members of SessionAnswer.answer.
const (
	answerReserve = 2
	answerReport  = 3
	answerRenew   = 4
	answerRelease = 5
	answerError   = 6
)

// begin starts the answer to a question and returns where it and its member start, for
// end.
func (r *sessionResponse) begin(sequence uint64, member protowire.Number) (answer, inner int) {
	r.out, answer = openMessage(r.out, 1)
	r.out = appendNumber(r.out, 1, sequence)
	r.out, inner = openMessage(r.out, member)
	return answer, inner
}

func (r *sessionResponse) end(answer, inner int) {
	r.out = closeMessage(r.out, inner)
	r.out = closeMessage(r.out, answer)
}

// addReserve writes the answer to a Reserve.
func (r *sessionResponse) addReserve(sequence uint64, now limiter.Instant, a *active, d *limiter.Decision, ticket []byte) {
	answer, inner := r.begin(sequence, answerReserve)
	b := appendNumber(r.out, 1, uint64(verdictOf(d.Verdict)))
	allowed := d.Verdict == limiter.Allowed
	if allowed && d.Opened {
		b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.BytesType), idLen)
		b = appendID(b, d.ID)
		b = appendTimestamp(b, 3, d.ExpiresAt)
	}
	if allowed && d.Delay > 0 {
		b = appendDuration(b, 4, d.Delay)
	}
	if d.Verdict == limiter.Denied && d.RetryAt != limiter.Never {
		b = appendDuration(b, 5, until(now, d.RetryAt))
	}
	if !allowed {
		b = appendData(b, 6, ticket)
	}
	if !allowed && d.RefusedBy >= 0 && d.RefusedBy < len(d.Checks) {
		b = appendLimit(b, 7, now, a, &d.Checks[d.RefusedBy])
	}
	for i := range d.Checks {
		b = appendLimit(b, 8, now, a, &d.Checks[i])
	}
	if allowed {
		b = appendUsage(b, 9, d.Reserved)
	}
	r.out = appendText(b, 10, a.Digest)
	r.end(answer, inner)
}

// addReport writes the answer to a Report.
func (r *sessionResponse) addReport(sequence uint64, st limiter.Settlement) {
	answer, inner := r.begin(sequence, answerReport)
	r.out = appendNumber(r.out, 1, uint64(endingOf(st.Ending)))
	r.out = appendBool(r.out, 2, st.Applied)
	r.out = appendUsage(r.out, 3, st.Charged)
	r.end(answer, inner)
}

// addRenew writes the answer to a Renew.
func (r *sessionResponse) addRenew(sequence uint64, st limiter.Settlement) {
	answer, inner := r.begin(sequence, answerRenew)
	r.out = appendTimestamp(r.out, 1, st.ExpiresAt)
	r.end(answer, inner)
}

// addRelease writes the answer to a Release.
func (r *sessionResponse) addRelease(sequence uint64, st limiter.Settlement) {
	answer, inner := r.begin(sequence, answerRelease)
	r.out = appendNumber(r.out, 1, uint64(endingOf(st.Ending)))
	r.out = appendBool(r.out, 2, st.Applied)
	r.end(answer, inner)
}

// addError writes what a question failed with.
func (r *sessionResponse) addError(sequence uint64, err error) {
	answer, inner := r.begin(sequence, answerError)
	r.out = appendNumber(r.out, 1, uint64(codeOf(err)))
	r.out = appendText(r.out, 2, messageOf(err))
	r.end(answer, inner)
}

// maxLimitState is how long a LimitState can be beyond its fixed part: the tag and
// length of the message, 6 numbers, 2 flags, and a duration.
const maxLimitState = 2 + 6*maxNumber + 2*2 + 2

// maxNumber is how long a field with a number can be.
const maxNumber = 11

// appendLimit appends a LimitState. What is the same in every answer was written when
// the plan was loaded.
func appendLimit(b []byte, field protowire.Number, now limiter.Instant, a *active, c *limiter.Check) []byte {
	b, at := openMessage(b, field)
	if i := c.Limit.Index; i < len(a.fixed) {
		b = append(b, a.fixed[i]...)
	} else {
		b = appendFixed(b, c.Limit)
	}
	b = slices.Grow(b, maxLimitState)
	if c.Amount != c.Limit.Amount { // the later one of two counts
		b = putNumber(b, 3, c.Amount)
	}
	b = putNumber(b, 5, c.Used)
	b = putNumber(b, 6, c.Remaining)
	b = putDuration(b, 7, until(now, c.ResetAt))
	b = putNumber(b, 8, c.Requested)
	if c.Over {
		b = append(b, 9<<3, 1)
	}
	if c.Overflow {
		b = append(b, 10<<3, 1)
	}
	return closeMessage(b, at)
}

// putNumber appends a field with a number, unless that is 0; there is room for
// maxNumber bytes in b.
func putNumber(b []byte, field byte, v uint64) []byte {
	if v == 0 {
		return b
	}
	n := len(b)
	p := b[n : n+maxNumber]
	p[0] = field << 3
	i := 1
	for ; v >= 0x80; i++ {
		p[i] = byte(v) | 0x80
		v >>= 7
	}
	p[i] = byte(v)
	return b[:n+i+1]
}

// putDuration appends a field with a duration; there is room for it in b. Seconds and
// nanoseconds are short: so is its length.
func putDuration(b []byte, field byte, d time.Duration) []byte {
	b = append(b, field<<3|2, 0)
	at := len(b)
	b = putNumber(b, 1, uint64(d/time.Second))
	b = putNumber(b, 2, uint64(d%time.Second))
	b[at-1] = byte(len(b) - at)
	return b
}

// appendFixed appends what a LimitState says of a limit, whoever asks.
func appendFixed(b []byte, l *limiter.Limit) []byte {
	b = appendText(b, 1, l.Owner)
	b = appendText(b, 2, l.Meter.String())
	b = appendNumber(b, 3, l.Amount)
	return appendDuration(b, 4, l.Window)
}

// fixedParts are what appendFixed appends, by limiter.Limit.Index.
func fixedParts(p *limiter.Plan) [][]byte {
	parts := make([][]byte, len(p.Limits()))
	for i, l := range p.Limits() {
		parts[i] = appendFixed(nil, l)
	}
	return parts
}

func appendUsage(b []byte, field protowire.Number, u limiter.Usage) []byte {
	b, at := openMessage(b, field)
	b = appendNumber(b, 1, u.Requests)
	b = appendNumber(b, 2, u.InputTokens)
	b = appendNumber(b, 3, u.OutputTokens)
	return closeMessage(b, at)
}

func appendDuration(b []byte, field protowire.Number, d time.Duration) []byte {
	b, at := openMessage(b, field)
	b = appendNumber(b, 1, uint64(d/time.Second))
	b = appendNumber(b, 2, uint64(d%time.Second))
	return closeMessage(b, at)
}

func appendTimestamp(b []byte, field protowire.Number, at limiter.Instant) []byte {
	b, open := openMessage(b, field)
	seconds, nanos := int64(at)/1e9, int64(at)%1e9
	if nanos < 0 {
		seconds, nanos = seconds-1, nanos+1e9
	}
	b = appendNumber(b, 1, uint64(seconds))
	b = appendNumber(b, 2, uint64(nanos))
	return closeMessage(b, open)
}

func appendBool(b []byte, field protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return append(protowire.AppendTag(b, field, protowire.VarintType), 1)
}
