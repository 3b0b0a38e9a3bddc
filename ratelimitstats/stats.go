package ratelimitstats

import (
	"context"
	"maps"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/server"
)

// Stats are the counters. They are safe for concurrent use.
type Stats struct {
	ratio float32
	sink  sink

	domains atomic.Pointer[map[string]*domain]
	full    atomic.Bool  // there is no room for a domain that the configuration lacks
	taken   atomic.Int64 // series of all runtime sets
	service *series
	calls   *series
	took    *timings

	mu        sync.Mutex // guards changes of domains
	bound     int        // how many configurations there were
	strangers int        // domains there that the configuration does not have
	rest      *domain    // of the strangers that are too many

	sending sync.Mutex // guards what was sent, of everything; taken before mu
	shown   bool       // the gauge was sent before
}

// A sink is where counts go.
type sink interface {
	// run sends what s counts until ctx ends, and then what is left.
	run(ctx context.Context, s *Stats) error
	// close frees what a sink that is not run has.
	close() error
}

// New checks o and opens what it listens on. It counts nothing until Loaded is called,
// and sends nothing until Run is.
func New(o Options) (*Stats, error) {
	sink, err := o.sink()
	if err != nil {
		return nil, err
	}
	return newStats(o.NearLimitRatio, sink), nil
}

func newStats(ratio float32, to sink) *Stats {
	s := &Stats{
		ratio: ratio, sink: to,
		service: newSeries(serviceRoot, serviceNames),
		calls:   newSeries(serverRoot, serverNames),
		took:    newTimings(),
		rest:    newDomain(other, false),
	}
	s.domains.Store(&map[string]*domain{})
	return s
}

// Run sends what is counted until ctx ends, and then what is left. The error says why it
// could not; a server of metrics that cannot be reached is none. Run is called once.
func (s *Stats) Run(ctx context.Context) error { return s.sink.run(ctx, s) }

// Close frees what New opened, where Run is not going to be called.
func (s *Stats) Close() error { return s.sink.close() }

var (
	_ server.RatelimitObserver        = (*Stats)(nil)
	_ server.RatelimitServiceObserver = (*Stats)(nil)
)

// Loaded makes room for what a configuration names, before it is in force, and counts
// that it was loaded.
func (s *Stats) Loaded(l *config.Loaded) {
	s.bind(l.Spec.Domains)
	s.service.add(configLoadSuccess, 1)
}

// LoadFailed counts a configuration that could not be loaded.
func (s *Stats) LoadFailed() { s.service.add(configLoadError, 1) }

// bind makes the counters of all rules. Those that were there stay, and those that are
// gone do until they are idle.
func (s *Stats) bind(specs []limiter.DomainSpec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bound++
	old := *s.domains.Load()
	next := make(map[string]*domain, len(specs))
	for i := range specs {
		before := old[specs[i].Name]
		d := newDomain(specs[i].Name, true)
		d.fixed = make(map[string]*series)
		if before != nil {
			d.runtime, d.missing = before.runtime, before.missing
			maps.Copy(d.fixed, before.fixed)
		}
		d.bind(specs[i].Rules, "", s.bound)
		next[specs[i].Name] = d
	}
	for name, d := range old {
		if next[name] == nil {
			gone := *d
			gone.known = false
			next[name] = &gone
		}
	}
	s.put(next)
}

// put shows domains to those who count. s.mu is held.
func (s *Stats) put(domains map[string]*domain) {
	s.strangers = 0
	for _, d := range domains {
		if !d.known && len(d.fixed) == 0 {
			s.strangers++
		}
	}
	s.full.Store(s.strangers >= MaxUnknownDomains)
	s.domains.Store(&domains)
}

// bind makes the counters of the rules below a path.
func (d *domain) bind(rules []limiter.RuleSpec, above string, bound int) {
	for i := range rules {
		r := &rules[i]
		path := above + r.Key
		if r.Value != "" {
			path += "_" + r.Value
		}
		if len(r.Limits) > 0 {
			if d.fixed[path] == nil {
				d.fixed[path] = newSeries(d.base+"."+statName(path), limitNames)
			}
			d.fixed[path].bound = bound
		}
		d.bind(r.Rules, path+".", bound)
	}
}

// domain returns the domain of that name, which is made if there is room for it.
func (s *Stats) domain(name string) *domain {
	if d := (*s.domains.Load())[name]; d != nil {
		return d
	}
	if s.full.Load() || len(name) > MaxRuntimePath {
		return s.rest
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.domains.Load()
	if d := old[name]; d != nil {
		return d
	}
	if s.full.Load() {
		return s.rest
	}
	name = strings.Clone(name) // it shares memory with the request
	next := maps.Clone(old)
	next[name] = newDomain(name, false)
	s.put(next)
	return next[name]
}

// Descriptor counts what became of a descriptor that a limit applied to.
func (s *Stats) Descriptor(e *server.RatelimitEvent) {
	d := s.domain(e.Domain)
	if fixed := d.fixed[string(e.Path)]; fixed != nil {
		fixed.count(e, s.ratio)
		return
	}
	if !d.runtime.count(e.Path, &s.taken, func(r *series) { r.count(e, s.ratio) }) {
		s.service.add(seriesFolded, 1)
	}
}

// DomainNotFound counts a descriptor of a domain that the configuration does not have.
func (s *Stats) DomainNotFound(name string) { s.domain(name).missing.add(0, 1) }

// GlobalShadowMode counts a request that passed because of the global shadow mode.
func (s *Stats) GlobalShadowMode() { s.service.add(globalShadowMode, 1) }

// ServiceError counts a request that was answered with an error.
func (s *Stats) ServiceError() { s.service.add(serviceError, 1) }

// StoreError counts a request that the store did not decide.
func (s *Stats) StoreError() { s.service.add(storeError, 1) }

// Answered counts a call over gRPC, and how long it took.
func (s *Stats) Answered(took time.Duration) {
	s.calls.add(0, 1)
	s.took.add(took)
}

// count adds what became of one descriptor. Hits that a window counts from its limit
// times ratio on are near the limit, and those beyond the limit are over it. Of hits that
// cross the limit, those below are not within it: the request was not.
func (s *series) count(e *server.RatelimitEvent, ratio float32) {
	c := s.pick()
	if e.Negative {
		c.n[negativeHits].Add(e.Hits)
		return
	}
	c.n[totalHits].Add(e.Hits)
	// In 32 bits, as envoyproxy/ratelimit does it.
	near := min(uint64(math.Floor(float64(float32(e.Limit)*ratio))), e.Limit)
	switch {
	case e.After <= e.Limit:
		c.n[withinLimit].Add(e.Hits)
		if e.After > near {
			c.n[nearLimit].Add(min(e.Hits, e.After-near))
		}
	case e.Before >= e.Limit:
		c.over(e.Hits, e.Shadow)
	default:
		c.over(e.After-e.Limit, e.Shadow)
		c.n[nearLimit].Add(e.Limit - max(near, e.Before))
	}
}

func (c *cell) over(hits uint64, shadow bool) {
	c.n[overLimit].Add(hits)
	if shadow {
		c.n[shadowMode].Add(hits)
	}
}
