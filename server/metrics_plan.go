package server

import (
	"math"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
)

// numVerdicts sizes the tables of counters. Held is not an answer.
const numVerdicts = int(limiter.Held)

// none is the owner of decisions that no limit took part in.
const none = "none"

// planCounters are the counters of one plan, looked up once when it is loaded: a
// decision finds its own by the places of its limits, and adds to them.
type planCounters struct {
	limits  []limitCounters // by limiter.Limit.Index
	domains []*verdictCounters
	byName  map[string]*verdictCounters
	other   *verdictCounters
}

// limitCounters are those of one limit.
type limitCounters struct {
	limit *limiter.Limit
	units *count
	// said has one entry for each domain in which the limit's owner can say something;
	// the first one stands for all others.
	said []*verdictCounters
}

// verdictCounters are those of one owner, or of none, in one domain.
type verdictCounters struct {
	domain   string
	verdicts [numVerdicts]count
}

// count is a counter that stops at the largest number.
type count struct{ n atomic.Uint64 }

func (c *count) add(n uint64) {
	if c.n.Add(n) < n {
		c.n.Store(math.MaxUint64)
	}
}

// seriesKey names what one owner says in one domain, and unitsKey what it is charged.
type (
	seriesKey struct{ domain, owner string }
	unitsKey  struct {
		owner string
		meter limiter.Meter
	}
)

// planSeries are the counters of the plan in force, by their names. Maps that are in it
// are not changed any more.
type planSeries struct {
	verdicts map[seriesKey]*verdictCounters
	units    map[unitsKey]*count
}

// maxIdleSeries bounds the series that are shown before anything was counted in them: of
// a large plan only those in use are.
const maxIdleSeries = 2000

var (
	decisionsDesc = prometheus.NewDesc("weir_decisions_total",
		"Decisions, by the domain asked, the quota or rule that refused (or else the first one charged), and the verdict.",
		[]string{"domain", "owner", "verdict"}, nil)
	chargedDesc = prometheus.NewDesc("weir_charged_units_total",
		"Units charged when calls were allowed, by quota or rule and meter. Settling corrects counters, not this.",
		[]string{"owner", "meter"}, nil)
)

// Describe implements prometheus.Collector.
func (p *planSeries) Describe(ch chan<- *prometheus.Desc) {
	ch <- decisionsDesc
	ch <- chargedDesc
}

// Collect implements prometheus.Collector.
func (p *planSeries) Collect(ch chan<- prometheus.Metric) {
	idle := len(p.verdicts)*numVerdicts+len(p.units) <= maxIdleSeries
	for k, v := range p.verdicts {
		for i := range v.verdicts {
			if n := v.verdicts[i].n.Load(); n > 0 || idle {
				ch <- prometheus.MustNewConstMetric(decisionsDesc, prometheus.CounterValue, float64(n), k.domain, k.owner, limiter.Verdict(i).String())
			}
		}
	}
	for k, c := range p.units {
		if n := c.n.Load(); n > 0 || idle {
			ch <- prometheus.MustNewConstMetric(chargedDesc, prometheus.CounterValue, float64(n), k.owner, k.meter.String())
		}
	}
}

// planCollector shows the counters of the plan in force.
type planCollector struct{ m *metrics }

// Describe implements prometheus.Collector.
func (c planCollector) Describe(ch chan<- *prometheus.Desc) { c.m.plan.Load().Describe(ch) }

// Collect implements prometheus.Collector.
func (c planCollector) Collect(ch chan<- prometheus.Metric) { c.m.plan.Load().Collect(ch) }

// bind looks up the counters of a plan, and forgets the series of owners that are
// gone.
func (m *metrics) bind(l *config.Loaded) *planCounters {
	m.binding.Lock()
	defer m.binding.Unlock()
	before := m.plan.Load()
	b := binder{before: before, next: &planSeries{verdicts: map[seriesKey]*verdictCounters{}, units: map[unitsKey]*count{}}}
	var beside *config.Background
	if len(before.verdicts) > 0 { // calls are answered, and go first
		beside = &config.Background{}
	}
	p := &planCounters{byName: make(map[string]*verdictCounters), other: b.verdicts(other, none)}
	places := ownersOf(l)
	for i, limit := range l.Plan.Limits() {
		if i%boundAtOnce == 0 {
			beside.Rest()
		}
		c := limitCounters{limit: limit, units: b.units(limit)}
		for _, domain := range places[limit.Owner] {
			c.said = append(c.said, b.verdicts(domain, limit.Owner))
		}
		if c.said == nil {
			c.said = append(c.said, b.verdicts(other, limit.Owner))
		}
		p.limits = append(p.limits, c)
	}
	for _, domain := range domainsOf(l) {
		v := b.verdicts(domain, none)
		p.domains, p.byName[domain] = append(p.domains, v), v
	}
	m.plan.Store(b.next)
	m.forget(before, b.next)
	return p
}

