package limitertest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/limiter"
)

// Admission is one entry of the log of what was admitted: units, and when.
type Admission struct {
	At    limiter.Instant
	Units uint64
}

// MostIn returns the most units that any half-open interval of the given length holds,
// and the last admission of the first such interval. The log is in order of time.
func MostIn(log []Admission, length time.Duration) (most uint64, last limiter.Instant) {
	var sum uint64
	first := 0
	for _, a := range log {
		sum += a.Units
		for ; a.At.Sub(log[first].At) >= length; first++ {
			sum -= log[first].Units
		}
		if sum > most {
			most, last = sum, a.At
		}
	}
	return most, last
}

// NeverMoreThanTheLimit checks that in any interval of a window's length no more is
// admitted than the limit (I1), nor much less than asked for is: a limiter that
// refuses all would pass the first. The arrivals are those that break weighted
// windows: bursts at the edges of buckets, and dense drips.
func NeverMoreThanTheLimit(t *testing.T, factory Factory) {
	rapid.Check(t, func(rt *rapid.T) {
		l := per(rapid.Uint64Range(1, 300).Draw(rt, "limit"), rapid.SampledFrom(theWindows()).Draw(rt, "window"))
		w := NewWorld(rt, t, factory, limiter.Options{}, rules(rule("k", l)))
		w.Beyond = true // the log is the judge
		now := newYear.Add(time.Duration(rapid.Int64Range(0, int64(l.Window)).Draw(rt, "start")))
		var log []Admission
		for range rapid.IntRange(1, 12).Draw(rt, "waves") {
			now = now.Add(pauseOf(rt, l.Window, now))
			gap := time.Duration(rapid.Int64Range(0, 2*int64(l.Window)/60).Draw(rt, "gap"))
			amount := rapid.Uint64Range(1, 1+l.Amount/3).Draw(rt, "amount")
			for range rapid.IntRange(1, 70).Draw(rt, "asks") {
				if admitted(w, now, amount) {
					log = append(log, Admission{now, amount})
				}
				now = now.Add(gap)
			}
		}
		if most, last := MostIn(log, l.Window); most > l.Amount {
			rt.Fatalf("%d units were admitted in the %v up to %v, the limit is %d", most, l.Window, last.Time(), l.Amount)
		}
	})
}

// pauseOf draws a pause that ends beside the edge of a bucket, or anywhere.
func pauseOf(rt *rapid.T, length time.Duration, now limiter.Instant) time.Duration {
	w := newWindow(length)
	if rapid.Bool().Draw(rt, "anywhere") {
		return time.Duration(rapid.Int64Range(0, int64(length)).Draw(rt, "pause"))
	}
	edge := w.width*rapid.Int64Range(1, 61).Draw(rt, "buckets") - int64(now)%w.width
	return time.Duration(max(0, edge+rapid.Int64Range(-1, 1).Draw(rt, "beside the edge")))
}

func admitted(w *World, now limiter.Instant, amount uint64) bool {
	d := w.Decide(now, ofKey("k", "a", amount))
	return d.Verdict == limiter.Allowed
}

// ofKey is a request with one descriptor of one entry.
func ofKey(key, value string, amount uint64) Request {
	return Request{Descriptors: []Descriptor{{
		Domain: "d", Entries: []limiter.Entry{{Key: key, Value: value}}, Hits: limiter.Hits{Amount: amount},
	}}}
}

// DenialChangesNothing checks that what was refused leaves no trace (I2): two stores
// get the same history, one of them without what the first one refused, and must
// answer alike ever after. What was spent already is another matter: both get that.
func DenialChangesNothing(t *testing.T, factory Factory) {
	rapid.Check(t, func(rt *rapid.T) {
		spec := Spec(rt)
		h := NewHistory(NewWorld(rt, t, factory, limiter.Options{}, spec))
		h.World.Beyond = true
		other := NewWorld(rt, t, factory, limiter.Options{}, spec)
		other.Beyond = true
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			h.Now = h.Now.Add(Pause(rt, h.Now))
			r := h.Ask(rt)
			d := h.World.Decide(h.Now, r)
			first := render(d, r.DryRun)
			if first.verdict != limiter.Allowed && !anySpent(d) {
				dry := r
				dry.DryRun = true
				if again := render(other.Decide(h.Now, dry), true); again.verdict == limiter.Allowed {
					rt.Fatalf("%v: refused by one store and not by the other", r)
				}
				continue
			}
			if second := render(other.Decide(h.Now, r), r.DryRun); second.text != first.text {
				rt.Fatalf("%v: a denial left a trace:\nwith    %s\nwithout %s", r, first.text, second.text)
			}
		}
	})
}

