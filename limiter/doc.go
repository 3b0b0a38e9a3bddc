// Package limiter decides. It is the pure core of weir: rules and quotas are
// compiled into a [Plan], a caller's wish is matched against it as an [Ask], and a
// [Limiter] answers with a [Decision], remembers reservations, settles them with
// what was really used, and learns estimates from that.
//
// # Shape
//
// Everything is (state, event, now) -> (state, answer). Time is an argument, an
// [Instant]; randomness is an argument; there are no goroutines, no timers, no
// locks, no I/O and no logging. The same calls in the same order give the same
// answers, byte for byte. A caller drives it with [Limiter.Decide],
// [Limiter.Report], [Limiter.Release], [Limiter.Renew] and [Limiter.Cancel], asks
// [Limiter.Next] when something will change by itself, calls [Limiter.Advance]
// at that instant, and collects with [Limiter.Ready] what became decided.
//
// # Concurrency
//
// A Limiter is divided into shards. Each call states beforehand, as a [ShardSet],
// which shards it touches; calls whose sets are disjoint may run at the same
// time, and others must not. A caller with one goroutine can ignore this; one
// with many holds a lock for each shard of the set, taken in ascending order.
//
// # Limits
//
// A hard limit is a sliding window of 60 sub-buckets that always counts the whole
// of the oldest, partly expired one. Units admitted in any interval of the
// window's length therefore never exceed the limit; at most 1/61 of it stays
// unused. A request is decided over all its limits at once: all are charged, or
// none is.
//
// For who comes from calendar windows there are fixed ones (LimitSpec.Fixed), and asks
// in which each limit is charged by itself, also where it refuses (Ask.OneByOne). They
// keep no promise beyond that of counting so.
//
// A learned limit is a pace: a twin of the upstream's own bucket whose rate and burst
// are learned from what the upstream answers. Before it stand gates, which refusals
// shut, and a fair queue over tenants; who cannot wait is told its own turn.
//
// # Where to look
//
//   - ask.go, match.go, plan.go, compile.go: a wish, and what it concerns
//   - decide.go, onebyone.go: the decision; cause.go: what refused, and what a dry ask is told
//   - counter.go, window.go, table.go: hard limits, and the counters of many keys
//   - pace.go, ramp.go, pacer.go: the learned pace of a meter, and of a quota
//   - trust.go: whose word moves it; bars.go: rights that were refused; money.go: budgets
//   - fair.go, line.go, turn.go, park.go, ceiling.go, order.go: who waits, and whose turn it is
//   - book.go, settle.go, attempt.go, report.go, estimate.go, pool.go: reservations, reports, what calls cost
//   - learned.go: what is worth keeping over a restart; operate.go, view.go: for operators
//
// This package imports the standard library only.
package limiter
