package server

import (
	"strings"
	"time"

	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/provider"
)

// report is what is known of how a call went, whichever door it came in by. Its
// strings are used during the call only.
type report struct {
	ref    Ref
	tenant string // empty: anybody's
	// attributes are those of the call, in weir's words. They matter where the call
	// was not asked for: its spending is charged to the quotas that they match.
	attributes []limiter.Entry
	provider   string // empty: that of all quotas, or else Anthropic

	status                  int // 0: none was received
	errorType, errorMessage string
	// retryAfter is the text of the header of that name, retryIn a wait that was read
	// already. headers are the upstream's, where they are not
	// among the attributes.
	retryAfter string
	retryIn    time.Duration
	headers    []limiter.Entry
	usage      reportedUsage
	// sent is when the call was sent upstream; 0: when it was admitted.
	sent limiter.Instant

	// progress: the call goes on. aborted: the answer ended early, and what is known
	// of its output is a lower bound. unsent: the call never reached the upstream.
	progress, aborted, unsent bool
	// attempt is which attempt of the call this is about, or how many there were; 0: unknown.
	attempt int
	// partial: what is known of the usage is not all of it.
	partial bool
	// oneOfTwo: the same call may be reported by another path, which may know more.
	oneOfTwo bool
	// trusted: the reporter is a gateway.
	trusted bool
}

// reportedUsage is what the upstream said was used, in its own terms.
type reportedUsage struct {
	input, cacheCreation, cacheRead, output             uint64
	hasInput, hasCacheCreation, hasCacheRead, hasOutput bool
}

// any says whether anything is known.
func (u *reportedUsage) any() bool {
	return u.hasInput || u.hasCacheCreation || u.hasCacheRead || u.hasOutput
}

// spent is the usage as a provider's profile reads it.
func (u *reportedUsage) spent() provider.Usage {
	return provider.Usage{
		Input: u.input, CacheCreation: u.cacheCreation, CacheRead: u.cacheRead, Output: u.output,
		HasInput: u.hasInput, HasCacheCreation: u.hasCacheCreation, HasCacheRead: u.hasCacheRead, HasOutput: u.hasOutput,
	}
}

// reading says what the upstream's answer, which came at now, means by its profile.
func (r *report) reading(p *provider.Profile, now limiter.Instant) provider.Reading {
	if r.aborted && !r.unsent && r.status >= 300 {
		// The status is the proxy's own, or the answer did not come whole.
		return provider.Reading{Class: limiter.ClassUnknown}
	}
	headers := r.headers
	if len(headers) == 0 {
		headers = r.attributes // descriptors carry headers under their own names
	}
	return p.Read(&provider.Answer{
		Status:     r.status,
		ErrorType:  r.errorType,
		Message:    r.errorMessage,
		Model:      attribute(r.attributes, wordModel),
		RetryAfter: r.retryAfter,
		RetryIn:    r.retryIn,
		Headers:    headers,
		MidStream:  r.errorType != "" && r.status >= 200 && r.status < 300,
		Unsent:     r.unsent,
	}, now)
}

// attribute returns an attribute's value; empty if there is none.
func attribute(attrs []limiter.Entry, w word) string {
	for i := range attrs {
		if attrs[i].Key == attributeNames[w] {
			return attrs[i].Value
		}
	}
	return ""
}

// outcomeOf says what a report means to the reservation of its call. p is the profile of
// the provider that it is about.
//
// What the upstream stated is charged. What it did not state stays charged as
// reserved, unless it is of a class of failures that the upstream does not count.
func outcomeOf(r report, p *provider.Profile, now limiter.Instant) limiter.Outcome {
	return r.outcome(p, r.reading(p, now))
}

// outcome is outcomeOf for an answer that was read already.
func (r *report) outcome(p *provider.Profile, read provider.Reading) limiter.Outcome {
	used := r.usage.spent()
	if r.aborted && !r.unsent {
		// The answer is not the upstream's own, or not all of it.
		read.Refund = provider.Refund{}
	}
	o := p.Outcome(&read, &used)
	o.Progress, o.Sent, o.Trusted = r.progress, r.sent, r.trusted
	o.Attempt = uint32(min(max(r.attempt, 0), maxAttempts))
	o.OutputFloor = o.OutputFloor || r.aborted && !r.unsent || r.partial
	o.Learn = o.Learn && !o.OutputFloor && !r.progress
	if r.oneOfTwo && !r.unsent && !used.Any() && read.Refund == (provider.Refund{}) && !teaches(read.Class) {
		// Nothing would change but that the reservation ended. Left open, it can still
		// be settled by the other path; if nothing comes, it expires with the same charge.
		o.Progress, o.Attempt = true, 0
	}
	return o
}

// maxAttempts bounds the attempts of one call that are told apart.
const maxAttempts = 1000

// teaches says whether a class is one that the quota learns from.
func teaches(c limiter.Class) bool {
	switch c {
	case limiter.ClassQuota, limiter.ClassAcceleration, limiter.ClassConcurrency, limiter.ClassSpend, limiter.ClassOverload:
		return true
	default:
		return false
	}
}

// proxied is what a proxy says of how a call ended, beside the upstream's answer.
type proxied struct {
	details     string // how the response came about
	attempts    int    // calls to the upstream, if hasAttempts
	hasAttempts bool
	lastEvent   string // type of the last event of a stream
	// refused: the proxy says that a rate limit service refused. left: that the
	// caller went away.
	refused, left bool
}

const (
	viaUpstream   = "via_upstream"
	refusedByWeir = "request_rate_limited"
	lastOfStream  = "message_stop"
)

// conclude fills in what follows from a proxy's word.
func (r *report) conclude(p *proxied) {
	r.oneOfTwo = true
	if p.hasAttempts {
		r.attempt = p.attempts
	}
	r.unsent = p.refused || p.details == refusedByWeir ||
		p.details != viaUpstream && (p.hasAttempts && p.attempts == 0 || neverSent(p.details))
	if r.status == 429 && p.hasAttempts && p.attempts == 0 {
		r.unsent = true
	}
	complete := p.lastEvent == lastOfStream || p.lastEvent == "" && !p.left &&
		(p.details == "" || p.details == viaUpstream)
	r.aborted = !complete
}

// neverSent says whether a proxy's details mean that no upstream saw the call.
func neverSent(details string) bool {
	switch details {
	case "no_healthy_upstream", "route_not_found", "cluster_not_found",
		"request_payload_too_large", "rate_limiter_error":
		return true
	}
	reason, ok := strings.CutPrefix(details, "upstream_reset_before_response_started{")
	return ok && (strings.Contains(reason, "connection_failure") ||
		strings.Contains(reason, "overflow") || strings.Contains(reason, "refused_stream"))
}
