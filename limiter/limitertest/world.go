package limitertest

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-project/weir/limiter"
)

// failer is what a test and a rapid check have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// Descriptor is one descriptor of a request, with its domain and hits.
type Descriptor struct {
	Domain  string
	Entries []limiter.Entry
	Hits    limiter.Hits
}

// Request is what a store and the model are both asked.
type Request struct {
	Tenant, RequestID, IdempotencyKey string
	Open, Force, DryRun               bool
	OneByOne, Soft, Spare             bool
	ID                                limiter.ID
	TTL                               time.Duration
	HoldUntil                         limiter.Instant
	Descriptors                       []Descriptor
	// Attributes concern quotas, with Use as the exact estimate, unless nil.
	Attributes []limiter.Entry
	Use        limiter.Usage
	// Estimated says that Use is what the caller expects, not exactly what is used:
	// output tokens that are 0 are not known. The model cannot answer that.
	Estimated bool
	// Outcome is what is reported of a reservation.
	Outcome limiter.Outcome
}

// String writes r as a timeline would.
func (r Request) String() string {
	var b strings.Builder
	if r.OneByOne || r.Soft || r.Spare {
		fmt.Fprintf(&b, "one by one=%t soft=%t spare=%t ", r.OneByOne, r.Soft, r.Spare)
	}
	fmt.Fprintf(&b, "ask open=%t force=%t dry=%t id=%x ttl=%v tenant=%q rid=%q idem=%q", r.Open, r.Force, r.DryRun,
		r.ID[:2], r.TTL, r.Tenant, r.RequestID, r.IdempotencyKey)
	for _, d := range r.Descriptors {
		fmt.Fprintf(&b, ", %s:%q %+v", d.Domain, d.Entries, d.Hits)
	}
	if r.Attributes != nil {
		fmt.Fprintf(&b, ", %q %+v", r.Attributes, r.Use)
	}
	return b.String()
}

// World is a plan with a store and a model that are asked the same. It fails its test
// at the first difference. It is not safe for concurrent use.
type World struct {
	t     failer
	Store Store
	Model *Model
	Spec  limiter.Spec
	Plan  *limiter.Plan
	// Beyond says that the model does not know what is being tested, and is not asked.
	Beyond bool
	ask    limiter.Ask
	// names are the ids that the store gave reservations, which may tell where they
	// live, by those that were asked for.
	names map[limiter.ID]limiter.ID
	// clock is the latest instant of a call.
	clock atomic.Int64
	// calls are those that were made, for the report of a failure.
	calls []string
}

// note remembers a call, and fail reports all of them.
func (w *World) note(now limiter.Instant, format string, args ...any) {
	w.clock.Store(max(w.clock.Load(), int64(now)))
	w.calls = append(w.calls, fmt.Sprintf("%d ns: ", now.Sub(newYear))+fmt.Sprintf(format, args...))
}

func (w *World) fail(diff string) {
	w.t.Helper()
	w.t.Fatalf("plan %+v\n%s\nthe model (-) and the store (+) differ:\n%s", w.Spec, strings.Join(w.calls, "\n"), diff)
}

// NewWorld makes a store and compiles spec for it. Failures are reported to t; tb is
// the test that t is part of.
func NewWorld(t failer, tb testing.TB, factory Factory, o limiter.Options, spec limiter.Spec) *World {
	t.Helper()
	plan, err := limiter.Compile(spec, nil)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	w := &World{t: t, Model: NewModel(), Spec: spec, Plan: plan, names: map[limiter.ID]limiter.ID{}}
	w.Store = factory(tb, o, func() limiter.Instant { return limiter.Instant(w.clock.Load()) })
	return w
}

