package ratelimitstats

import (
	"cmp"
	"slices"
	"time"
)

// reading is what a counter, or a slot of the timings, has counted since it was sent last.
type reading struct {
	series *series // nil: a slot
	at     int     // the counter, or the slot
	n      uint64
}

// read appends what was counted since it was sent last, by name. s.sending is held.
func (s *Stats) read(now time.Time, into []reading) []reading {
	s.each(func(t *series) { into = t.read(now, into) })
	slices.SortFunc(into, func(a, b reading) int {
		return cmp.Or(cmp.Compare(a.series.base, b.series.base), cmp.Compare(a.at, b.at))
	})
	for slot := range s.took.slots {
		if n := s.took.slots[slot].Load() - s.took.sent[slot]; n > 0 {
			into = append(into, reading{nil, slot, n})
		}
	}
	return into
}

// each calls f with all series.
func (s *Stats) each(f func(*series)) {
	f(s.service)
	f(s.calls)
	s.rest.each(f)
	for _, d := range *s.domains.Load() {
		d.each(f)
	}
}

func (d *domain) each(f func(*series)) {
	f(d.missing)
	f(d.runtime.rest)
	for _, t := range d.fixed {
		f(t)
	}
	d.runtime.mu.RLock()
	defer d.runtime.mu.RUnlock()
	for _, t := range d.runtime.byPath {
		f(t)
	}
}

func (t *series) read(now time.Time, into []reading) []reading {
	if t.active.IsZero() {
		t.active = now
	}
	for at := range t.names {
		if n := t.total(at) - t.sent[at]; n > 0 {
			into = append(into, reading{t, at, n})
			t.active = now
		}
	}
	return into
}

// done notes that r was sent. s.sending is held.
func (s *Stats) done(r reading) {
	if r.series != nil {
		r.series.sent[r.at] += r.n
		return
	}
	s.took.sent[r.at] += r.n
}

// gauge returns how many series there are of names that callers made, and whether that
// is worth telling: it is once there were any. s.sending is held.
func (s *Stats) gauge() (uint64, bool) {
	n := s.taken.Load()
	s.shown = s.shown || n > 0
	return uint64(max(n, 0)), s.shown
}

// sweep drops the series that no configuration names and in which nothing was counted for
// KeepIdle, and calls gone with them. s.sending is held.
func (s *Stats) sweep(now time.Time, gone func(*series)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle := func(t *series) bool {
		if t.active.IsZero() || now.Sub(t.active) < KeepIdle {
			return false
		}
		for at := range t.names {
			if t.total(at) != t.sent[at] {
				return false
			}
		}
		return true
	}
	drop := func(t *series) bool {
		if !idle(t) {
			return false
		}
		gone(t)
		return true
	}
	s.rest.runtime.drop(&s.taken, drop)
	next, changed := make(map[string]*domain), false
	for name, d := range *s.domains.Load() {
		d.runtime.drop(&s.taken, drop)
		d, dropped := d.without(func(t *series) bool { return t.bound != s.bound && idle(t) }, gone)
		changed = changed || dropped
		if !d.known && len(d.fixed) == 0 && d.runtime.empty() && idle(d.missing) && idle(d.runtime.rest) {
			gone(d.missing)
			gone(d.runtime.rest)
			changed = true
			continue
		}
		next[name] = d
	}
	if changed {
		s.put(next)
	}
}

// without returns d without those of its paths that unwanted says, and calls gone with
// them; d itself if there are none.
func (d *domain) without(unwanted func(*series) bool, gone func(*series)) (*domain, bool) {
	kept := make(map[string]*series, len(d.fixed))
	for path, t := range d.fixed {
		if unwanted(t) {
			gone(t)
			continue
		}
		kept[path] = t
	}
	if len(kept) == len(d.fixed) {
		return d, false
	}
	next := *d
	next.fixed = kept
	return &next, true
}

func (r *runtimeSet) empty() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byPath) == 0
}
