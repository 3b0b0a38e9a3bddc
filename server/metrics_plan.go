package server

import (
	"slices"

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
	units prometheus.Counter
	// said has one entry for each domain in which the limit's owner can say something;
	// the first one stands for all others.
	said []*verdictCounters
}

// verdictCounters are those of one owner, or of none, in one domain.
type verdictCounters struct {
	domain   string
	verdicts [numVerdicts]prometheus.Counter
}

// seriesKey names the children that one owner has in one domain.
type seriesKey struct{ domain, owner string }

// bind looks up the counters of a plan, and forgets the series of owners that are
// gone.
func (m *metrics) bind(l *config.Loaded) *planCounters {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := binder{m: m, bound: make(map[seriesKey]*verdictCounters)}
	var beside config.Background // calls go first
	p := &planCounters{byName: make(map[string]*verdictCounters), other: b.verdicts(other, none)}
	places := ownersOf(l)
	for i, limit := range l.Plan.Limits() {
		if i%boundAtOnce == 0 {
			beside.Rest()
		}
		c := limitCounters{limit: limit, units: m.charged.WithLabelValues(limit.Owner, limit.Meter.String())}
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
	m.forget(b.bound)
	return p
}

// boundAtOnce is how many limits are looked up without a rest.
const boundAtOnce = 64

// binder looks up each series once.
type binder struct {
	m     *metrics
	bound map[seriesKey]*verdictCounters
}

func (b *binder) verdicts(domain, owner string) *verdictCounters {
	key := seriesKey{domain, owner}
	if v, ok := b.bound[key]; ok {
		return v
	}
	v := &verdictCounters{domain: domain}
	for i := range numVerdicts {
		v.verdicts[i] = b.m.decisions.WithLabelValues(domain, owner, limiter.Verdict(i).String())
	}
	b.bound[key] = v
	b.m.series[key] = true
	return v
}

// forget drops the series that the plan in force does not have.
func (m *metrics) forget(bound map[seriesKey]*verdictCounters) {
	owners := make(map[string]bool, len(bound))
	for k := range bound {
		owners[k.owner] = true
	}
	for k := range m.series {
		if bound[k] != nil {
			continue
		}
		delete(m.series, k)
		m.decisions.DeletePartialMatch(prometheus.Labels{"domain": k.domain, "owner": k.owner})
		if !owners[k.owner] {
			m.charged.DeletePartialMatch(prometheus.Labels{"owner": k.owner})
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
		p.said(domain, d.Checks[d.RefusedBy].Limit).verdicts[d.Verdict].Inc()
	case len(d.Checks) > 0:
		p.said(domain, d.Checks[0].Limit).verdicts[d.Verdict].Inc()
	default:
		p.none(domain).verdicts[d.Verdict].Inc()
	}
	if d.Verdict != limiter.Allowed || d.Replayed {
		return
	}
	for i := range d.Checks {
		c := &d.Checks[i]
		if at := c.Limit.Index; c.Requested > 0 && at < len(p.limits) {
			p.limits[at].units.Add(float64(c.Requested))
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