func anySpent(d limiter.Decision) bool {
	return slices.ContainsFunc(d.Checks, func(c limiter.Check) bool { return c.Spent })
}

type rendered struct {
	verdict limiter.Verdict
	text    string
}

// render writes every number of a decision.
func render(d limiter.Decision, dry bool) rendered {
	var b strings.Builder
	fmt.Fprintf(&b, "%v by=%d retry=%d dry=%t opened=%t replayed=%t %+v", d.Verdict, d.RefusedBy, d.RetryAt, dry, d.Opened, d.Replayed, d.Reserved)
	for _, c := range d.Checks {
		l := c.Limit
		c.Limit = nil
		fmt.Fprintf(&b, " [%s %v %v %+v]", l.Owner, l.Meter, l.Window, c)
	}
	return rendered{d.Verdict, b.String()}
}

// RetryIsHonest checks what an answer promises (I13). If nobody else asks, the same
// ask passes from RetryAt on, and not a nanosecond earlier; exactly Remaining would
// pass; each limit is in use until its ResetAt, which stays the same until then.
func RetryIsHonest(t *testing.T, factory Factory) {
	rapid.Check(t, func(rt *rapid.T) {
		h := NewHistory(NewWorld(rt, t, factory, limiter.Options{}, Spec(rt)))
		h.World.Beyond = true
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			h.Step(rt)
		}
		r := Request{Descriptors: []Descriptor{someDescriptor(rt)}}
		r.Descriptors[0].Hits.Stated = false // what was spent already is not to be asked again
		d := h.World.Decide(h.Now, r)
		r.DryRun = true
		checkRemaining(rt, h, r, d)
		instants := []limiter.Instant{h.Now, d.RetryAt - 1, d.RetryAt}
		for _, c := range d.Checks {
			instants = append(instants, c.ResetAt-1, c.ResetAt)
		}
		slices.Sort(instants)
		for _, at := range instants {
			if at >= h.Now && at < TooFar {
				checkPromises(rt, h, r, d, at)
			}
		}
	})
}

// checkPromises looks at instant at, and compares with what d said.
func checkPromises(rt *rapid.T, h *History, r Request, d limiter.Decision, at limiter.Instant) {
	if d.Verdict == limiter.Denied {
		if got := h.World.Decide(at, r); (got.Verdict == limiter.Allowed) != (at >= d.RetryAt) {
			rt.Fatalf("%v: RetryAt was %d; at %d the answer is %+v", r, d.RetryAt, at, got)
		}
	}
	r.Descriptors = slices.Clone(r.Descriptors)
	r.Descriptors[0].Hits.Amount = 0
	for i, k := range h.World.Decide(at, r).Checks {
		c := d.Checks[i]
		if (k.Used == 0) != (at >= c.ResetAt) || k.ResetAt != max(at, c.ResetAt) {
			rt.Fatalf("%v: ResetAt was %d; at %d: %+v", r, c.ResetAt, at, k)
		}
	}
}

// checkRemaining asks for exactly what remains, and one more.
func checkRemaining(rt *rapid.T, h *History, r Request, d limiter.Decision) {
	left := limiter.MaxAmount
	for _, c := range d.Checks {
		if !c.Limit.Shadow {
			left = min(left, c.Remaining)
		}
	}
	// What one limit says is not the answer where limits only look on, or refuse together.
	if len(d.Checks) == 0 || d.Checks[0].Limit.Shadow || d.Checks[0].Limit.Soft {
		return
	}
	r.Descriptors = slices.Clone(r.Descriptors)
	r.Descriptors[0].Hits.Refund = false
	r.Descriptors[0].Hits.Amount = left
	if got := h.World.Decide(h.Now, r); left > 0 && got.Verdict != limiter.Allowed {
		rt.Fatalf("%v: %d should remain, but does not pass: %+v", r, left, got)
	}
	r.Descriptors[0].Hits.Amount = left + 1
	if got := h.World.Decide(h.Now, r); got.Verdict == limiter.Allowed {
		rt.Fatalf("%v: passes, but only %d should remain", r, left)
	}
}