// Fill makes a what r asks for.
func (w *World) Fill(a *limiter.Ask, r Request) {
	a.Reset()
	a.Tenant, a.RequestID, a.IdempotencyKey = r.Tenant, r.RequestID, r.IdempotencyKey
	a.Open, a.Force, a.DryRun, a.ID, a.TTL = r.Open, r.Force, r.DryRun, r.ID, r.TTL
	a.HoldUntil = r.HoldUntil
	a.OneByOne, a.Soft, a.Spare = r.OneByOne, r.Soft, r.Spare
	for i, d := range r.Descriptors {
		w.Plan.MatchDescriptor(a, d.Domain, i, d.Entries, d.Hits)
	}
	if r.Attributes != nil {
		w.Plan.MatchAttributes(a, "", -1, r.Attributes, estimate(r.Use, !r.Estimated))
	}
	a.DropReplaced()
}

// estimate returns u as a caller gives it.
func estimate(u limiter.Usage, exact bool) limiter.Estimate {
	return limiter.Estimate{
		Requests: u.Requests, InputTokens: u.InputTokens, MaxTokens: u.OutputTokens,
		HasInput: true, HasMax: exact || u.OutputTokens > 0, Exact: exact,
	}
}

// Charges returns what r asks for, for the model.
func (w *World) Charges(r Request) []Charge {
	var charges []Charge
	var replaced []string
	for i, d := range r.Descriptors {
		_, c := MatchDescriptor(w.Spec, d.Domain, i, d.Entries, d.Hits)
		charges = append(charges, c...)
		if d.Hits.Override.Window == 0 {
			replaced = append(replaced, Replaced(w.Spec, d.Domain, d.Entries)...)
		}
	}
	charges = DropReplaced(charges, replaced)
	if r.Attributes != nil {
		charges = append(charges, MatchQuotas(w.Spec, -1, r.Attributes, r.Use)...)
	}
	return charges
}

// Decide asks the store and the model for r at now, compares, and returns the store's
// answer.
func (w *World) Decide(now limiter.Instant, r Request) limiter.Decision {
	w.t.Helper()
	var d limiter.Decision
	w.note(now, "%v", r)
	w.Fill(&w.ask, r)
	if err := w.Store.Decide(context.Background(), now, &w.ask, &d); err != nil {
		w.t.Fatalf("Decide: %v", err)
	}
	if d.Opened && !d.Replayed {
		w.names[r.ID] = d.ID
	}
	if !w.Beyond {
		want := w.Model.Decide(now, w.modelAsk(r))
		if diff := cmp.Diff(want, w.answer(&d, want)); diff != "" {
			w.fail(diff)
		}
	}
	return d
}

func (w *World) modelAsk(r Request) Ask {
	charges := w.Charges(r)
	return Ask{
		Tenant: r.Tenant, RequestID: r.RequestID, IdempotencyKey: r.IdempotencyKey,
		Open: r.Open, ID: r.ID, TTL: r.TTL, Force: r.Force, DryRun: r.DryRun,
		Charges: charges, Use: reservedOf(charges, r.Use), OneByOne: r.OneByOne, Soft: r.Soft, Spare: r.Spare,
	}
}

// reservedOf returns use if there is a quota to use it.
func reservedOf(charges []Charge, use limiter.Usage) limiter.Usage {
	for _, c := range charges {
		if c.Settled {
			return use
		}
	}
	return limiter.Usage{}
}

// answer returns the parts of d that the model knows. What is not in a Decision is
// taken from want.
func (w *World) answer(d *limiter.Decision, want Answer) Answer {
	a := Answer{Verdict: d.Verdict, RefusedBy: d.RefusedBy, RetryAt: d.RetryAt, Opened: d.Opened, Replayed: d.Replayed, Reserved: d.Reserved}
	if d.Opened {
		a.ID, a.ExpiresAt = d.ID, d.ExpiresAt
		if a.ID == w.names[want.ID] {
			a.ID = want.ID
		}
		if d.Replayed && w.Model.Ended(want.ID) {
			a.ExpiresAt = want.ExpiresAt // of no more use
		}
	}
	for i, c := range d.Checks {
		k := Check{
			Descriptor: c.Descriptor, Owner: c.Limit.Owner,
			Limit:     limiter.LimitSpec{Name: c.Limit.Name, Meter: c.Limit.Meter, Amount: c.Amount, Window: c.Limit.Window, Fixed: c.Limit.Fixed},
			Requested: c.Requested, Used: c.Used, Remaining: c.Remaining,
			RetryAt: c.RetryAt, ResetAt: c.ResetAt, Over: c.Over, Spent: c.Spent, Shadow: c.Limit.Shadow,
		}
		if i < len(want.Checks) {
			k.Refund = want.Checks[i].Refund
		}
		a.Checks = append(a.Checks, k)
	}
	return a
}

