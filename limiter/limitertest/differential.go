package limitertest

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/limiter"
)

// Differential lets a store and the model decide the same random histories, and
// compares every number of every answer. The number of histories is set by
// -rapid.checks.
func Differential(t *testing.T, factory Factory) {
	rapid.Check(t, func(rt *rapid.T) {
		opts := limiter.Options{Shards: rapid.SampledFrom([]int{1, 64}).Draw(rt, "shards"), Seed: rapid.Uint64().Draw(rt, "seed")}
		h := NewHistory(NewWorld(rt, t, factory, opts, Spec(rt)))
		rt.Repeat(map[string]func(*rapid.T){"step": h.Step})
	})
}

// Spec draws a plan: rules that differ in how they tell callers apart, and quotas.
func Spec(rt *rapid.T) limiter.Spec {
	shadow := rule("s", limitsOf(rt, "shadow")...)
	shadow.Shadow = true
	shared := limiter.RuleSpec{Key: "k", Value: "a*", ShareValues: true, Limits: limitsOf(rt, "shared")}
	nested := rule("k", limitsOf(rt, "k")...)
	nested.Rules = []limiter.RuleSpec{rule("j", limitsOf(rt, "k/j")...), {Key: "j", Value: "b", Limits: limitsOf(rt, "k/j=b")}}
	s := rules(shared, nested, shadow,
		limiter.RuleSpec{Key: "k", Value: "b", Limits: limitsOf(rt, "k=b")},
		limiter.RuleSpec{Key: "k", Value: "c*", Limits: limitsOf(rt, "k=c*")},
		limiter.RuleSpec{Key: "free", Unlimited: true},
	)
	s.Domains = append(s.Domains, fixedDomain(rt))
	s.Quotas = []limiter.QuotaSpec{
		{Name: "org", Limits: []limiter.LimitSpec{
			limitOf(rt, "org requests", limiter.Requests), limitOf(rt, "org input", limiter.InputTokens),
			limitOf(rt, "org output", limiter.OutputTokens),
		}},
		{
			Name: "a's", Match: []limiter.AttributePattern{{Key: "org", Pattern: "a"}, {Key: "model", Pattern: "m*"}},
			Except: []limiter.AttributePattern{{Key: "model", Pattern: "m2"}},
			Per:    []string{"model"}, Limits: []limiter.LimitSpec{limitOf(rt, "a's tokens", limiter.Tokens)},
		},
	}
	return s
}

// fixedDomain draws the domain "f", of fixed windows and soft limits, and one that slides.
func fixedDomain(rt *rapid.T) limiter.DomainSpec {
	still := func(r limiter.RuleSpec) limiter.RuleSpec {
		r.Limits = limitsOf(rt, "fixed")
		for i := range r.Limits {
			r.Limits[i].Fixed = true
		}
		return r
	}
	named := still(limiter.RuleSpec{Key: "k", Value: "b"})
	named.Limits[0].Name = "b"
	return limiter.DomainSpec{Name: "f", Fixed: true, Rules: []limiter.RuleSpec{
		still(limiter.RuleSpec{Key: "k", Value: "a*", ShareValues: true}), named,
		still(limiter.RuleSpec{Key: "*k", Value: "c1*", KeyPattern: true, Shadow: true}),
		still(limiter.RuleSpec{Key: "k", Value: "c*", Soft: true, Replaces: []string{"b"}}),
		{Key: "k", Value: "x", Limits: limitsOf(rt, "sliding"), Soft: true},
		still(limiter.RuleSpec{Key: "k", Rules: []limiter.RuleSpec{still(limiter.RuleSpec{Key: "j", Soft: true})}}),
		still(limiter.RuleSpec{Key: "s", Soft: true}),
		{Key: "free", Unlimited: true},
	}}
}

// limitsOf draws one or two limits of requests.
func limitsOf(rt *rapid.T, name string) []limiter.LimitSpec {
	l := []limiter.LimitSpec{limitOf(rt, name, limiter.Requests)}
	if second := limitOf(rt, name+" 2", limiter.Requests); second.Window != l[0].Window {
		l = append(l, second)
	}
	return l
}

// theWindows are those that are drawn: the shortest, one that 60 does not divide, and
// a few that people use.
func theWindows() []time.Duration {
	return []time.Duration{time.Minute, time.Millisecond, 1234567 * time.Nanosecond, time.Second, time.Hour, 366 * day}
}

