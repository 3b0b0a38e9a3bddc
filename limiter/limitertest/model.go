package limitertest

import (
	"math"
	"time"

	"github.com/weir-project/weir/limiter"
)

// Model is the slow model of a limiter with hard limits. It is not safe for
// concurrent use. The zero value is not ready: use [NewModel].
type Model struct {
	windows map[string]*window
	holds   map[limiter.ID]*hold
	byName  map[string]limiter.ID
	byIdem  map[[2]string]limiter.ID
	budgets map[string]bool // limits of which a key was a budget that was spent from
}

// hold is a reservation.
type hold struct {
	tenant    string
	charges   []held
	ending    limiter.Ending
	expiresAt limiter.Instant
	endedAt   limiter.Instant
	ttl       time.Duration
	reserved  limiter.Usage
	charged   limiter.Usage
}

// held is a charge of a reservation: where it was made and how much of it stands.
type held struct {
	counter string
	meter   limiter.Meter
	bucket  int64
	amount  uint64
	limit   uint64
	shadow  bool
	fixed   bool // reports do not change it, only a release does
}

// NewModel returns a model of an empty limiter.
func NewModel() *Model {
	return &Model{
		windows: map[string]*window{}, holds: map[limiter.ID]*hold{},
		byName: map[string]limiter.ID{}, byIdem: map[[2]string]limiter.ID{}, budgets: map[string]bool{},
	}
}

// Ask is what the model is asked: the exported fields of a [limiter.Ask], with the
// charges in the open.
type Ask struct {
	Tenant, RequestID, IdempotencyKey string
	Open                              bool
	ID                                limiter.ID
	TTL                               time.Duration
	Force, DryRun                     bool
	Charges                           []Charge
	OneByOne, Soft, Spare             bool
	// Use is what the charges mean in terms of the upstream.
	Use limiter.Usage
}

// Answer is what the model answers: the parts of a [limiter.Decision] that it knows.
type Answer struct {
	Verdict   limiter.Verdict
	RefusedBy int
	RetryAt   limiter.Instant
	Checks    []Check
	ID        limiter.ID
	Opened    bool
	ExpiresAt limiter.Instant
	Replayed  bool
	Reserved  limiter.Usage
}

// Check is what the model says about one charge.
type Check struct {
	Descriptor           int
	Owner                string
	Limit                limiter.LimitSpec
	Requested            uint64
	Used, Remaining      uint64
	RetryAt, ResetAt     limiter.Instant
	Over, Shadow, Refund bool
	Spent                bool
}

// Decide answers a at now.
func (m *Model) Decide(now limiter.Instant, a Ask) Answer {
	m.expire(now)
	if ans, known := m.replay(now, a); known {
		return ans
	}
	sums := m.sums(a.Charges)
	ans := Answer{RefusedBy: -1, RetryAt: now, Reserved: a.Use}
	for _, c := range a.Charges {
		if a.OneByOne {
			ans.Checks = append(ans.Checks, m.byItself(now, c, a))
			continue
		}
		ans.Checks = append(ans.Checks, m.check(now, c, sums[c.Counter], a.Force))
	}
	m.judge(a, &ans)
	var h *hold
	switch {
	case a.DryRun || a.OneByOne:
		return ans
	case ans.Verdict != limiter.Allowed:
		m.chargeSpent(now, a, &ans)
	default:
		h = m.charge(now, a)
	}
	for i, c := range a.Charges {
		k := m.check(now, c, 0, true)
		ans.Checks[i].Used, ans.Checks[i].Remaining, ans.Checks[i].ResetAt = k.Used, k.Remaining, k.ResetAt
	}
	if a.Open && h != nil {
		ans.ID, ans.Opened, ans.ExpiresAt = a.ID, true, h.expiresAt
	}
	return ans
}