// Report settles id with o, as a gateway's word, and compares. How far others are
// believed is not the store's to decide.
func (w *World) Report(now limiter.Instant, id limiter.ID, tenant string, o limiter.Outcome) limiter.Settlement {
	w.t.Helper()
	o.Trusted = true
	s, err := w.Store.Report(context.Background(), now, w.ref(id), tenant, o)
	w.note(now, "report %x %q %+v", id[:2], tenant, o)
	return w.settled(now, id, s, err, func() limiter.Settlement { return w.Model.Report(now, id, tenant, o) })
}

// Final is the outcome of a call that is known to have used input and output tokens.
func Final(input, output uint64) limiter.Outcome {
	return limiter.Outcome{
		Usage:    limiter.Usage{InputTokens: input, OutputTokens: output},
		HasInput: true, HasOutput: true,
	}
}

// Release gives id back, and compares.
func (w *World) Release(now limiter.Instant, id limiter.ID, tenant string) limiter.Settlement {
	w.t.Helper()
	s, err := w.Store.Release(context.Background(), now, w.ref(id), tenant)
	w.note(now, "release %x %q", id[:2], tenant)
	return w.settled(now, id, s, err, func() limiter.Settlement { return w.Model.Release(now, id, tenant) })
}

// Renew moves id's expiry, and compares.
func (w *World) Renew(now limiter.Instant, id limiter.ID, tenant string, ttl time.Duration) limiter.Settlement {
	w.t.Helper()
	s, err := w.Store.Renew(context.Background(), now, w.ref(id), tenant, ttl)
	w.note(now, "renew %x %q %v", id[:2], tenant, ttl)
	return w.settled(now, id, s, err, func() limiter.Settlement { return w.Model.Renew(now, id, tenant, ttl) })
}

// settled compares the store's answer with the model's.
func (w *World) settled(now limiter.Instant, id limiter.ID, s limiter.Settlement, err error, model func() limiter.Settlement) limiter.Settlement {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v: %v", w.calls[len(w.calls)-1], err)
	}
	if w.Beyond {
		return s
	}
	want := model()
	if s == (limiter.Settlement{}) && w.Model.MayForget(now, id) {
		return s
	}
	if diff := cmp.Diff(want, s); diff != "" {
		w.fail(diff)
	}
	return s
}

// ref names the reservation that was asked for as id.
func (w *World) ref(id limiter.ID) limiter.Ref {
	if name, ok := w.names[id]; ok {
		id = name
	}
	return limiter.Ref{ID: id}
}

// idOf returns the n-th reservation id of a test, which no real one would be.
func idOf(n int) limiter.ID {
	var id limiter.ID
	binary.BigEndian.PutUint64(id[8:], uint64(n)*0x9e3779b97f4a7c15+1)
	binary.BigEndian.PutUint64(id[:8], uint64(n)*0xc2b2ae3d27d4eb4f+1)
	return id
}

// Zero forgets the counters that r concerns, of whatever owner they are.
func (w *World) Zero(now limiter.Instant, r Request) int {
	w.t.Helper()
	sum := 0
	done := map[string]bool{}
	for _, c := range w.Charges(r) {
		if done[c.Owner] {
			continue
		}
		done[c.Owner] = true
		w.Fill(&w.ask, r)
		n, err := w.Store.Zero(context.Background(), now, &w.ask, c.Owner, nil)
		if err != nil {
			w.t.Fatalf("Zero: %v", err)
		}
		sum += n
	}
	w.Model.Zero(now, w.Charges(r))
	return sum
}
