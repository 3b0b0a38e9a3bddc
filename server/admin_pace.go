package server

import (
	"context"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// paceStates is what was learned of a quota as messages.
func paceStates(now limiter.Instant, v *limiter.QuotaView) []*weirv1.PaceState {
	var states []*weirv1.PaceState
	for i := range v.Paces {
		p := &v.Paces[i]
		s := &weirv1.PaceState{
			Owner: v.Name, Meter: p.Meter.String(), RatePerMinute: p.Rate, BurstSeconds: p.Burst,
			Backlog: p.Backlog, LastEvent: p.LastEvent.String(), Startup: p.Startup,
		}
		if p.GateUntil > now {
			s.GateUntil = timestampOf(p.GateUntil)
		}
		if p.LastEvent != limiter.NoEvent {
			s.LastEventAt = timestampOf(p.LastEventAt)
		}
		states = append(states, s)
	}
	return states
}

// pacesOf returns what was learned of the quotas that a call was matched to by its
// attributes.
func (m *adminService) pacesOf(ctx context.Context, now limiter.Instant, a *active, s *scratch) ([]*weirv1.PaceState, error) {
	matched := map[string]bool{}
	for i := range s.decision.Checks {
		if owner := s.decision.Checks[i].Limit.Owner; a.learned[owner] {
			matched[owner] = true
		}
	}
	if len(matched) == 0 {
		return nil, nil
	}
	views, err := m.d.store.Quotas(ctx, now)
	if err != nil {
		return nil, err
	}
	var states []*weirv1.PaceState
	for i := range views {
		if v := &views[i]; matched[v.Name] && !v.Overflow && s.reserve.is(v.Attributes) {
			states = append(states, paceStates(now, v)...)
		}
	}
	return states, nil
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
