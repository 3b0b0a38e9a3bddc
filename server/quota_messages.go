package server

import (
	"bytes"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// from replaces c by what req says. It keeps references to req's strings.
func (c *reserveCall) from(req *weirv1.ReserveRequest) {
	c.reset()
	for key, value := range req.GetAttributes() {
		c.attributes = append(c.attributes, limiter.Entry{Key: key, Value: value})
	}
	c.estimate = estimateFrom(req.GetEstimate())
	c.maxWait = spanOf(req.GetMaxWait())
	c.priority = int32(req.GetPriority())
	c.idempotencyKey = req.GetIdempotencyKey()
	c.ttl = spanOf(req.GetTtl())
	c.ticket = req.GetTicket()
	c.retry = req.GetRetry()
	c.domain = req.GetDomain()
	c.requestID = req.GetRequestId()
	c.usefulFor = spanOf(req.GetUsefulFor())
}

func estimateFrom(e *weirv1.Estimate) estimateFields {
	if e == nil {
		return estimateFields{}
	}
	return estimateFields{
		input: optionalOf(e.InputTokens), body: optionalOf(e.BodyBytes), max: optionalOf(e.MaxTokens),
		cached: optionalOf(e.CachedInputTokens), requests: optionalOf(e.Requests),
	}
}

// from replaces c by what req says. It keeps references to req's strings.
func (c *reportCall) from(req *weirv1.ReportRequest) {
	c.reset()
	c.reservation, c.tenant = req.GetReservation(), req.GetTenant()
	c.status = req.GetHttpStatus()
	c.errorType, c.errorMessage = req.GetErrorType(), req.GetErrorMessage()
	c.provider = req.GetProvider()
	c.retryAfter = spanOf(req.GetRetryAfter())
	for _, h := range req.GetHeaders() {
		c.headers = append(c.headers, headerField{h.GetName(), h.GetValue()})
	}
	if u := req.GetUsage(); u != nil {
		c.input, c.creation = optionalOf(u.InputTokens), optionalOf(u.CacheCreationInputTokens)
		c.read, c.output = optionalOf(u.CacheReadInputTokens), optionalOf(u.OutputTokens)
	}
	c.progress, c.aborted = req.GetProgress(), req.GetAborted()
	if t := req.GetSentAt(); t != nil {
		c.sentAt = span{true, t.GetSeconds(), t.GetNanos()}
	}
}

// terms says c in the terms that all reports have in common.
func (c *reportCall) terms(ref Ref) report {
	// A wait that is none has been refused before.
	wait, _ := c.retryAfter.atLeast("retry_after", 0)
	return report{
		ref:          ref,
		tenant:       c.tenant,
		provider:     c.provider,
		status:       int(c.status),
		errorType:    c.errorType,
		errorMessage: shorten(c.errorMessage),
		usage: reportedUsage{
			input: c.input.value, hasInput: c.input.set,
			cacheCreation: c.creation.value, hasCacheCreation: c.creation.set,
			cacheRead: c.read.value, hasCacheRead: c.read.set,
			output: c.output.value, hasOutput: c.output.set,
		},
		progress: c.progress,
		aborted:  c.aborted,
		retryIn:  wait,
		headers:  c.entries(),
		sent:     c.sentAt.instant(),
	}
}

// entries are the upstream's headers, as profiles read them.
func (c *reportCall) entries() []limiter.Entry {
	if len(c.headers) == 0 {
		return nil
	}
	es := make([]limiter.Entry, len(c.headers))
	for i, h := range c.headers {
		es[i] = limiter.Entry{Key: h.name, Value: h.value}
	}
	return es
}

// instant returns s as a point in time; 0 if there is none that a clock can show.
func (s span) instant() limiter.Instant {
	const most = int64(1<<63-1)/1e9 - 1
	if !s.set || s.seconds < 0 || s.seconds > most || s.nanos < 0 || s.nanos >= 1e9 {
		return 0
	}
	return limiter.Instant(s.seconds*1e9 + int64(s.nanos))
}

func optionalOf(p *uint64) optional {
	if p == nil {
		return optional{}
	}
	return optional{true, *p}
}

func spanOf(d *durationpb.Duration) span {
	if d == nil {
		return span{}
	}
	return span{true, d.GetSeconds(), d.GetNanos()}
}

// reserveAnswer is a decision as a message. It keeps no reference to ticket.
func reserveAnswer(now limiter.Instant, a *active, d *limiter.Decision, ticket []byte) *weirv1.ReserveResponse {
	r := &weirv1.ReserveResponse{Verdict: verdictOf(d.Verdict), Plan: a.Digest, Limits: limitStates(now, d.Checks)}
	switch d.Verdict {
	case limiter.Allowed:
		r.Reserved = usageOf(d.Reserved)
		if d.Delay > 0 {
			r.Delay = durationpb.New(d.Delay)
		}
		if d.Opened {
			r.Reservation = encodeID(d.ID)
			r.ExpiresAt = timestampOf(d.ExpiresAt)
		}
	default:
		if d.RefusedBy >= 0 && d.RefusedBy < len(r.Limits) {
			r.RefusedBy = r.Limits[d.RefusedBy]
		}
		r.RetryAfter = retryAfter(now, d)
		r.Ticket = bytes.Clone(ticket)
	}
	return r
}

// retryAfter is how long until the same call would pass; nil if it passes now or
// never.
func retryAfter(now limiter.Instant, d *limiter.Decision) *durationpb.Duration {
	if d.Verdict != limiter.Denied || d.RetryAt == limiter.Never {
		return nil
	}
	return durationpb.New(until(now, d.RetryAt))
}

// until is how long it is until at; 0 if that has passed.
func until(now, at limiter.Instant) time.Duration { return max(at.Sub(now), 0) }

func limitStates(now limiter.Instant, checks []limiter.Check) []*weirv1.LimitState {
	states := make([]*weirv1.LimitState, len(checks))
	for i := range checks {
		c := &checks[i]
		states[i] = &weirv1.LimitState{
			Owner:      c.Limit.Owner,
			Meter:      c.Limit.Meter.String(),
			Limit:      c.Amount,
			Window:     durationpb.New(c.Limit.Window),
			Used:       c.Used,
			Remaining:  c.Remaining,
			ResetAfter: durationpb.New(until(now, c.ResetAt)),
			Requested:  c.Requested,
			Over:       c.Over,
			Overflow:   c.Overflow,
		}
	}
	return states
}

func usageOf(u limiter.Usage) *weirv1.Usage {
	return &weirv1.Usage{Requests: u.Requests, InputTokens: u.InputTokens, OutputTokens: u.OutputTokens}
}

func timestampOf(at limiter.Instant) *timestamppb.Timestamp { return timestamppb.New(at.Time()) }

// verdictOf is a verdict on the wire. Overloaded is an error there, and Held and Reroute do not
// leave the store.
func verdictOf(v limiter.Verdict) weirv1.Verdict {
	switch v {
	case limiter.Allowed:
		return weirv1.Verdict_VERDICT_ALLOW
	case limiter.Infeasible:
		return weirv1.Verdict_VERDICT_INFEASIBLE
	case limiter.Denied, limiter.Overloaded, limiter.Held, limiter.Reroute:
		return weirv1.Verdict_VERDICT_DENY
	}
	return weirv1.Verdict_VERDICT_UNSPECIFIED
}

// endingOf is an ending on the wire. Unknown is an error there.
func endingOf(e limiter.Ending) weirv1.Ending {
	switch e {
	case limiter.Open:
		return weirv1.Ending_ENDING_OPEN
	case limiter.Settled:
		return weirv1.Ending_ENDING_SETTLED
	case limiter.Released:
		return weirv1.Ending_ENDING_RELEASED
	case limiter.Expired:
		return weirv1.Ending_ENDING_EXPIRED
	case limiter.Unknown:
	}
	return weirv1.Ending_ENDING_UNSPECIFIED
}
