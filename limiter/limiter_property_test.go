package limiter_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/limiter/limitertest"
)

// newYear is 2026-01-01T00:00:00Z.
const newYear = limiter.Instant(1767225600 * int64(time.Second))

// oneRule is a plan with one limit of requests on the key "k" of the domain "d".
func oneRule(amount uint64, window time.Duration) limiter.Spec {
	return limiter.Spec{Domains: []limiter.DomainSpec{{Name: "d", Rules: []limiter.RuleSpec{{
		Key: "k", Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: amount, Window: window}},
	}}}}}
}

// decide asks for amount of k=value under plan.
func decide(l *limiter.Limiter, p *limiter.Plan, now limiter.Instant, value string, amount uint64, change ...func(*limiter.Ask)) limiter.Decision {
	var a limiter.Ask
	var d limiter.Decision
	for _, c := range change {
		c(&a)
	}
	p.MatchDescriptor(&a, "d", 0, []limiter.Entry{{Key: "k", Value: value}}, limiter.Hits{Amount: amount})
	for d.Verdict = limiter.Reroute; d.Verdict == limiter.Reroute; {
		l.Route(&a)
		l.Decide(now, &a, &d)
	}
	return d
}

func compile(t interface{ Fatalf(string, ...any) }, s limiter.Spec, prev *limiter.Plan) *limiter.Plan {
	p, err := limiter.Compile(s, prev)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return p
}

// TestTimeMayDoAnything lets the clock stand still, jump and go back. Whatever it
// does, nothing panics, nobody is told to wait longer than two windows and their
// buckets for what fits the limit, and while it does not go back further than a
// window, no window of the latest time seen holds more than the limit.
func TestTimeMayDoAnything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		window := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, time.Minute, 366 * 24 * time.Hour}).Draw(rt, "window")
		limit := rapid.Uint64Range(1, 50).Draw(rt, "limit")
		p := compile(rt, oneRule(limit, window), nil)
		l := limiter.New(limiter.Options{})
		now, latest, back := newYear, limiter.Instant(math.MinInt64), false
		var log []limitertest.Admission
		for range rapid.IntRange(1, 80).Draw(rt, "asks") {
			now = now.Add(time.Duration(rapid.Int64Range(-1, 1).Draw(rt, "windows")) * window)
			now = now.Add(time.Duration(rapid.Int64Range(-int64(window)/10, int64(window)/5).Draw(rt, "step")))
			if latest.Sub(now) > window {
				back = true // everything may count as charged now: the log says nothing any more
			}
			latest = max(latest, now)
			amount := rapid.Uint64Range(1, limit).Draw(rt, "amount")
			d := decide(l, p, now, "a", amount)
			if d.Verdict == limiter.Allowed {
				log = append(log, limitertest.Admission{At: latest, Units: amount})
			} else if wait := d.RetryAt.Sub(now); d.Verdict != limiter.Denied || wait <= 0 || wait > 2*window+window/10 {
				rt.Fatalf("at %d, %d of %d per %v: %+v", now, amount, limit, window, d)
			}
		}
		if most, last := limitertest.MostIn(log, window); !back && most > limit {
			rt.Fatalf("%d units in the %v up to %d, the limit is %d", most, window, last, limit)
		}
	})
}

// TestReloadKeepsCounters changes the plan in mid-history: limits that stay keep what
// was counted, whatever their amount; those that are new begin empty.
func TestReloadKeepsCounters(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := limiter.New(limiter.Options{Shards: 8})
		now := newYear
		window := time.Minute
		p := compile(rt, oneRule(1000, window), nil)
		used := map[time.Duration]uint64{}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			if rapid.IntRange(0, 3).Draw(rt, "reload") == 0 {
				window = rapid.SampledFrom([]time.Duration{time.Minute, time.Hour}).Draw(rt, "window")
				spec := oneRule(rapid.Uint64Range(0, 2000).Draw(rt, "limit"), window)
				other := limiter.RuleSpec{Key: "other", Limits: spec.Domains[0].Rules[0].Limits}
				if rapid.Bool().Draw(rt, "another rule before") {
					spec.Domains[0].Rules = append([]limiter.RuleSpec{other}, spec.Domains[0].Rules...)
				}
				p = compile(rt, spec, p)
			}
			amount := rapid.Uint64Range(0, 100).Draw(rt, "amount")
			d := decide(l, p, now, "a", amount)
			if d.Verdict == limiter.Allowed {
				used[window] += amount
			}
			if d.Checks[0].Used != used[window] {
				rt.Fatalf("%d used per %v, want %d", d.Checks[0].Used, window, used[window])
			}
		}
	})
}

