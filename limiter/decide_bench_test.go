package limiter

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
	"unsafe"
)

// The benchmarks of the core: what one request costs from its descriptors (or
// attributes) to its decision, on one shard, with everything passing. Time advances
// by a microsecond a request. Keys are drawn beforehand.

// benchPlan has the rules that a request of up to four charges ends at, and a quota of
// three limits.
func benchPlan(b *testing.B) *Plan {
	b.Helper()
	ample := []LimitSpec{{Meter: Requests, Amount: MaxAmount, Window: time.Hour}}
	p, err := Compile(Spec{
		Domains: []DomainSpec{{Name: "edge", Rules: []RuleSpec{{
			Key: "tenant", Value: "acme", Limits: ample, Rules: []RuleSpec{
				{Key: "model", Limits: ample},
				{Key: "path", Value: "/v1/messages", Limits: ample, Rules: []RuleSpec{{Key: "user", Limits: ample}}},
			},
		}}}},
		Quotas: []QuotaSpec{{
			Name: "lab", Match: []AttributePattern{{Key: "model", Pattern: "claude-lab-*"}},
			Limits: []LimitSpec{
				{Meter: Requests, Amount: MaxAmount, Window: time.Minute},
				{Meter: InputTokens, Amount: MaxAmount, Window: time.Minute},
				{Meter: OutputTokens, Amount: MaxAmount, Window: time.Minute},
			},
		}},
	}, nil)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// benchDescriptors returns the descriptors of a request of n charges; the user's entry
// is the last one of the first.
func benchDescriptors(n int) [][]Entry {
	tenant, path := Entry{"tenant", "acme"}, Entry{"path", "/v1/messages"}
	return [][]Entry{
		{tenant, path, {"user", ""}}, {tenant}, {tenant, path}, {tenant, {"model", "claude-lab-1"}},
	}[:n]
}

// benchUser is the name of a user, written anew for each request: a million names at
// hand would cost the benchmark more than what it measures.
type benchUser [14]byte

func (u *benchUser) name(n uint32) string {
	copy(u[:], "u-000000000000")
	for i := len(u) - 1; n > 0; i-- {
		u[i] = byte('0' + n%10)
		n /= 10
	}
	return unsafe.String(&u[0], len(u))
}

// benchDraws returns draws of n keys, to be repeated.
func benchDraws(n int, order string) []uint32 {
	r := rand.New(rand.NewPCG(1, 2))
	z := rand.NewZipf(r, 1.01, 1, uint64(n-1))
	draws := make([]uint32, 1<<20)
	for i := range draws {
		if order == "zipf" {
			draws[i] = uint32(z.Uint64())
		} else {
			draws[i] = r.Uint32N(uint32(n))
		}
	}
	return draws
}

// benchAsk decides one request of descriptors for user.
func benchAsk(b *testing.B, p *Plan, l *Limiter, now Instant, a *Ask, d *Decision, descriptors [][]Entry, user string) {
	a.Reset()
	descriptors[0][2].Value = user
	for i, e := range descriptors {
		p.MatchDescriptor(a, "edge", i, e, Hits{Amount: 1})
	}
	l.Route(a)
	l.Decide(now, a, d)
	if d.Verdict != Allowed || len(d.Checks) != len(descriptors) {
		b.Fatalf("got %s by %d checks, want allowed by %d", d.Verdict, len(d.Checks), len(descriptors))
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, charges := range []int{1, 4} {
		for _, keys := range []struct {
			name string
			n    int
		}{{"1k", 1000}, {"1M", 1_000_000}} {
			for _, order := range []string{"uniform", "zipf"} {
				b.Run(fmt.Sprintf("charges=%d/keys=%s/%s", charges, keys.name, order), func(b *testing.B) {
					benchDecide(b, charges, keys.n, order)
				})
			}
		}
	}
}

func benchDecide(b *testing.B, charges, keys int, order string) {
	var (
		p           = benchPlan(b)
		l           = New(Options{Seed: 7, MaxKeys: 2_000_000})
		a           Ask
		d           Decision
		now         = t0
		descriptors = benchDescriptors(charges)
		user        benchUser
	)
	draws := benchDraws(keys, order)
	for u := range keys {
		benchAsk(b, p, l, now, &a, &d, descriptors, user.name(uint32(u)))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		now += Instant(time.Microsecond)
		benchAsk(b, p, l, now, &a, &d, descriptors, user.name(draws[i%len(draws)]))
		i++
	}
}

// BenchmarkDenied is one charge that is refused, which has to say when it would pass.
func BenchmarkDenied(b *testing.B) {
	p, err := Compile(Spec{Domains: []DomainSpec{{Name: "edge", Rules: []RuleSpec{{
		Key: "user", Limits: []LimitSpec{{Meter: Requests, Amount: 600, Window: time.Hour}},
	}}}}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	l := New(Options{})
	var a Ask
	var d Decision
	user := []Entry{{"user", "ann"}}
	ask := func(now Instant) {
		a.Reset()
		p.MatchDescriptor(&a, "edge", 0, user, Hits{Amount: 1})
		l.Route(&a)
		l.Decide(now, &a, &d)
	}
	now := t0
	for range 600 { // ten in each sub-bucket
		ask(now)
		now = now.Add(6 * time.Second)
	}
	b.ReportAllocs()
	for b.Loop() {
		ask(now)
	}
	if d.Verdict != Denied {
		b.Fatalf("got %s, want denied", d.Verdict)
	}
}

// BenchmarkReport is an LLM call: an ask that reserves on three limits under a request
// id, and its report, found by that id.
func BenchmarkReport(b *testing.B) {
	var (
		p     = benchPlan(b)
		l     = New(Options{Seed: 7})
		a     Ask
		d     Decision
		now   = t0
		attrs = []Entry{{"org", "acme"}, {"tenant", "chat"}, {"model", "claude-lab-1"}}
		est   = Estimate{BodyBytes: 4000, HasBody: true, MaxTokens: 2048, HasMax: true}
		used  = Outcome{Usage: Usage{InputTokens: 925, OutputTokens: 342}, HasInput: true, HasOutput: true, Learn: true}
		name  = []byte("00000000-0000-4000-8000-000000000000")
	)
	random := rand.New(rand.NewPCG(3, 4))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		now += Instant(time.Microsecond)
		a.Reset()
		for j, n := len(name)-1, i; n > 0; j, n = j-1, n/10 {
			name[j] = byte('0' + n%10)
		}
		a.Tenant, a.RequestID, a.Open = "chat", unsafe.String(&name[0], len(name)), true
		a.ID = ID{8: byte(random.Uint32()), 9: byte(i), 10: byte(i >> 8), 11: byte(i >> 16), 12: byte(i >> 24)}
		p.MatchAttributes(&a, "llm", -1, attrs, est)
		l.Route(&a)
		l.Decide(now, &a, &d)
		id, ok := l.Find(a.RequestID)
		if d.Verdict != Allowed || !ok {
			b.Fatalf("got %s, found %v", d.Verdict, ok)
		}
		if s := l.Report(now, id, "chat", used); !s.Applied {
			b.Fatalf("the report was not applied: %+v", s)
		}
		i++
	}
}

// BenchmarkMemory makes a million keys, each asked for once, and says what each costs
// beyond the bytes of the user's name.
func BenchmarkMemory(b *testing.B) {
	p := benchPlan(b)
	const keys = 1_000_000
	descriptors := benchDescriptors(1)
	var user benchUser
	for b.Loop() {
		before := heapInUse()
		l := New(Options{Seed: 7})
		var a Ask
		var d Decision
		for u := range keys {
			benchAsk(b, p, l, t0, &a, &d, descriptors, user.name(uint32(u)))
		}
		b.ReportMetric(float64(heapInUse()-before)/keys-float64(len(user)), "B/key")
		runtime.KeepAlive(l)
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
