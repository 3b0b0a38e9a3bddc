package server

import (
	"context"
	crand "crypto/rand"
	"encoding/base64"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/provider"
)

// decider is what all protocols share: the store, the plan in force, the clock and
// the metrics. It is safe for concurrent use.
type decider struct {
	store   Store
	loaded  atomic.Pointer[active]
	metrics *metrics
	log     *slog.Logger

	// base and wall are one instant, as the monotonic clock and as the wall clock
	// tell it. Durations never see the wall clock being set.
	base time.Time
	wall limiter.Instant

	paces  *paceLog
	seals  *seals
	places *places

	scratches   sync.Pool
	inFlight    atomic.Int64
	maxInFlight int64
}

// active is a configuration in force, with the counters that belong to it. It is
// immutable apart from the counters.
type active struct {
	*config.Loaded
	counters *planCounters
	fixed    [][]byte // the parts of answers that are always the same, see appendFixed
	since    time.Time
	learned  map[string]bool // the quotas whose limits are learned, by name
	provider string          // that of all quotas; empty if they differ
	classes  *modelClasses   // nil if nothing depends on them
}

// providerOf returns the provider of all quotas of a configuration, whose answers
// reports are about that do not say; empty if there is none, or more than one.
func providerOf(l *config.Loaded) string {
	name := ""
	for i := range l.Spec.Quotas {
		if i > 0 && l.Spec.Quotas[i].Provider != name {
			return ""
		}
		name = l.Spec.Quotas[i].Provider
	}
	return name
}

// providersExpected says which providers a report may name.
func (a *active) providersExpected() string {
	names := provider.Names()
	if len(a.Providers) > maxShown {
		return strings.Join(names, ", ") + ", or one of the configuration's"
	}
	names = slices.AppendSeq(names, maps.Keys(a.Providers))
	slices.Sort(names)
	return "one of " + strings.Join(names, ", ")
}

// maxShown is how many providers of its own a configuration may have for their names to be
// shown.
const maxShown = 8

// learnedOf lists the quotas of a configuration whose limits are learned.
func learnedOf(l *config.Loaded) map[string]bool {
	learned := map[string]bool{}
	for i := range l.Spec.Quotas {
		if q := &l.Spec.Quotas[i]; q.Learn {
			learned[q.Name] = true
		}
	}
	return learned
}

// paced says whether the limit that refused is of a learned quota.
func (a *active) paced(d *limiter.Decision) bool {
	return d.RefusedBy >= 0 && d.RefusedBy < len(d.Checks) && a.learned[d.Checks[d.RefusedBy].Limit.Owner]
}

// wireMessage is a message with a codec of its own, so that reading and writing it
// makes no protobuf objects. The gRPC codec asks for it before anything else.
type wireMessage interface {
	// appendWire appends the protobuf encoding to b.
	appendWire(b []byte) []byte
	// parseWire replaces the message by what b encodes. It keeps no reference to b.
	parseWire(b []byte) error
}

// maxHold bounds how long any caller is held, whatever it asks for.
const maxHold = 30 * time.Second

// sampleEvery is how many decisions one is timed for: reading the clock twice costs
// a good part of a decision.
const sampleEvery = 64

func newDecider(store Store, loaded *config.Loaded, m *metrics, log *slog.Logger, maxInFlight int) *decider {
	now := time.Now()
	d := &decider{
		store: store, metrics: m, log: log,
		base: now, wall: limiter.InstantOf(now),
		seals: newSeals(), places: newPlaces(),
		maxInFlight: int64(maxInFlight),
	}
	d.scratches.New = func() any { return newScratch() }
	d.apply(loaded)
	d.paces = &paceLog{d: d}
	m.changed = d.paces.changed
	m.registry.MustRegister(&paceCollector{d})
	return d
}

// apply puts a configuration in force. Calls under way finish with the one that they
// started with.
func (d *decider) apply(l *config.Loaded) {
	a := &active{Loaded: l, counters: d.metrics.bind(l), fixed: fixedParts(l.Plan), since: d.now().Time(), learned: learnedOf(l), provider: providerOf(l), classes: newModelClasses(l)}
	d.loaded.Store(a)
	d.metrics.loaded(l, a.since)
}

// now reads the clock. Call it once per RPC.
func (d *decider) now() limiter.Instant { return d.wall.Add(time.Since(d.base)) }

// decide asks the store for s.ask, fills s.decision, and counts the answer under the
// domain. The error means that the store is sick or that ctx ended.
func (d *decider) decide(ctx context.Context, now limiter.Instant, a *active, domain string, s *scratch) error {
	if err := d.ask(ctx, now, s); err != nil {
		return err
	}
	if !s.ask.DryRun {
		a.counters.decided(domain, &s.decision)
	}
	return nil
}

// decideHeld is decide for a caller that can be held until s.ask.HoldUntil, and returns
// the instant of the answer. Who has a place already waits for that one; who cannot be
// held so long is given one.
func (d *decider) decideHeld(ctx context.Context, now limiter.Instant, a *active, domain string, s *scratch) (limiter.Instant, error) {
	k, until := &s.ask, s.ask.HoldUntil
	if k.Turn != 0 {
		k.HoldUntil = 0
	}
	err := d.ask(ctx, now, s)
	if err == nil && k.HoldUntil > now && s.decision.Verdict == limiter.Denied && a.paced(&s.decision) {
		k.HoldUntil = 0
		now = d.now()
		err = d.ask(ctx, now, s)
	}
	for err == nil && s.decision.Verdict == limiter.Denied && s.decision.Turn != 0 && s.decision.RetryAt <= until {
		k.Turn = s.decision.Turn
		if err = d.pause(ctx, s.decision.RetryAt); err == nil {
			now = d.now()
			err = d.ask(ctx, now, s)
		}
	}
	if err != nil {
		return now, err
	}
	a.counters.decided(domain, &s.decision)
	return d.now(), nil
}