// byItself checks c alone, makes it if it fits or cannot be refused, and says how its
// limit then stands.
func (m *Model) byItself(now limiter.Instant, c Charge, a Ask) Check {
	before := m.check(now, c, c.Amount, false)
	spent := m.spent(now, c) && !c.Limit.Fixed
	if a.DryRun || before.Over && !c.Limit.Fixed && !c.Shadow && !spent {
		return before
	}
	m.make(now, c, a, spent, c.peeks() && !c.Limit.Fixed)
	after := m.check(now, c, 0, true)
	after.Over, after.RetryAt, after.Spent = before.Over, before.RetryAt, before.Over && spent
	return after
}

// make makes the charge c of a, and opens a budget.
func (m *Model) make(now limiter.Instant, c Charge, a Ask, spent, peeks bool) *window {
	w := m.window(now, c)
	w.budget = w.budget || spent || peeks
	m.budgets[c.Rule] = m.budgets[c.Rule] || spent
	switch {
	case c.Refund:
		w.refund(c.Amount)
	case c.Shadow || c.Soft || a.Soft:
		w.count(c.Amount)
	default:
		w.charge(c.Amount)
	}
	return w
}

// peeks says that c looks whether anything is left of a budget.
func (c Charge) peeks() bool { return c.Stated && c.Amount == 0 && !c.Refund }

// spent says that c is what was spent of a budget already.
func (m *Model) spent(now limiter.Instant, c Charge) bool {
	if !c.Stated || c.Amount == 0 || c.Refund {
		return false
	}
	if c.Soft {
		return true
	}
	w := m.window(now, c)
	return w.budget || w.used() == 0 && m.budgets[c.Rule]
}

// allSpent says of each charge whether it was spent already, before any is made.
func (m *Model) allSpent(now limiter.Instant, a Ask) []bool {
	all := make([]bool, len(a.Charges))
	for i, c := range a.Charges {
		all[i] = !a.Force && m.spent(now, c)
	}
	return all
}

// chargeSpent charges of a, which was refused, what was spent already.
func (m *Model) chargeSpent(now limiter.Instant, a Ask, ans *Answer) {
	for i, spent := range m.allSpent(now, a) {
		if spent {
			m.make(now, a.Charges[i], a, true, false)
			ans.Checks[i].Spent = true
		}
	}
}

// judge makes a verdict of checks: each hard limit may refuse, and all soft ones together.
func (m *Model) judge(a Ask, ans *Answer) {
	refuse := func(by int, retry limiter.Instant) {
		if ans.RefusedBy < 0 {
			ans.RefusedBy, ans.Verdict = by, limiter.Denied
		}
		if retry == limiter.Never {
			ans.Verdict = limiter.Infeasible
		}
		ans.RetryAt = max(ans.RetryAt, retry)
	}
	allOver, firstSoft, softRetry := true, -1, limiter.Never
	for i, c := range a.Charges {
		k, soft := ans.Checks[i], c.Soft || a.Soft
		over := k.Over && !k.Shadow
		switch {
		case soft && over:
			if firstSoft < 0 {
				firstSoft = i
			}
			softRetry = min(softRetry, k.RetryAt)
		case soft:
			allOver = false
		case over:
			refuse(i, k.RetryAt)
		}
	}
	if firstSoft >= 0 && allOver && !a.Spare {
		refuse(firstSoft, softRetry)
	}
}

// Report settles the reservation id at now with what is known to have been used.
func (m *Model) Report(now limiter.Instant, id limiter.ID, tenant string, o limiter.Outcome) limiter.Settlement {
	m.expire(now)
	h := m.find(id, tenant)
	if h == nil {
		return limiter.Settlement{}
	}
	if h.ending != limiter.Open {
		return h.settlement(false)
	}
	used := limiter.Usage{
		Requests:     known(h.charged.Requests, 0, false, o.RefundRequests),
		InputTokens:  known(h.charged.InputTokens, o.Usage.InputTokens, o.HasInput, o.RefundInput),
		OutputTokens: known(h.charged.OutputTokens, o.Usage.OutputTokens, o.HasOutput, o.RefundOutput),
	}
	if o.HasOutput && o.OutputFloor || o.Progress {
		used.OutputTokens = max(used.OutputTokens, h.charged.OutputTokens)
	}
	if o.Progress {
		used.Requests = h.charged.Requests
		used.InputTokens = max(used.InputTokens, h.charged.InputTokens)
	} else {
		h.ending, h.endedAt = limiter.Settled, now
	}
	m.replace(now, h, used)
	return h.settlement(true)
}