func limitOf(rt *rapid.T, name string, m limiter.Meter) limiter.LimitSpec {
	return limiter.LimitSpec{
		Meter:  m,
		Amount: rapid.OneOf(rapid.Uint64Range(1, 30), rapid.SampledFrom([]uint64{0, 10, 1 << 20, limiter.MaxAmount})).Draw(rt, name+" amount"),
		Window: rapid.SampledFrom(theWindows()).Draw(rt, name+" window"),
	}
}

// History is a random history in a World. Its clock never goes back.
type History struct {
	World *World
	Now   limiter.Instant
	ids   int
}

// NewHistory returns a history that begins about now.
func NewHistory(w *World) *History {
	return &History{World: w, Now: newYear}
}

// Step lets some time pass and does something.
func (h *History) Step(rt *rapid.T) {
	h.Now = h.Now.Add(Pause(rt, h.Now))
	switch rapid.IntRange(0, 9).Draw(rt, "what") {
	case 0, 1, 2, 3:
		h.World.Decide(h.Now, h.Ask(rt))
	case 4:
		h.oneByOne(rt)
	case 5:
		h.burst(rt)
	case 6:
		h.World.Report(h.Now, h.someID(rt), someTenant(rt), someOutcome(rt))
	case 7:
		h.World.Release(h.Now, h.someID(rt), someTenant(rt))
	case 8:
		h.World.Renew(h.Now, h.someID(rt), someTenant(rt), someTTL(rt))
	case 9:
		r := h.Ask(rt)
		r.DryRun = true
		h.World.Decide(h.Now, r)
	}
}

// Pause draws how long nothing happens: mostly nothing, or until just before, at or
// after the edge of some window's bucket.
func Pause(rt *rapid.T, now limiter.Instant) time.Duration {
	w := windowOf(limiter.LimitSpec{Window: rapid.SampledFrom(theWindows()).Draw(rt, "of window"), Fixed: rapid.IntRange(0, 2).Draw(rt, "fixed") == 0})
	toEdge := w.width - int64(now)%w.width
	switch rapid.IntRange(0, 5).Draw(rt, "pause") {
	case 0, 1:
		return 0
	case 2:
		return time.Duration(toEdge + rapid.Int64Range(-1, 1).Draw(rt, "beside the edge"))
	case 3:
		return time.Duration(toEdge + w.width*rapid.Int64Range(max(0, w.span-3), w.span+1).Draw(rt, "buckets"))
	case 4:
		return time.Duration(rapid.Int64Range(0, int64(w.length)).Draw(rt, "within the window"))
	}
	return w.length * time.Duration(rapid.IntRange(0, 3).Draw(rt, "windows"))
}

// oneByOne asks for each of a few descriptors by itself.
func (h *History) oneByOne(rt *rapid.T) {
	r := Request{OneByOne: true}
	r.Soft = rapid.IntRange(0, 3).Draw(rt, "soft") == 0
	r.Spare = r.Soft && rapid.Bool().Draw(rt, "spare")
	for range rapid.IntRange(1, 4).Draw(rt, "descriptors") {
		d := someDescriptor(rt)
		d.Hits.Refund = rapid.IntRange(0, 9).Draw(rt, "refund") == 0
		r.Descriptors = append(r.Descriptors, d)
	}
	h.World.Decide(h.Now, r)
}

// burst fills a limit bit by bit, at one instant or in a drip.
func (h *History) burst(rt *rapid.T) {
	r := h.Ask(rt)
	r.Open, r.IdempotencyKey, r.RequestID = false, "", ""
	drip := time.Duration(rapid.SampledFrom([]int64{0, 1, int64(time.Millisecond) / 61, int64(time.Second)}).Draw(rt, "drip"))
	for range rapid.IntRange(2, 12).Draw(rt, "burst") {
		h.World.Decide(h.Now, r)
		h.Now = h.Now.Add(drip)
	}
}

