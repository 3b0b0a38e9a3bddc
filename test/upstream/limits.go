package upstream

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// Limit is an allotment that the fake enforces without telling: a bucket that
// holds Amount and is refilled continuously, Amount per Window. Several limits of
// one meter with different windows all hold.
type Limit struct {
	// Meter is "requests", "input-tokens" or "output-tokens".
	Meter string
	// Amount is in units of the meter.
	Amount uint64
	// Window is how long an empty bucket takes to fill.
	Window time.Duration
	// Hidden limits are not shown in the rate-limit headers.
	Hidden bool
	// Drained buckets are empty at first, as if others had spent them just before.
	Drained bool
}

func (l Limit) rate() float64 { return float64(l.Amount) / l.Window.Seconds() }

// bucket is the state of a Limit. Its level may be negative: output that was not
// foreseen is owed.
type bucket struct {
	Limit
	level float64
	at    time.Time
}

func (b *bucket) advance(now time.Time) {
	if gone := now.Sub(b.at); gone > 0 {
		b.level = math.Min(float64(b.Amount), b.level+gone.Seconds()*b.rate())
	}
	b.at = now
}

// slack is the part of a unit that may be missing, so that whoever waits as long
// as was said is not refused for a rounding error.
const slack = 1e-6

// refusal is the limit that said no.
type refusal struct {
	limit Limit
	// wait is how long until the same request fits.
	wait time.Duration
}

func (r *refusal) message(model string) string {
	per := "per " + r.limit.Window.String()
	if r.limit.Window == time.Minute {
		per = "per minute"
	}
	name := map[string]string{"input-tokens": "input tokens", "output-tokens": "output tokens"}[r.limit.Meter]
	if name == "" {
		name = r.limit.Meter
	}
	return fmt.Sprintf("This request would exceed your organization's rate limit of %s %s %s (org: 00000000-0000-4000-8000-000000000000, model: %s).",
		grouped(r.limit.Amount), name, per, model)
}

// grouped writes 30000 as 30,000.
func grouped(n uint64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// limits are the buckets of each scope. Safe for concurrent use.
type limits struct {
	mu     sync.Mutex
	plan   []Limit
	scopes map[string][]*bucket
}

// set replaces the plan; all buckets are as at first.
func (l *limits) set(plan []Limit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plan, l.scopes = plan, map[string][]*bucket{}
}

func (l *limits) buckets(scope string, now time.Time) []*bucket {
	bs, ok := l.scopes[scope]
	if !ok {
		for _, limit := range l.plan {
			level := float64(limit.Amount)
			if limit.Drained {
				level = 0
			}
			bs = append(bs, &bucket{Limit: limit, level: level, at: now})
		}
		l.scopes[scope] = bs
	}
	for _, b := range bs {
		b.advance(now)
	}
	return bs
}

// admit charges a request and its input if every limit of the scope has room; a
// refused request is charged to none. Output needs no room beforehand, only a
// level above zero.
func (l *limits) admit(scope string, now time.Time, input uint64) *refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	bs := l.buckets(scope, now)
	for _, b := range bs {
		need := map[string]float64{"requests": 1, "input-tokens": float64(input), "output-tokens": 1}[b.Meter]
		if missing := need - b.level; missing > slack {
			wait := time.Duration(math.Ceil((missing - slack/2) / b.rate() * 1e9))
			return &refusal{limit: b.Limit, wait: wait}
		}
	}
	for _, b := range bs {
		switch b.Meter {
		case "requests":
			b.level--
		case "input-tokens":
			b.level -= float64(input)
		}
	}
	return nil
}

// produced charges output as it comes.
func (l *limits) produced(scope string, now time.Time, output uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.buckets(scope, now) {
		if b.Meter == "output-tokens" {
			b.level -= float64(output)
		}
	}
}

// show returns the state of the limits that are not hidden, the scarcest for each
// meter.
func (l *limits) show(scope string, now time.Time) []RateLimit {
	l.mu.Lock()
	defer l.mu.Unlock()
	var shown []RateLimit
	at := map[string]int{}
	for _, b := range l.buckets(scope, now) {
		if b.Hidden {
			continue
		}
		missing := math.Max(0, float64(b.Amount)-b.level)
		state := RateLimit{
			Meter:     b.Meter,
			Limit:     b.Amount,
			Remaining: uint64(math.Max(0, math.Floor(b.level))),
			Reset:     now.Add(time.Duration(missing / b.rate() * 1e9)),
		}
		i, ok := at[b.Meter]
		switch {
		case !ok:
			at[b.Meter] = len(shown)
			shown = append(shown, state)
		case state.Remaining < shown[i].Remaining:
			shown[i] = state
		}
	}
	return shown
}
