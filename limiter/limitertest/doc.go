// Package limitertest checks that what decides, decides rightly: a slow model of
// hard limits that is obviously right, and one suite that every store passes.
//
// The model ([Model]) keeps plain maps and recomputes everything for each
// question; the suite ([Run]) asks a store and the model the same things and
// compares every number of every answer: in timelines, which are data, and in random
// histories. What the model does not know, such as held asks, the bound on keys and
// learned estimates, is checked by timelines alone. Run it with -rapid.checks=10000
// for many more histories than the default.
//
// # What each test is for
//
// A test that cannot fail is worth nothing. These bugs were put into the core on
// purpose, one at a time, and each was noticed, by these tests among others:
//
//	a weighted window, not a conservative one  Windows/edges of a bucket, I1, Differential
//	59 or 61 buckets, not 60                   all of Windows
//	buckets rounded down                       Windows/windows of a millisecond, Differential
//	< for <= where an ask meets the limit      FuzzTimeline, TestDenialTakesNoKey
//	< for <= where a peek does                 Amounts/peeks, Differential
//	sums that saturate at the largest limit    Amounts/the largest limit, I13
//	the same limit twice is not the sum        Amounts/the same limit twice, Differential
//	charging on the way to a refusal           Amounts/all or nothing, I2, Differential
//	RetryAt of the first limit, not the last   Amounts/all or nothing, Differential
//	no tombstone of what has ended             Reservations/double report, I3
//	a report that does not end                 Reservations/double report, I3
//	giving the estimate back on expiry         Reservations/expiry keeps the estimate, I3
//	a stranger may report                      Reservations/unknown and foreign, I3
//	idempotency keys without their tenant      Reservations/idempotency keys, Differential
//	renewing past the bound                    Reservations/times to live, Differential
//	giving back to the present bucket          Reservations/settled when it has left the window
//	refunds of the oldest units                Amounts/refunds
//	forgetting debt; paying it late            Amounts/debt …, Differential
//	giving back past the debt                  Reservations/a give-back pays debt first
//	keys without lengths, or with separators   I9
//	evicting a live counter for a new key      Overflow/a live counter is never forgotten
//	forgetting a reservation's counter         Overflow/a reservation keeps its counter
//	new keys beyond the bound                  Overflow/new keys share a counter
//	a held ask that leaves, but is charged     Held/who leaves is not charged
//	last come, first served                    Held/first come, first served
//	a clock that was ahead blocks for ever     Windows/the clock was an hour ahead
//	a reload that begins anew                  TestReloadKeepsCounters
//	a fixed window that slides, or keeps debt  Fixed/a window ends with all that it holds
//	not charging what is refused one by one    Fixed/one that is refused is charged too
//	one by one, but the same limit is a sum    Fixed/the same descriptor twice is two charges
//	a soft limit that refuses alone            Fixed/soft limits in fixed windows, Differential
//	the longest pattern, not the first         Fixed/patterns of keys take their turn …
package limitertest