// ask is decide without the counting.
func (d *decider) ask(ctx context.Context, now limiter.Instant, s *scratch) error {
	s.decided++
	timed := s.decided%sampleEvery == 1 && s.ask.HoldUntil <= now
	var began time.Time
	if timed {
		began = time.Now()
	}
	if err := d.store.Decide(ctx, now, &s.ask, &s.decision); err != nil {
		return err
	}
	if timed {
		d.metrics.decisionSeconds.Observe(time.Since(began).Seconds())
	}
	return nil
}

// holdUntil says until when a caller that is willing to wait may be held: not past
// maxHold, and so long before its deadline that the answer still arrives. It is zero
// if the caller is not to be held.
func (d *decider) holdUntil(ctx context.Context, now limiter.Instant, wait time.Duration) limiter.Instant {
	wait = min(wait, maxHold)
	if deadline, ok := ctx.Deadline(); ok {
		left := deadline.Sub(d.base) - now.Sub(d.wall)
		wait = min(wait, left-answerMargin(left))
	}
	if wait <= 0 {
		return 0
	}
	return now.Add(wait)
}

// answerMargin is how long before the caller's deadline, which is left away, an
// answer is sent: long enough for a slow scheduler and a local network.
func answerMargin(left time.Duration) time.Duration {
	return min(max(left/8, 2*time.Millisecond), 50*time.Millisecond)
}

// enter counts a call in. It is false if there are too many already: the call is then
// to be refused at once, and leave not to be called.
func (d *decider) enter() bool {
	if d.inFlight.Add(1) <= d.maxInFlight {
		return true
	}
	d.inFlight.Add(-1)
	d.metrics.overloads.Inc()
	return false
}

// leave counts a call out.
func (d *decider) leave() { d.inFlight.Add(-1) }

// getScratch lends a scratch, empty.
func (d *decider) getScratch() *scratch { return d.scratches.Get().(*scratch) }

// putScratch takes a scratch back. Nothing in it may be used any more.
func (d *decider) putScratch(s *scratch) {
	s.reset()
	d.scratches.Put(s)
}

// scratch is what one decision needs, kept so that the next one allocates nothing.
// It is not safe for concurrent use.
type scratch struct {
	ask      limiter.Ask
	decision limiter.Decision
	entries  []limiter.Entry
	classed  []limiter.Entry // attributes, with the class of their model
	text     []byte
	reserve  reserveCall
	claim    uint64          // of the ticket
	ticket   [ticketLen]byte // the answer's, if the decision has a turn

	random  *rand.ChaCha8
	decided uint64
}

func newScratch() *scratch {
	var seed [32]byte
	// crypto/rand.Read never fails: it ends the process instead.
	_, _ = crand.Read(seed[:])
	return &scratch{random: rand.NewChaCha8(seed)}
}

func (s *scratch) reset() {
	s.ask.Reset()
	clear(s.entries)
	s.entries = s.entries[:0]
	clear(s.classed)
	s.classed = s.classed[:0]
	s.text = s.text[:0]
	s.claim = 0
	s.reserve.reset()
}

// sealed returns the ticket of the decision, nil if it has none. It is valid until the
// next decision.
func (s *scratch) sealed(d *decider) []byte {
	if s.decision.Turn == 0 || s.decision.Verdict != limiter.Denied {
		return nil
	}
	d.seals.seal(&s.ticket, s.decision.Turn, s.claim)
	return s.ticket[:]
}

// newID returns an unguessable reservation id: ChaCha8, seeded by the system.
func (s *scratch) newID() limiter.ID {
	var id limiter.ID
	for i := 0; i < len(id); i += 8 {
		v := s.random.Uint64()
		for j := range 8 {
			id[i+j] = byte(v >> (8 * j))
		}
	}
	return id
}

// idText is the alphabet of reservation ids: URL-safe, one text for each id.
var idText = base64.RawURLEncoding

// idLen is the length of a reservation id as text.
const idLen = 22

// appendID appends id as text.
func appendID(b []byte, id limiter.ID) []byte { return idText.AppendEncode(b, id[:]) }

// encodeID returns id as URL-safe text.
func encodeID(id limiter.ID) string { return idText.EncodeToString(id[:]) }

// idDigits are the values of the alphabet's letters, and noDigit for all else.
var idDigits = func() (digits [256]byte) {
	for i := range digits {
		digits[i] = noDigit
	}
	for i := range 64 {
		text := idText.EncodeToString([]byte{byte(i) << 2})
		digits[text[0]] = byte(i)
	}
	return digits
}()

const noDigit = 0x80

// decodeID reads what encodeID wrote. It is false for any other text.
func decodeID(text string) (limiter.ID, bool) {
	var id limiter.ID
	if len(text) != idLen {
		return id, false
	}
	var seen byte
	for i := range 5 {
		a, b := idDigits[text[4*i]], idDigits[text[4*i+1]]
		c, d := idDigits[text[4*i+2]], idDigits[text[4*i+3]]
		seen |= a | b | c | d
		id[3*i], id[3*i+1], id[3*i+2] = a<<2|b>>4, b<<4|c>>2, c<<6|d
	}
	a, b := idDigits[text[20]], idDigits[text[21]]
	// The last letter holds two bits of the id; the others are 0.
	if seen |= a | b; seen&noDigit != 0 || b&0x0f != 0 {
		return limiter.ID{}, false
	}
	id[15] = a<<2 | b>>4
	return id, true
}
