package server

import "cmp"

// RatelimitOptions say how requests are answered in domains of files of
// envoyproxy/ratelimit. Whether such domains count in fixed windows is the
// configuration's to say, see config.Options.
type RatelimitOptions struct {
	// ShadowMode lets every request of such a domain pass, whatever the codes of its
	// descriptors are.
	ShadowMode bool
	// QuotaMode makes every descriptor one with quota_mode, also those that no limit
	// applies to: a request is over its limits if all of its descriptors are.
	QuotaMode bool
	// Headers are added to answers, for the caller of the API to see.
	Headers RatelimitHeaders
	// DynamicMetadata adds the request, and the metadata of the descriptors that
	// passed, to answers.
	DynamicMetadata bool
	// Observer, unless nil, is told what became of each descriptor.
	Observer RatelimitObserver
	// Service, unless nil, is told how the rate limit service fares.
	Service RatelimitServiceObserver
}

// RatelimitHeaders are the headers that say how the tightest limit stands: its amount,
// what is left of it, and in how many seconds its window ends.
type RatelimitHeaders struct {
	// Enabled adds the headers to all answers in which a limit applied.
	Enabled bool
	// Limit, Remaining and Reset are their names. Empty means RateLimit-Limit,
	// RateLimit-Remaining and RateLimit-Reset.
	Limit, Remaining, Reset string
}

// withDefaults returns h with names.
func (h RatelimitHeaders) withDefaults() RatelimitHeaders {
	h.Limit = cmp.Or(h.Limit, "RateLimit-Limit")
	h.Remaining = cmp.Or(h.Remaining, "RateLimit-Remaining")
	h.Reset = cmp.Or(h.Reset, "RateLimit-Reset")
	return h
}

// RatelimitObserver is told of what becomes of the requests over Envoy's rate limit
// service to domains of files of envoyproxy/ratelimit, as such domains' metrics need it.
// Its methods are called from many goroutines at once, on the path of decisions: they
// must be quick, must not block, and must keep neither the event nor the bytes in it.
type RatelimitObserver interface {
	// Descriptor is called for each descriptor that a limit applied to, once its request
	// is decided, in the order of the request. Not called for descriptors without a
	// limit: whitelisted, unlimited, replaced, or unknown.
	Descriptor(e *RatelimitEvent)
	// DomainNotFound is called for each descriptor of a request whose domain the
	// configuration does not have.
	DomainNotFound(domain string)
	// GlobalShadowMode is called for each request that passed only because of
	// RatelimitOptions.ShadowMode.
	GlobalShadowMode()
	// ServiceError is called for each request that was answered with an error, such as
	// one with an empty domain.
	ServiceError()
}

// RatelimitEvent is what became of one descriptor. All amounts are in hits.
type RatelimitEvent struct {
	// Domain is the request's. It shares memory with the request: copy it to keep it.
	Domain string
	// Path says which rule it was, as the metrics of envoyproxy/ratelimit do: for each
	// level `key` or `key_value`, joined with dots, without the domain. It has the
	// request's values where the rule says so (detailed_metric, value_to_metric), and
	// always where the descriptor brought its own limit. It may hold any bytes that the
	// request or the file does. It is valid during the call only.
	Path []byte
	// Hits is what the descriptor asked for: 0 if it only looked.
	Hits uint64
	// Negative says that Hits were given back.
	Negative bool
	// Limit is the number of hits per window.
	Limit uint64
	// Before and After are what the window had counted without, and would have with,
	// these hits. In fixed windows that is what it counts now, whatever the answer was;
	// in sliding windows, refused hits are not counted, see Charged. Where a request has
	// the same descriptor twice, events of fixed windows build on one another; those of
	// sliding windows end at the same count.
	Before, After uint64
	// Charged says that the hits were counted.
	Charged bool
	// Over says that After is above Limit. With Shadow or Quota that need not have
	// refused the request.
	Over bool
	// Shadow says that the rule is in shadow mode: its descriptor's code is OK, even if
	// it is Over.
	Shadow bool
	// Quota says that the rule has quota_mode, or that RatelimitOptions.QuotaMode is on.
	Quota bool
}
