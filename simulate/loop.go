package simulate

import "github.com/weir-project/weir/limiter"

// event is something that happens at an instant; those of one instant happen in the
// order in which they were planned.
type event struct {
	at  limiter.Instant
	seq uint64
	do  func()
}

func (e *event) before(o *event) bool {
	return e.at < o.at || (e.at == o.at && e.seq < o.seq)
}

// agenda is a heap of events.
type agenda struct {
	events []event
	made   uint64
}

func (a *agenda) plan(at limiter.Instant, do func()) {
	a.made++
	a.events = append(a.events, event{at, a.made, do})
	for i := len(a.events) - 1; i > 0; {
		up := (i - 1) / 2
		if !a.events[i].before(&a.events[up]) {
			break
		}
		a.events[i], a.events[up] = a.events[up], a.events[i]
		i = up
	}
}

// next takes the first event out; false if there is none.
func (a *agenda) next() (event, bool) {
	if len(a.events) == 0 {
		return event{}, false
	}
	first, last := a.events[0], len(a.events)-1
	a.events[0] = a.events[last]
	a.events[last] = event{}
	a.events = a.events[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if a.events[child].before(&a.events[least]) {
				least = child
			}
		}
		if least == i {
			return first, true
		}
		a.events[i], a.events[least] = a.events[least], a.events[i]
		i = least
	}
}
