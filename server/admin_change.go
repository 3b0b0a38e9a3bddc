package server

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// ResetLimit implements weirv1.AdminServiceServer.
func (m *adminService) ResetLimit(ctx context.Context, req *weirv1.ResetLimitRequest) (*weirv1.ResetLimitResponse, error) {
	s := m.d.getScratch()
	defer m.d.putScratch(s)
	meter, err := s.named(req.GetOwner(), req.GetAttributes(), req.GetMeter())
	if err != nil {
		return nil, err
	}
	a := m.d.loaded.Load()
	if err := m.matchOwner(a, req.GetOwner(), &s.reserve, s); err != nil {
		return nil, err
	}
	n, err := m.d.store.Zero(ctx, m.d.now(), &s.ask, req.GetOwner(), meter)
	if err != nil {
		return nil, sick(err)
	}
	m.d.log.InfoContext(ctx, "limit reset", "owner", req.GetOwner(), "counters", n)
	return &weirv1.ResetLimitResponse{Counters: uint32(n)}, nil
}

// ClearGate implements weirv1.AdminServiceServer.
func (m *adminService) ClearGate(ctx context.Context, req *weirv1.ClearGateRequest) (*weirv1.ClearGateResponse, error) {
	s := m.d.getScratch()
	defer m.d.putScratch(s)
	meter, err := s.named(req.GetOwner(), req.GetAttributes(), req.GetMeter())
	if err != nil {
		return nil, err
	}
	if meter != nil && *meter > limiter.OutputTokens {
		return nil, wrong("meter", quoted(req.GetMeter()), "one of requests, input_tokens, output_tokens")
	}
	found, err := matchQuota(m.d.loaded.Load(), req.GetOwner(), &s.reserve, s)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, &fault{
			reason: notFound, field: "owner", got: "no quota is called " + quoted(req.GetOwner()),
			want: "a name that ListQuotas shows",
		}
	}
	n, err := m.d.store.ClearGates(ctx, m.d.now(), &s.ask, req.GetOwner(), meter)
	if err != nil {
		return nil, sick(err)
	}
	m.d.log.InfoContext(ctx, "gates cleared", "owner", req.GetOwner(), "gates", n)
	return &weirv1.ClearGateResponse{Gates: uint32(n)}, nil
}

// named checks what an operator names, and takes the attributes in. The meter is nil if
// all are meant.
func (s *scratch) named(owner string, attributes map[string]string, meter string) (*limiter.Meter, error) {
	if owner == "" {
		return nil, wrong("owner", "nothing", "the name of a quota or rule")
	}
	for key, value := range attributes {
		s.reserve.set(key, value)
	}
	if err := checkAttributes(s.reserve.attributes); err != nil {
		return nil, err
	}
	if meter == "" {
		return nil, nil //nolint:nilnil // all meters, and no error
	}
	one, ok := limiter.ParseMeter(meter)
	if !ok {
		return nil, wrong("meter", quoted(meter), "one of requests, input_tokens, output_tokens, tokens")
	}
	return &one, nil
}

// matchQuota adds to s.ask the quota of that name that the attributes tell from others.
// Those that it only matches by are filled in as the quota names them: a pattern matches
// itself. It is false if there is none of that name.
func matchQuota(a *active, owner string, c *reserveCall, s *scratch) (bool, error) {
	for i := range a.Spec.Quotas {
		q := &a.Spec.Quotas[i]
		if q.Name != owner {
			continue
		}
		apart := q.Per
		if apart == nil {
			apart = []string{attributeNames[wordOrg]}
		}
		for _, m := range q.Match {
			if !c.has(m.Key) && (!slices.Contains(apart, m.Key) || !strings.Contains(m.Pattern, "*")) {
				c.set(m.Key, m.Pattern)
			}
		}
		for _, key := range apart {
			if !c.has(key) && (key != config.ModelClass || !c.has(attributeNames[wordModel])) {
				return true, wrong("attributes["+strconv.Quote(key)+"]", "nothing", "the value that tells this quota from others of its name")
			}
		}
		a.match(s, "", -1, c.attributes, limiter.Estimate{})
		return true, nil
	}
	return false, nil
}

// has says whether an attribute was given, be it empty.
func (c *reserveCall) has(key string) bool {
	return slices.ContainsFunc(c.attributes, func(e limiter.Entry) bool { return e.Key == key })
}

// matchOwner adds to s.ask the counters that the quota or rule of that name has for
// the attributes.
func (m *adminService) matchOwner(a *active, owner string, c *reserveCall, s *scratch) error {
	found, err := matchQuota(a, owner, c, s)
	for i := range a.Spec.Domains {
		d := &a.Spec.Domains[i]
		eachRule(d, func(at rulePath) {
			if at.name() != owner || err != nil {
				return
			}
			found = true
			s.entries = s.entries[:0]
			if err = s.descend(at, c); err == nil {
				a.Plan.MatchDescriptor(&s.ask, d.Name, 0, s.entries, limiter.Hits{})
			}
		})
	}
	if !found {
		return &fault{
			reason: notFound, field: "owner", got: "no quota or rule is called " + quoted(owner),
			want: "a name that ListQuotas or ListRules shows",
		}
	}
	return err
}

// descend fills s.entries with the descriptor that leads to a rule: values as the rule
// names them, or else as the attributes do.
func (s *scratch) descend(at rulePath, c *reserveCall) error {
	for _, r := range at {
		value := c.value(r.Key)
		if value == "" {
			value = r.Value
		}
		if value == "" {
			return wrong("attributes["+strconv.Quote(r.Key)+"]", "nothing", "the value whose count is to be forgotten")
		}
		s.entries = append(s.entries, limiter.Entry{Key: r.Key, Value: value})
	}
	return nil
}
