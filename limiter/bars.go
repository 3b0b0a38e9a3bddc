package limiter

import "time"

// bars are the rights that an upstream refused: to a credential, of a model, for a long
// context. They close nothing else.
type bars map[uint64]barred

type barred struct {
	until Instant
	by    uint64 // hash of the only tenant that is held to it; 0 for all
}

const (
	// barFor is how long a refused right is not tried again: refusals of this kind have
	// been seen that were mistaken.
	barFor = 10 * time.Minute
	// barProbe is how long the others wait for the one that tries again.
	barProbe = time.Minute
	// maxBars bounds those of a quota.
	maxBars = 256
)

// bar notes what a report says of the right to make the call.
func (r *reservation) bar(now Instant, o *Outcome) {
	if r.right == 0 || r.quota == nil {
		return
	}
	q := r.quota
	switch o.Class {
	case ClassEntitlement:
		if q.bars == nil {
			q.bars = bars{}
		}
		if _, ok := q.bars[r.right]; !ok && len(q.bars) >= maxBars {
			q.bars.forget(now)
			if len(q.bars) >= maxBars {
				return
			}
		}
		b := barred{until: now.Add(barFor)}
		if !o.Trusted {
			b.by = r.tenant
		}
		q.bars[r.right] = b
	case ClassOK:
		if b, ok := q.bars[r.right]; ok && (b.by == 0 || b.by == r.tenant) {
			delete(q.bars, r.right)
		}
	default:
	}
}

func (b bars) forget(now Instant) {
	for right, one := range b {
		if one.until <= now {
			delete(b, right)
		}
	}
}

// barred returns for how long a is closed because its right was refused. Once the time
// is over one call tries.
func (s *quotaState) barred(now Instant, a *Ask) time.Duration {
	if a.right == 0 || len(s.bars) == 0 {
		return 0
	}
	b, ok := s.bars[a.right]
	if !ok || (b.by != 0 && b.by != a.tenant) {
		return 0
	}
	if b.until > now {
		return b.until.Sub(now)
	}
	if !a.DryRun {
		b.until = now.Add(barProbe)
		s.bars[a.right] = b
	}
	return 0
}

// capture what a right is about, where the caller says that its context is long. What
// does not say so cannot be told from what the right is not needed for.
func (a *Ask) captureRight(attrs []Entry) {
	long, ok := find(attrs, "long_context")
	if !ok || long == "" || long == "0" || long == "false" || a.rights.len() > 0 {
		return
	}
	credential, _ := find(attrs, "credential")
	model, _ := find(attrs, "model")
	from := a.mark()
	a.capture(credential)
	a.capture(model)
	a.rights = span{from, a.mark()}
}
