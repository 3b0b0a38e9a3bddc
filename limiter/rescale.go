package limiter

// Turns are in seconds of the scarcest meter. When an upstream states limits that are
// quite different from what was thought, what was a minute may be a second: turns that
// were given out at the old rate would then be kept by callers who come later and pay less,
// and those who came first would wait the longest.

// jump is by which factor the rates of all meters have changed at least, where that is
// worth moving turns for.
const jump = 1.5

// rates returns the rates by meter.
func (p *pacer) rates() cost {
	var r cost
	for m, d := range p.paces {
		r[m] = d.rate()
	}
	return r
}

// rescale moves the turns that were given out at rates before, so that they are as far
// off as they would be had the rates been known.
func (s *quotaState) rescale(before cost) {
	after := s.pacer.rates()
	least, most := after[0]/before[0], after[0]/before[0]
	for m := range after {
		least, most = min(least, after[m]/before[m]), max(most, after[m]/before[m])
	}
	var k float64
	switch {
	case least > jump:
		k = least
	case most < 1/jump:
		k = most
	default:
		return
	}
	q := &s.line
	move := func(tag float64) float64 { return q.virtual + (tag-q.virtual)/k }
	for _, f := range q.flows {
		f.finish = move(f.finish)
	}
	// The order of the tags stays what it is, so that no heap and no tree changes.
	for i := range q.bands {
		for _, w := range q.bands[i] {
			w.start, w.seconds = move(w.start), w.seconds/k
			w.ask.start = w.start
		}
	}
	for _, w := range q.front {
		w.start, w.ask.start = move(w.start), move(w.start)
	}
	for _, n := range s.pacer.turns.dying {
		n.start, n.seconds = move(n.start), n.seconds/k
	}
}
