// Package conformance holds what a rate limit service of envoyproxy/ratelimit answers,
// as data, and asks the real weir binary for the same, over real gRPC and HTTP.
//
// testdata/contract.yaml lists what is promised, row by row. Each file of
// testdata/suites is one configuration with cases: timelines of requests and the
// answers that are expected. testdata/refusals.yaml has the configurations that are
// refused, and in which words. README.md says how to add to them.
package conformance
