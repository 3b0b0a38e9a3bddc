// Package simulate tries limiters on models of upstreams, in virtual time. A
// [Scenario] says how an upstream limits its callers and what it tells them, what
// callers want, over which network, and which limiter stands in between: the core of
// package limiter itself, never a copy of it, or one of the ways in which people do
// without it. [Run] plays it and returns what came of it as a [Result].
//
// A run is a discrete-event simulation on one goroutine. All chance comes from one
// seed, in streams of their own for callers, network and upstream, so that different
// limiters meet the same requests, and the same scenario gives the same result.
package simulate