// SameSeedSameLog checks that decisions follow from what was asked and nothing else
// (I15): neither from chance, nor from how counters are spread over shards.
func SameSeedSameLog(t *testing.T, factory Factory) {
	rapid.Check(t, func(rt *rapid.T) {
		spec := Spec(rt)
		script := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) scripted {
			h := History{Now: newYear, ids: rapid.IntRange(0, 20).Draw(rt, "first id")}
			return scripted{Pause(rt, newYear), h.Ask(rt), someOutcome(rt), rapid.IntRange(0, 4).Draw(rt, "what")}
		}), 1, 40).Draw(rt, "script")
		var first string
		for _, o := range []limiter.Options{{Shards: 1}, {Shards: 1}, {Shards: 64}, {Shards: 64, Seed: 12345}, {Shards: 8, Seed: ^uint64(0)}} {
			w := NewWorld(rt, t, factory, o, spec)
			w.Beyond = true
			log := follow(w, script)
			if first == "" {
				first = log
			}
			if log != first {
				rt.Fatalf("with %+v:\n%s\nwith one shard:\n%s", o, log, first)
			}
		}
	})
}

// scripted is one call of a history that is drawn beforehand.
type scripted struct {
	pause   time.Duration
	request Request
	outcome limiter.Outcome
	what    int
}

// follow plays a script and returns the log of all answers.
func follow(w *World, script []scripted) string {
	now, log := newYear, ""
	for i, s := range script {
		now = now.Add(s.pause)
		switch {
		case s.what < 3:
			s.request.ID = idOf(i)
			log += render(w.Decide(now, s.request), false).text + "\n"
		case s.what == 3:
			log += fmt.Sprintf("%+v\n", w.Report(now, idOf(i-1), s.request.Tenant, s.outcome))
		default:
			log += fmt.Sprintf("%+v\n", w.Release(now, idOf(i-2), s.request.Tenant))
		}
	}
	return log
}

// KeysNeverCollide checks that different descriptors never share a counter (I9),
// whatever bytes they hold: what one has used, the other has not. Most are made of the
// same few words, put together with the same separator and cut at different places,
// which is what an encoder that is not injective takes for the same.
func KeysNeverCollide(t *testing.T, factory Factory) {
	keys := []string{"a", "a_b", "b", "b_c"}
	level := func(below []limiter.RuleSpec) []limiter.RuleSpec {
		var l []limiter.RuleSpec
		for _, k := range keys {
			r := rule(k, per(10, time.Hour))
			r.Rules = below
			l = append(l, r)
		}
		return l
	}
	spec := limiter.Spec{Domains: []limiter.DomainSpec{
		{Name: "d", Rules: level(level(level(nil)))}, {Name: "d_a", Rules: level(nil)}, {Name: "e", Rules: level(nil)},
	}}
	rapid.Check(t, func(rt *rapid.T) {
		w := NewWorld(rt, t, factory, limiter.Options{Seed: rapid.Uint64().Draw(rt, "seed")}, spec)
		words := rapid.SliceOfN(someValue(), 2, 4).Draw(rt, "words")
		separator := rapid.SampledFrom([]string{"", "", "\x00", "_", "|", "\x01"}).Draw(rt, "separator")
		same := rapid.SampledFrom(keys).Draw(rt, "usual key")
		for range rapid.IntRange(2, 12).Draw(rt, "asks") {
			d := Descriptor{Domain: rapid.SampledFrom([]string{"d", "d", "d", "d", "d_a", "e"}).Draw(rt, "domain"), Hits: limiter.Hits{Amount: 1}}
			if rapid.IntRange(0, 3).Draw(rt, "override") == 0 {
				d.Hits.Override = limiter.Override{Amount: 10, Window: time.Hour}
			}
			for _, value := range cut(rt, words, separator) {
				key := rapid.SampledFrom([]string{same, same, same, "a", "b_c"}).Draw(rt, "key")
				d.Entries = append(d.Entries, limiter.Entry{Key: key, Value: value})
			}
			w.Decide(newYear, Request{Descriptors: []Descriptor{d}}) // the model tells every key apart
		}
	})
}

