package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// A decision allocates nothing, but gRPC does, a few kilobytes a call that die at
// once. Collecting that rarely costs 0.6 of the CPU that Go's default costs. What a
// collection costs depends on how much of the heap has pointers in it. Counters have
// none: in front of a million of them the usual percentage of the live heap would pile
// up a gigabyte of garbage, for nothing. So the heap may grow by a fixed amount, or by a
// multiple of what the collector has to read, whichever is more. Memory is bounded by a
// limit: near it the collector runs as often as it must.
const (
	// garbageRoom is by how much the heap always may grow, in bytes.
	garbageRoom = 64 << 20
	// scanFactor is by how many times the part with pointers it may.
	scanFactor = 8
	// heapShare of the machine's or container's memory, in percent, is the limit.
	heapShare = 60

	// minPercent and maxPercent bound what the collector is told. With the latter it
	// leaves a small heap room for garbageRoom.
	minPercent = 10
	maxPercent = 1600
)

// tuneCollector sets the garbage collector, unless GOGC or GOMEMLIMIT say otherwise, and
// goes on doing so until stop is called. Where the memory is unknown it leaves Go's
// defaults.
func tuneCollector(getenv func(string) string, memory uint64) (stop func()) {
	bounded := getenv("GOMEMLIMIT") != ""
	if limit := memory / 100 * heapShare; limit > 0 && !bounded {
		debug.SetMemoryLimit(int64(min(limit, 1<<62)))
		bounded = true
	}
	if !bounded || getenv("GOGC") != "" {
		return func() {}
	}
	p := &pacer{percent: maxPercent}
	before := debug.SetGCPercent(maxPercent)
	p.await()
	return func() { p.stop(before) }
}

// pacer sets the collector's percentage by what lives, after every collection.
type pacer struct {
	mu      sync.Mutex
	percent int
	stopped bool
}

// await has adjust called when the next collection is over: that is when an object
// which nobody refers to is found.
func (p *pacer) await() {
	runtime.AddCleanup(&marker{p}, (*pacer).adjust, p)
}

type marker struct{ _ *pacer }

// adjust looks at what the collection left. Later, what died since counts too.
func (p *pacer) adjust() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	// Setting it stops the world for a moment: small changes are not worth that.
	if want := collectorPercent(heapSizes()); want < p.percent*9/10 || want > p.percent*11/10 {
		p.percent = want
		debug.SetGCPercent(want)
	}
	p.await()
}

// stop leaves the collector with the percentage before.
func (p *pacer) stop(percent int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	debug.SetGCPercent(percent)
}

// heapSizes returns the bytes of the heap that lived at the last collection, and, just
// after it, those of them that the collector has to read.
func heapSizes() (live, scanned uint64) {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/heap:bytes"}}
	metrics.Read(s)
	for i, v := range []*uint64{&live, &scanned} {
		if s[i].Value.Kind() == metrics.KindUint64 {
			*v = s[i].Value.Uint64()
		}
	}
	return live, min(scanned, live)
}

// collectorPercent returns by how many percent of what lives the heap may grow.
func collectorPercent(live, scanned uint64) int {
	room := max(garbageRoom, scanned*scanFactor)
	return int(min(max(room*100/max(live, 1), minPercent), maxPercent))
}