// boundAtOnce is how many limits are looked up without a rest.
const boundAtOnce = 64

// binder takes over the counters that there were before.
type binder struct{ before, next *planSeries }

func (b *binder) verdicts(domain, owner string) *verdictCounters {
	key := seriesKey{domain, owner}
	v := b.next.verdicts[key]
	if v == nil {
		if v = b.before.verdicts[key]; v == nil {
			v = &verdictCounters{domain: domain}
		}
		b.next.verdicts[key] = v
	}
	return v
}

func (b *binder) units(l *limiter.Limit) *count {
	key := unitsKey{l.Owner, l.Meter}
	c := b.next.units[key]
	if c == nil {
		if c = b.before.units[key]; c == nil {
			c = &count{}
		}
		b.next.units[key] = c
	}
	return c
}

// forget drops the series of owners that were and are no more.
func (m *metrics) forget(before, next *planSeries) {
	owners := make(map[string]bool, len(next.verdicts))
	for k := range next.verdicts {
		owners[k.owner] = true
	}
	for k := range before.verdicts {
		if !owners[k.owner] {
			m.refusals.DeletePartialMatch(prometheus.Labels{"owner": k.owner})
			m.events.DeletePartialMatch(prometheus.Labels{"owner": k.owner})
		}
	}
}

// decided counts a decision: once under the limit that refused, or else the first one
// charged; and the units of all that were charged.
func (p *planCounters) decided(domain string, d *limiter.Decision) {
	if int(d.Verdict) >= numVerdicts {
		return
	}
	switch {
	case d.RefusedBy >= 0 && d.RefusedBy < len(d.Checks):
		p.said(domain, d.Checks[d.RefusedBy].Limit).verdicts[d.Verdict].add(1)
	case len(d.Checks) > 0:
		p.said(domain, d.Checks[0].Limit).verdicts[d.Verdict].add(1)
	default:
		p.none(domain).verdicts[d.Verdict].add(1)
	}
	if d.Verdict != limiter.Allowed || d.Replayed {
		return
	}
	for i := range d.Checks {
		c := &d.Checks[i]
		if at := c.Limit.Index; c.Requested > 0 && at < len(p.limits) {
			p.limits[at].units.add(c.Requested)
		}
	}
}

// said finds the counters of what a limit says in a domain.
func (p *planCounters) said(domain string, l *limiter.Limit) *verdictCounters {
	if l.Index >= len(p.limits) {
		return p.none(domain)
	}
	said := p.limits[l.Index].said
	for _, v := range said {
		if v.domain == domain {
			return v
		}
	}
	return said[0]
}

// none finds the counters of decisions that no limit took part in. There mostly are
// few domains: comparing beats hashing.
func (p *planCounters) none(domain string) *verdictCounters {
	if len(p.domains) > 16 {
		if v, ok := p.byName[domain]; ok {
			return v
		}
		return p.other
	}
	for _, v := range p.domains {
		if v.domain == domain {
			return v
		}
	}
	return p.other
}

// domainsOf lists the domains that a configuration knows.
func domainsOf(l *config.Loaded) []string {
	domains := slices.Clone(l.Vocabulary.Domains)
	for i := range l.Spec.Domains {
		if name := l.Spec.Domains[i].Name; !slices.Contains(l.Vocabulary.Domains, name) {
			domains = append(domains, name)
		}
	}
	return domains
}

// ownersOf says in which domains each owner of limits can be met. Quotas are met in
// those that speak the vocabulary, and limits that a descriptor brings belong to its
// domain.
func ownersOf(l *config.Loaded) map[string][]string {
	places := make(map[string][]string)
	put := func(owner, domain string) {
		if !slices.Contains(places[owner], domain) {
			places[owner] = append(places[owner], domain)
		}
	}
	for i := range l.Spec.Quotas {
		for _, domain := range l.Vocabulary.Domains {
			put(l.Spec.Quotas[i].Name, domain)
		}
	}
	for i := range l.Spec.Domains {
		d := &l.Spec.Domains[i]
		put(d.Name, d.Name)
		eachRule(d, func(at rulePath) { put(at.name(), d.Name) })
	}
	return places
}