// cut puts words together with a separator, cuts that at one or two of the places where
// they meet, and leaves the separator there out.
func cut(rt *rapid.T, words []string, separator string) []string {
	n := rapid.IntRange(1, min(3, len(words))).Draw(rt, "entries")
	var values []string
	for ; n > 1; n-- {
		k := rapid.IntRange(1, len(words)-n+1).Draw(rt, "words of one")
		values = append(values, strings.Join(words[:k], separator))
		words = words[k:]
	}
	return append(values, strings.Join(words, separator))
}

// someValue draws bytes that tempt an encoder: separators, lengths, NUL, and what is
// not UTF-8; some values are parts of others.
func someValue() *rapid.Generator[string] {
	piece := rapid.SampledFrom([]string{
		"", "a", "b", "c", "_", "b_c", "a_b", "\x00", "\x01", "\x01a", "\x02ab", "\x80", "\x80\x01", "\xff", "|", ":", "1:a,", "\"", "\\", "*", "/", "é",
		"\x3b\xa7\xca\x84\x85\xae\x67\xbb", "\xc9\xbc\xf3\x67\xe6\x09\x6a", "0123456789abcde",
	})
	return rapid.OneOf(
		rapid.Custom(func(rt *rapid.T) string {
			return strings.Join(rapid.SliceOfN(piece, 0, 4).Draw(rt, "pieces"), "")
		}),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) string { return string(b) }),
	)
}

// OneEndingEach checks that a reservation reaches exactly one end (I3): however often
// and by whomever it is ended, one call applies, all later ones agree with it, and
// what is charged in the end is what that one said.
func OneEndingEach(t *testing.T, factory Factory) {
	spec := quotas(limiter.QuotaSpec{Name: "q", Limits: []limiter.LimitSpec{meter(limiter.InputTokens, 1_000_000, time.Hour)}})
	rapid.Check(t, func(rt *rapid.T) {
		w := NewWorld(rt, t, factory, limiter.Options{}, spec)
		now, charged := newYear, uint64(0)
		ended := map[int]limiter.Settlement{}
		n := rapid.IntRange(1, 5).Draw(rt, "reservations")
		org := []limiter.Entry{{Key: "org", Value: "o"}}
		for i := range n {
			w.Decide(now, Request{Tenant: "x", Open: true, ID: idOf(i), Attributes: org, Use: limiter.Usage{InputTokens: 100}})
			charged += 100
		}
		for range rapid.IntRange(1, 30).Draw(rt, "calls") {
			now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute}).Draw(rt, "pause"))
			i := rapid.IntRange(0, n-1).Draw(rt, "id")
			tenant := rapid.SampledFrom([]string{"", "x", "y"}).Draw(rt, "tenant")
			s := endSomehow(rt, w, now, i, tenant)
			if tenant == "y" {
				if s.Ending != limiter.Unknown {
					rt.Fatalf("a stranger ended a reservation: %+v", s)
				}
				continue
			}
			if s == (limiter.Settlement{}) {
				continue // it ended so long ago that it was forgotten; the model has agreed
			}
			if before, done := ended[i]; done && (s.Applied || s.Ending != before.Ending || s.Charged != before.Charged) {
				rt.Fatalf("reservation %d ended as %+v, and then as %+v", i, before, s)
			}
			if _, done := ended[i]; !done && s.Ending != limiter.Open {
				ended[i] = s
				charged = charged - 100 + s.Charged.InputTokens
			}
		}
		d := w.Decide(now, Request{DryRun: true, Attributes: org})
		if d.Checks[0].Used != charged {
			rt.Fatalf("%d units are charged, the endings add up to %d", d.Checks[0].Used, charged)
		}
	})
}

func endSomehow(rt *rapid.T, w *World, now limiter.Instant, i int, tenant string) limiter.Settlement {
	switch rapid.IntRange(0, 2).Draw(rt, "end") {
	case 0:
		return w.Release(now, idOf(i), tenant)
	case 1:
		return w.Renew(now, idOf(i), tenant, time.Minute)
	}
	return w.Report(now, idOf(i), tenant, Final(rapid.Uint64Range(0, 300).Draw(rt, "used"), 0))
}
