package limiter

import "encoding/binary"

// ClearGates opens what refusals have shut of the learned quotas called owner that a is
// matched to: the gate of meter, or, if that is nil, all gates, the one for
// spent money (which, if it is the organisation's, opens all its quotas at the provider), the lanes of tenants, and rights that were refused.
// What a refusal said of the position goes with its gate: the meter begins empty. It
// returns how many gates were shut, and touches the shards that Route(a) said.
func (l *Limiter) ClearGates(now Instant, a *Ask, owner string, meter *Meter) int {
	cleared := 0
	for i := range a.quotas {
		r := &a.quotas[i]
		if r.quota == nil || r.quota.name != owner {
			continue
		}
		a.scratch = binary.LittleEndian.AppendUint32(a.scratch[:0], r.quota.id)
		a.scratch = append(a.scratch, a.quotaKey(r)...)
		if st := l.shards[r.shard].quotas[string(a.scratch)]; st != nil && st.pacer != nil {
			st.pacer.advance(now)
			cleared += st.pacer.clearGates(now, meter)
			if p := l.money.get(st.payer); p != nil && meter == nil {
				l.money.open(p)
				cleared++
			}
			l.seePurse(st)
			if meter == nil {
				cleared += st.openLanes(now)
			}
		}
	}
	l.wake(now, a.shards)
	return cleared
}

func (p *pacer) clearGates(now Instant, meter *Meter) int {
	cleared := 0
	for _, d := range p.paces {
		if d.gate <= now || (meter != nil && *meter != d.meter) {
			continue
		}
		d.gate, d.calm = now, now
		d.backlog, d.empty = 0, now
		cleared++
	}
	if meter == nil && max(p.spend, p.looking) > now {
		p.spend, p.looking, p.spent = min(p.spend, now), 0, false
		cleared++
	}
	return cleared
}

// openLanes opens the lanes of tenants, and lets rights that were refused be tried again.
func (s *quotaState) openLanes(now Instant) int {
	cleared := len(s.bars)
	clear(s.bars)
	for _, f := range s.line.flows {
		if f.shut > now {
			f.shut = now
			cleared++
		}
	}
	return cleared
}