// TestDenialTakesNoKey floods a limiter with asks that are refused: they leave no
// keys behind.
func TestDenialTakesNoKey(t *testing.T) {
	l := limiter.New(limiter.Options{MaxKeys: 10})
	p := compile(t, oneRule(5, time.Minute), nil)
	decide(l, p, newYear, "full", 5)
	before := l.Stats(0)
	for i := range 1000 {
		value := strings.Repeat("v", i)
		if d := decide(l, p, newYear, value, 6); d.Verdict != limiter.Infeasible {
			t.Fatalf("6 of 5: %v", d.Verdict)
		}
		decide(l, p, newYear, value, 5, func(a *limiter.Ask) { a.DryRun = true })
		decide(l, p, newYear, "full", 1)
		decide(l, p, newYear, value, 0)
	}
	if after := l.Stats(0); after != before {
		t.Errorf("stats were %+v, and are %+v after denials", before, after)
	}
}

// TestLongValues checks that values of any length are counted, and never too little.
func TestLongValues(t *testing.T) {
	l := limiter.New(limiter.Options{})
	p := compile(t, oneRule(1, time.Minute), nil)
	for _, n := range []int{0, 1, 7, 8, 16, 127, 128, 16_383, 16_384, 65_000, 65_533, 65_534, 65_536, 70_000, 1 << 20} {
		value := strings.Repeat("x", n)
		decide(l, p, newYear, value, 1)
		if d := decide(l, p, newYear, value, 1); d.Verdict == limiter.Allowed {
			t.Errorf("a value of %d bytes was admitted twice, the limit is 1", n)
		}
	}
}

// TestNamesThatAreMadeToCollide gives names whose blocks are the constants of
// well-known hashes, in which weak ones lose what follows.
func TestNamesThatAreMadeToCollide(t *testing.T) {
	p := compile(t, oneRule(1000, time.Minute), nil)
	blocks := []string{
		"\x3b\xa7\xca\x84\x85\xae\x67\xbb", "\x09\xc9\xbc\xf3\x67\xe6\x09\x6a", "\x2b\xf8\x94\xfe\x72\xf3\x6e\x3c", "\x00\x00\x00\x00\x00\x00\x00\x00", "\xff\xff\xff\xff\xff\xff\xff\xff",
	}
	for _, seed := range []uint64{0, 1, 0x6a09e667f3bcc909, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b} {
		l := limiter.New(limiter.Options{Seed: seed})
		seen := map[string]bool{}
		for _, block := range blocks {
			for _, tail := range []string{"", "AAAAAAAA", "BBBBBBBB", "AAAAAAAAAAAAAAAA", "AAAAAAAABBBBBBBB", "\x00"} {
				name := block + tail
				d := decide(l, p, newYear, "a", 1, func(a *limiter.Ask) { a.Force, a.RequestID = true, name })
				if d.Replayed != seen[name] {
					t.Errorf("seed %x: request id %q: replayed is %t", seed, name, d.Replayed)
				}
				seen[name] = true
				if e := decide(l, p, newYear, name, 1, func(a *limiter.Ask) { a.DryRun = true }); e.Checks[0].Used != 0 {
					t.Errorf("seed %x: value %q shares a counter", seed, name)
				}
				decide(l, p, newYear, name, 1)
			}
		}
	}
}