// Ask draws a request over a few descriptors, a quota, or both.
func (h *History) Ask(rt *rapid.T) Request {
	r := Request{Tenant: someTenant(rt), Force: rapid.IntRange(0, 9).Draw(rt, "force") == 0}
	if rapid.Bool().Draw(rt, "quota") {
		r.Attributes = []limiter.Entry{{Key: "org", Value: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "org")}}
		if rapid.Bool().Draw(rt, "with model") {
			r.Attributes = append(r.Attributes, limiter.Entry{Key: "model", Value: rapid.SampledFrom([]string{"m1", "m2", "x"}).Draw(rt, "model")})
		}
		r.Use = limiter.Usage{Requests: someAmount(rt), InputTokens: someAmount(rt), OutputTokens: someAmount(rt)}
	}
	refund := !r.Force && rapid.IntRange(0, 9).Draw(rt, "refund") == 0
	for range rapid.IntRange(0, 3).Draw(rt, "descriptors") {
		d := someDescriptor(rt)
		d.Hits.Refund = refund
		r.Descriptors = append(r.Descriptors, d)
	}
	if !refund && rapid.Bool().Draw(rt, "open") {
		h.ids++
		r.Open, r.ID, r.TTL = true, idOf(h.ids), someTTL(rt)
		if rapid.IntRange(0, 2).Draw(rt, "idempotent") == 0 {
			r.IdempotencyKey, r.TTL = h.name(rt, "i"), 5*time.Minute
		}
	}
	if r.Force && r.IdempotencyKey == "" && rapid.Bool().Draw(rt, "named") {
		r.RequestID, r.TTL = h.name(rt, "r"), 5*time.Minute
	}
	return r
}

// name draws a name that is used again, but not so late that a store may have
// forgotten it.
func (h *History) name(rt *rapid.T, prefix string) string {
	return fmt.Sprint(prefix, rapid.IntRange(0, 2).Draw(rt, "name"), "/", h.Now/limiter.Instant(time.Minute))
}

func someDescriptor(rt *rapid.T) Descriptor {
	d := Descriptor{Domain: rapid.SampledFrom([]string{"d", "d", "f"}).Draw(rt, "domain"), Hits: limiter.Hits{Amount: someAmount(rt)}}
	key := rapid.SampledFrom([]string{"k", "k", "k", "s", "free", "none"}).Draw(rt, "key")
	d.Entries = []limiter.Entry{{Key: key, Value: rapid.SampledFrom([]string{"a1", "a2", "b", "c1", "c2", "x", ""}).Draw(rt, "value")}}
	if rapid.IntRange(0, 3).Draw(rt, "second entry") == 0 {
		d.Entries = append(d.Entries, limiter.Entry{Key: "j", Value: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "second value")})
	}
	if d.Hits.Stated = rapid.IntRange(0, 2).Draw(rt, "stated") == 0; d.Hits.Stated && rapid.Bool().Draw(rt, "peeks") {
		d.Hits.Amount = 0
	}
	if rapid.IntRange(0, 9).Draw(rt, "override") == 0 {
		d.Hits.Override = limiter.Override{Amount: rapid.Uint64Range(0, 20).Draw(rt, "of"), Window: time.Minute}
	}
	return d
}

// someAmount stays far from where sums saturate: timelines go there.
func someAmount(rt *rapid.T) uint64 {
	return rapid.OneOf(
		rapid.Uint64Range(0, 12),
		rapid.Uint64Range(1, 3),
		rapid.SampledFrom([]uint64{0, 1, 30, 1000, 1 << 20, 1 << 40}),
	).Draw(rt, "amount")
}

func someTenant(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"", "x", "x", "y"}).Draw(rt, "tenant")
}

func someTTL(rt *rapid.T) time.Duration {
	return rapid.SampledFrom([]time.Duration{0, 1, time.Second, 5 * time.Minute, time.Hour}).Draw(rt, "ttl")
}

func (h *History) someID(rt *rapid.T) limiter.ID {
	return idOf(rapid.IntRange(max(0, h.ids-5), h.ids+1).Draw(rt, "id"))
}

func someOutcome(rt *rapid.T) limiter.Outcome {
	flag := func(name string) bool { return rapid.Bool().Draw(rt, name) }
	return limiter.Outcome{
		Trusted:  true,
		Usage:    limiter.Usage{InputTokens: someAmount(rt), OutputTokens: someAmount(rt)},
		HasInput: flag("input known"), HasOutput: flag("output known"), OutputFloor: flag("floor"),
		RefundRequests: flag("refund requests"), RefundInput: flag("refund input"), RefundOutput: flag("refund output"),
		Progress: flag("progress"),
	}
}