// known returns what a meter's use comes to: what was used if that is known, else
// nothing if that is given back, else what was reserved.
func known(reserved, used uint64, has, refund bool) uint64 {
	switch {
	case has:
		return min(used, limiter.MaxAmount)
	case refund:
		return 0
	}
	return reserved
}

// Release ends the reservation id and gives everything back.
func (m *Model) Release(now limiter.Instant, id limiter.ID, tenant string) limiter.Settlement {
	m.expire(now)
	h := m.find(id, tenant)
	if h == nil {
		return limiter.Settlement{}
	}
	if h.ending != limiter.Open {
		return h.settlement(false)
	}
	h.ending, h.endedAt = limiter.Released, now
	m.replace(now, h, limiter.Usage{})
	return h.settlement(true)
}

// Renew moves the expiry of the reservation id to now+ttl.
func (m *Model) Renew(now limiter.Instant, id limiter.ID, tenant string, ttl time.Duration) limiter.Settlement {
	m.expire(now)
	h := m.find(id, tenant)
	if h == nil {
		return limiter.Settlement{}
	}
	if h.ending != limiter.Open {
		return h.settlement(false)
	}
	h.ttl = timeToLive(ttl)
	h.expiresAt = now.Add(h.ttl)
	return h.settlement(true)
}

// Ended says whether the reservation id is no longer open.
func (m *Model) Ended(id limiter.ID) bool {
	h := m.holds[id]
	return h != nil && h.ending != limiter.Open
}

// MayForget says whether the reservation id ended so long ago, twice its time to
// live, that it need not be known any more at now. The model itself never forgets.
func (m *Model) MayForget(now limiter.Instant, id limiter.ID) bool {
	h := m.holds[id]
	return h != nil && h.ending != limiter.Open && now >= h.endedAt.Add(2*h.ttl)
}

func (h *hold) settlement(applied bool) limiter.Settlement {
	s := limiter.Settlement{Ending: h.ending, Applied: applied, Charged: h.charged}
	if h.ending == limiter.Open {
		s.ExpiresAt = h.expiresAt
	}
	return s
}

// replay answers what was answered before: a known idempotency key, or a request id
// that was charged already.
func (m *Model) replay(now limiter.Instant, a Ask) (Answer, bool) {
	if a.DryRun {
		return Answer{}, false
	}
	ans := Answer{RefusedBy: -1, RetryAt: now, Replayed: true}
	id, known := m.byIdem[[2]string{a.Tenant, a.IdempotencyKey}]
	if known && a.IdempotencyKey != "" && a.Open {
		h := m.holds[id]
		ans.ID, ans.Opened, ans.ExpiresAt, ans.Reserved = id, true, h.expiresAt, h.reserved
		return ans, true
	}
	_, known = m.byName[a.RequestID]
	return ans, known && a.RequestID != "" && a.Force
}

// sums adds up what is asked of each counter, apart from refunds.
func (m *Model) sums(charges []Charge) map[string]uint64 {
	s := map[string]uint64{}
	for _, c := range charges {
		if c.Refund {
			continue
		}
		if sum := s[c.Counter] + c.Amount; sum >= s[c.Counter] {
			s[c.Counter] = sum
		} else {
			s[c.Counter] = math.MaxUint64
		}
	}
	return s
}

// window returns c's counter at now, with the limit that c goes by.
func (m *Model) window(now limiter.Instant, c Charge) *window {
	w := m.windows[c.Counter]
	if w == nil {
		w = windowOf(c.Limit)
		w.now = int64(now)
		m.windows[c.Counter] = w
	}
	w.limit = c.Limit.Amount
	w.advance(int64(now))
	return w
}

