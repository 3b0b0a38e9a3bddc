// Package ratelimitstats counts what became of requests to domains of files of
// envoyproxy/ratelimit under that service's own names, and sends the counts where that
// service would: to a statsd server, to DogStatsD, to whoever scrapes Prometheus' format,
// or into a log. Dashboards and alerts that were made for it go on working.
//
// [Stats] is told of each descriptor (it is a server.RatelimitObserver) and of how the
// service fares (a server.RatelimitServiceObserver). Counting what the configuration
// names takes no lock and allocates nothing. What callers can make names of, which is
// detailed_metric, value_to_metric, limits that come with a descriptor, and domains that
// nobody configured, is bounded: beyond [MaxRuntimeSeries] names of a domain and
// [MaxUnknownDomains] domains it is counted under the name other.
//
// Nobody who decides ever waits for a server of metrics. [Stats.Run] sends what was
// counted since it last could; while a server cannot be reached, counts stay in their
// counters, so that nothing is lost and nothing grows.
package ratelimitstats
