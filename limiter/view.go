package limiter

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// TenantView is what one tenant has waiting for a quota.
type TenantView struct {
	// Tenant is its name; empty for calls that name none. Others says that it stands for
	// all beyond the bound on tenants.
	Tenant string
	Others bool
	// Waiting are its held asks, and Tickets its places of asks that were told to come
	// back.
	Waiting, Tickets int
	// Weight is its part of what is scarce, relative to the others'.
	Weight float64
	// Ahead is how far it is ahead of its turn, in seconds of the quota over its weight.
	Ahead float64
}

// LimitSource says who stated a limit that a pace stays below.
type LimitSource uint8

// The sources.
const (
	// NoLimit: nobody knows one.
	NoLimit LimitSource = iota
	// ConfiguredLimit is that of the configuration.
	ConfiguredLimit
	// StatedLimit is what the upstream's headers said.
	StatedLimit
)

// String returns the source in lower case, empty for none.
func (s LimitSource) String() string { return [...]string{"", "configured", "stated"}[s] }

// trail is what became of refusals that were about a meter: for those who look on, it
// decides nothing.
type trail struct {
	events  [RampEvent + 1]uint64 // by kind
	class   Class                 // of the last refusal
	classAt Instant
	was     float64 // the rate before a limit was adopted
}

// noted remembers the class of a refusal.
func (h *trail) noted(now Instant, c Class) { h.class, h.classAt = c, now }

// probes are the refusals that were taken for an event by which a limit is found out.
func (h *trail) probes() uint64 {
	return h.events[BurstEvent] + h.events[RateEvent] + h.events[StartupEvent]
}

// notedWhole remembers a refusal that was about the whole quota, beside its requests.
func (p *pacer) notedWhole(now Instant, c Class) {
	if c.Refuses() && c != ClassQuota && c != ClassAcceleration {
		p.paces[Requests].noted(now, c)
	}
}

// mark is what of a pacer is compared before and after a report.
type mark struct {
	events [3][RampEvent + 1]uint64
	most   [3]float64
}

func (p *pacer) mark() mark {
	var k mark
	for m, d := range p.paces {
		k.events[m], k.most[m] = d.events, d.most
	}
	return k
}

// pacer returns that of the reservation's quota, nil if there is none.
func (r *reservation) pacer() *pacer {
	if r.quota == nil {
		return nil
	}
	return r.quota.pacer
}

// since adds to s what p has learned since before.
func (s *Settlement) since(before *mark, p *pacer) {
	if p == nil {
		return
	}
	after := p.mark()
	s.Adopted = after.most != before.most
	for m := range after.events {
		for k := BurstEvent; k <= RampEvent; k++ {
			if after.events[m][k] != before.events[m][k] {
				s.Event, s.EventMeter = k, Meter(m)
			}
		}
	}
}

// source says where the limit in force comes from.
func (p *pace) source(configured float64) LimitSource {
	switch {
	case math.IsInf(p.most, 1):
		return NoLimit
	case configured > 0 && math.Abs(p.most/configured-1) <= 0.005:
		return ConfiguredLimit
	}
	return StatedLimit
}

// more fills in the parts of a view that are not what the pace decides by.
func (p *pacer) more(m Meter, v *PaceView) {
	d := p.paces[m]
	if v.Source = d.source(p.configured[m]); v.Source != NoLimit {
		v.Limit = d.most
	}
	v.Before, v.Probes = d.was, d.probes()
	if p.answered > 0 {
		v.ProbeShare = float64(v.Probes) / float64(p.answered)
	}
	if v.LastClass = d.class; v.LastClass != ClassUnset {
		v.LastClassAt = d.classAt
	}
}

// look fills in how the quota as a whole stands.
func (s *quotaState) look(now Instant, v *QuotaView) {
	v.Tenants = s.tenantsWaiting(now)
	p := s.pacer
	if p == nil {
		return
	}
	v.InFlightCap = uint64(p.inFlight)
	v.SpendUntil = max(p.spend, p.purse.spentUntil())
	if p.isSick() {
		v.OverloadRate = 60 * p.healthRate()
	}
}

// tenantsWaiting lists the tenants that wait, those with the most held asks first.
func (s *quotaState) tenantsWaiting(now Instant) []TenantView {
	tickets := map[*flow]int{}
	if s.pacer != nil {
		for _, n := range s.pacer.turns.dying {
			if n.dies > now {
				tickets[n.flow]++
			}
		}
	}
	var out []TenantView
	for name, f := range s.line.flows {
		if f.n == 0 && tickets[f] == 0 {
			continue
		}
		v := TenantView{
			Tenant: name, Waiting: f.n, Tickets: tickets[f], Weight: f.weight,
			Ahead: max(0, f.finish-s.line.virtual),
		}
		if name == otherTenants {
			v.Tenant, v.Others = "", true
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b TenantView) int {
		return cmp.Or(b.Waiting-a.Waiting, b.Tickets-a.Tickets, strings.Compare(a.Tenant, b.Tenant))
	})
	return out
}