// check says how c stands at now, where sum is asked of its counter in all. What was
// spent already and what is given back is never refused.
func (m *Model) check(now limiter.Instant, c Charge, sum uint64, force bool) Check {
	w := m.window(now, c)
	k := Check{
		Descriptor: c.Descriptor, Owner: c.Owner, Limit: c.Limit, Requested: c.Amount,
		Shadow: c.Shadow, Refund: c.Refund, Used: w.used(), RetryAt: now, ResetAt: w.resetAt(),
	}
	if k.Used < w.limit {
		k.Remaining = w.limit - k.Used
	}
	if !c.Refund && !force && !w.fits(sum) {
		k.Over = true
		k.RetryAt = w.retryAt(sum)
	}
	return k
}

// charge makes a's charges, and opens its reservation.
func (m *Model) charge(now limiter.Instant, a Ask) *hold {
	h := &hold{tenant: a.Tenant, ending: limiter.Open, expiresAt: now.Add(timeToLive(a.TTL)), ttl: timeToLive(a.TTL), reserved: a.Use, charged: a.Use}
	spent := m.allSpent(now, a)
	for i, c := range a.Charges {
		w := m.make(now, c, a, spent[i], c.peeks())
		if c.Refund {
			continue
		}
		h.charges = append(h.charges, held{
			counter: c.Counter, meter: c.Limit.Meter,
			bucket: w.bucket(w.now), amount: c.Amount, limit: c.Limit.Amount, shadow: c.Shadow, fixed: !c.Settled,
		})
	}
	if a.RequestID != "" && (a.Open || a.Force) {
		m.byName[a.RequestID] = a.ID
	}
	if a.Open {
		m.holds[a.ID] = h
		if a.IdempotencyKey != "" {
			m.byIdem[[2]string{a.Tenant, a.IdempotencyKey}] = a.ID
		}
	}
	return h
}

// replace replaces what h charged by what was used.
func (m *Model) replace(now limiter.Instant, h *hold, used limiter.Usage) {
	for i := range h.charges {
		c := &h.charges[i]
		actual := used.Of(c.meter)
		if c.fixed && h.ending != limiter.Released {
			continue
		}
		if c.fixed {
			actual = 0
		}
		if w := m.windows[c.counter]; w != nil {
			w.limit = c.limit
			w.advance(int64(now))
			w.replace(c, actual)
		}
		c.amount = actual
	}
	h.charged = used
}

// replace gives back to the bucket of c what it charged too much, or charges now
// what it charged too little.
func (w *window) replace(c *held, actual uint64) {
	switch {
	case actual < c.amount:
		w.giveBack(c.bucket, c.amount-actual)
	case c.shadow:
		w.count(actual - c.amount)
	default:
		w.charge(actual - c.amount)
	}
}

// expire ends what has expired by now; its estimate stays charged.
func (m *Model) expire(now limiter.Instant) {
	for _, h := range m.holds {
		if h.ending == limiter.Open && h.expiresAt <= now {
			h.ending, h.endedAt = limiter.Expired, h.expiresAt
		}
	}
}

// find returns the reservation id if it is tenant's, or if tenant is empty.
func (m *Model) find(id limiter.ID, tenant string) *hold {
	h := m.holds[id]
	if h == nil || tenant != "" && tenant != h.tenant {
		return nil
	}
	return h
}

// timeToLive returns ttl as a reservation gets it.
func timeToLive(ttl time.Duration) time.Duration {
	if ttl <= 0 {
		return limiter.DefaultTTL
	}
	return min(ttl, limiter.MaxTTL)
}

// Zero forgets the counters that charges concern.
func (m *Model) Zero(now limiter.Instant, charges []Charge) {
	m.expire(now)
	for _, c := range charges {
		delete(m.windows, c.Counter)
	}
}
