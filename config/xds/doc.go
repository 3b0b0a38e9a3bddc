// Package xds takes rate limit configuration from a control plane: it is a client of the
// aggregated discovery service that asks for RateLimitConfig resources, in the variant in
// which each response holds all of them (state of the world), as envoyproxy/ratelimit is
// a client of Envoy Gateway and of AI Gateway.
//
// Each response is handed to a Sink, and is accepted only once it is in force. If it
// cannot be put in force the control plane is told everything that is wrong with it, and
// what was in force before stays. A stream that ends is opened again, after a time that
// grows with each failure in a row. Whatever a control plane sends, or does not, a
// client neither stops nor grows without bound.
package xds
