package server

import (
	"context"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
	"github.com/weir-project/weir/provider"
)

// maxQueueShown bounds the tenants that are shown of one quota.
const maxQueueShown = 100

// paceStates is what was learned of a quota as messages.
func paceStates(now limiter.Instant, v *limiter.QuotaView) []*weirv1.PaceState {
	var states []*weirv1.PaceState
	for i := range v.Paces {
		p := &v.Paces[i]
		s := &weirv1.PaceState{
			Owner: v.Name, Meter: p.Meter.String(), RatePerMinute: p.Rate, BurstSeconds: p.Burst,
			Backlog: p.Backlog, LastEvent: p.LastEvent.String(), Startup: p.Startup,
			LimitPerMinute: p.Limit, LimitSource: p.Source.String(), ProbesSpent: p.Probes, ProbeShare: p.ProbeShare,
			RampPerMinute: p.Ramp,
		}
		if p.GateUntil > now {
			s.GateUntil = timestampOf(p.GateUntil)
		}
		if p.LastEvent != limiter.NoEvent {
			s.LastEventAt = timestampOf(p.LastEventAt)
		}
		if p.LastClass != limiter.ClassUnset {
			s.LastClass, s.LastClassAt = provider.ClassName(p.LastClass), timestampOf(p.LastClassAt)
		}
		states = append(states, s)
	}
	return states
}

// standing fills in how a quota as a whole stands.
func standing(now limiter.Instant, v *limiter.QuotaView, q *weirv1.QuotaState) {
	q.InFlightCap, q.OverloadRatePerMinute = v.InFlightCap, v.OverloadRate
	if v.SpendUntil > now {
		q.SpendUntil = timestampOf(v.SpendUntil)
	}
	for _, t := range v.Tenants[:min(len(v.Tenants), maxQueueShown)] {
		q.Queue = append(q.Queue, &weirv1.TenantQueue{
			Tenant: t.Tenant, Others: t.Others, Waiting: uint64(max(t.Waiting, 0)), Tickets: uint64(max(t.Tickets, 0)),
			Weight: t.Weight, AheadSeconds: t.Ahead,
		})
	}
}

// showQuotas fills in how the quotas stand that a call was matched to by its attributes.
func (m *adminService) showQuotas(ctx context.Context, now limiter.Instant, s *scratch, r *weirv1.ExplainResponse) error {
	matched := map[string]bool{}
	for i := range s.decision.Checks {
		matched[s.decision.Checks[i].Limit.Owner] = true
	}
	if len(matched) == 0 {
		return nil
	}
	views, err := m.d.store.Quotas(ctx, now)
	if err != nil {
		return err
	}
	for i := range views {
		if v := &views[i]; matched[v.Name] && !v.Overflow && s.reserve.is(v.Attributes) {
			r.Paces = append(r.Paces, paceStates(now, v)...)
			r.Quotas = append(r.Quotas, quotaHead(now, v))
		}
	}
	return nil
}

// is says whether the call's attributes have these values.
func (c *reserveCall) is(attributes []limiter.Entry) bool {
	for _, e := range attributes {
		if c.value(e.Key) != e.Value {
			return false
		}
	}
	return true
}
