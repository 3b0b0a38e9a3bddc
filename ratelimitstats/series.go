package ratelimitstats

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds on names that callers make.
const (
	// MaxRuntimeSeries bounds the series of one domain whose names hold values of
	// requests. More are counted together, in the series other of the domain.
	MaxRuntimeSeries = 2000
	// MaxAllRuntimeSeries bounds those of all domains together.
	MaxAllRuntimeSeries = 20_000
	// MaxUnknownDomains bounds the domains that requests name and the configuration does
	// not have. More are counted as the domain other.
	MaxUnknownDomains = 100
	// MaxRuntimePath bounds the bytes of a path with values of requests. Longer ones are
	// counted in the series other of the domain.
	MaxRuntimePath = 512
	// KeepIdle is how long a series is kept that nothing was counted in and that the
	// configuration does not name.
	KeepIdle = 10 * time.Minute
)

// cell is a set of counters that one processor adds to: a cache line.
type cell struct{ n [8]atomic.Uint64 }

// series are counters whose names begin alike. It is safe for concurrent use; sent and
// active belong to whoever holds Stats.sending.
type series struct {
	base  string // their names' beginning, without the last dot
	names []string
	bound int    // the last configuration that named it; guarded by Stats.mu
	cells []cell // a power of two; which one is added to does not matter

	sent   [8]uint64 // what was sent of each counter
	active time.Time // when something was last found counted
}

// newSeries makes counters that many processors add to at once.
func newSeries(base string, names []string) *series {
	n := 1
	for n < runtime.GOMAXPROCS(0) && n < 8 {
		n *= 2
	}
	return &series{base: base, names: names, cells: make([]cell, n)}
}

// pick returns the cell to add to now.
func (s *series) pick() *cell {
	if len(s.cells) == 1 {
		return &s.cells[0]
	}
	return &s.cells[rand.Uint32()&uint32(len(s.cells)-1)]
}

func (s *series) add(counter int, n uint64) { s.pick().n[counter].Add(n) }

// total sums a counter up.
func (s *series) total(counter int) uint64 {
	var sum uint64
	for i := range s.cells {
		sum += s.cells[i].n[counter].Load()
	}
	return sum
}

// domain is a domain that the configuration has, or that somebody asked for. It does not
// change; what it points to is counters.
type domain struct {
	base    string
	fixed   map[string]*series // of the paths that the configuration names
	runtime *runtimeSet
	missing *series // domain_not_found
	known   bool    // the configuration has it
}

func newDomain(name string, known bool) *domain {
	base := limitRoot + statName(name)
	return &domain{
		base: base, known: known,
		runtime: &runtimeSet{base: base, rest: newSeries(base+"."+other, limitNames)},
		missing: newSeries(base, domainNames),
	}
}

// runtimeSet are the series of a domain whose names hold values of requests.
type runtimeSet struct {
	base string
	rest *series // of those that are too many

	mu     sync.RWMutex
	byPath map[string]*series
}

// count calls add with the series of a path, which is made if there is room for it, or
// with the one for the rest. taken counts the series of all sets. It reports whether the
// path has a series of its own.
func (r *runtimeSet) count(path []byte, taken *atomic.Int64, add func(*series)) bool {
	r.mu.RLock()
	s, room := r.byPath[string(path)], r.room(path, taken)
	if s != nil {
		// Under the lock, so that the series is not dropped with what is added here.
		add(s)
		r.mu.RUnlock()
		return true
	}
	r.mu.RUnlock()
	if !room {
		add(r.rest)
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s = r.byPath[string(path)]; s == nil {
		if !r.room(path, taken) {
			add(r.rest)
			return false
		}
		if r.byPath == nil {
			r.byPath = make(map[string]*series)
		}
		s = &series{base: r.base + "." + statName(string(path)), names: limitNames, cells: make([]cell, 1)}
		r.byPath[string(path)] = s
		taken.Add(1)
	}
	add(s)
	return true
}

func (r *runtimeSet) room(path []byte, taken *atomic.Int64) bool {
	return len(path) <= MaxRuntimePath && len(r.byPath) < MaxRuntimeSeries && taken.Load() < MaxAllRuntimeSeries
}

// drop removes the series that gone approves of.
func (r *runtimeSet) drop(taken *atomic.Int64, gone func(*series) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for path, s := range r.byPath {
		if gone(s) {
			delete(r.byPath, path)
			taken.Add(-1)
		}
	}
}
