package server

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// adminService is weir.v1.AdminService, for gRPC and Connect alike. It is safe for
// concurrent use.
type adminService struct {
	weirv1.UnsafeAdminServiceServer

	d *decider
	// lastError returns the error of the latest reload, empty if that succeeded.
	lastError func() string
}

func (s *Server) admin() *adminService {
	return &adminService{d: s.d, lastError: func() string {
		if text := s.lastError.Load(); text != nil {
			return *text
		}
		return ""
	}}
}

// GetPlan implements weirv1.AdminServiceServer.
func (m *adminService) GetPlan(ctx context.Context, _ *weirv1.GetPlanRequest) (*weirv1.GetPlanResponse, error) {
	st, err := m.d.store.Stats(ctx)
	if err != nil {
		return nil, sick(err)
	}
	a := m.d.loaded.Load()
	return &weirv1.GetPlanResponse{
		Plan:             a.Digest,
		Sources:          a.Sources,
		LoadedAt:         timestamppb.New(a.since),
		Quotas:           uint32(a.Quotas),
		Rules:            uint32(a.Rules),
		LastError:        m.lastError(),
		Keys:             uint64(max(st.Keys, 0)),
		OpenReservations: uint64(max(st.Open, 0)),
	}, nil
}

// Explain implements weirv1.AdminServiceServer.
func (m *adminService) Explain(ctx context.Context, req *weirv1.ExplainRequest) (*weirv1.ExplainResponse, error) {
	s := m.d.getScratch()
	defer m.d.putScratch(s)
	a, now := m.d.loaded.Load(), m.d.now()
	var err error
	if len(req.GetDescriptor_()) > 0 {
		err = m.describe(a, req, s)
	} else {
		err = m.attribute(a, req, s)
	}
	if err != nil {
		return nil, err
	}
	s.ask.DryRun = true
	if err := m.d.ask(ctx, now, s); err != nil {
		return nil, sick(err)
	}
	d := &s.decision
	r := &weirv1.ExplainResponse{
		Verdict: verdictOf(d.Verdict), Limits: limitStates(now, d.Checks), RetryAfter: retryAfter(now, d),
		Reserved: usageOf(d.Reserved), Summary: summarise(now, d), Plan: a.Digest, Cause: d.Refusal.Cause.String(),
	}
	if d.RefusedBy >= 0 && d.RefusedBy < len(r.Limits) {
		r.RefusedBy = r.Limits[d.RefusedBy]
	}
	if err := m.showQuotas(ctx, now, s, r); err != nil {
		return nil, sick(err)
	}
	return r, nil
}

// attribute matches a call by its attributes.
func (m *adminService) attribute(a *active, req *weirv1.ExplainRequest, s *scratch) error {
	c := &s.reserve
	c.reset()
	for key, value := range req.GetAttributes() {
		c.set(key, value)
	}
	c.estimate = estimateFrom(req.GetEstimate())
	c.domain = req.GetDomain()
	if err := c.check(); err != nil {
		return err
	}
	if c.domain == "" {
		c.domain = a.domain()
	}
	s.ask.Tenant = c.value(attributeNames[wordTenant])
	if class, ok := a.classOf(c.attributes); ok {
		c.set(config.ModelClass, class) // the quotas are compared with it, too
	}
	a.match(s, c.domain, -1, c.attributes, c.estimate.terms())
	return nil
}

// describe matches a descriptor, entry by entry.
func (m *adminService) describe(a *active, req *weirv1.ExplainRequest, s *scratch) error {
	if len(req.GetAttributes()) > 0 {
		return wrong("descriptor", "attributes too", "one of attributes and descriptor")
	}
	if n := len(req.GetDescriptor_()); n > maxEntries {
		return wrong("descriptor", strconv.Itoa(n)+" entries", "at most "+strconv.Itoa(maxEntries))
	}
	for i, e := range req.GetDescriptor_() {
		at := "descriptor[" + strconv.Itoa(i) + "]"
		if err := checkText(at+".key", e.GetKey(), maxName); err != nil {
			return err
		}
		if err := checkText(at+".value", e.GetValue(), maxName); err != nil {
			return err
		}
		s.entries = append(s.entries, limiter.Entry{Key: e.GetKey(), Value: e.GetValue()})
	}
	hits := limiter.Hits{Amount: 1}
	if req.Hits != nil {
		hits.Amount = req.GetHits()
	}
	if err := checkAmount("hits", hits.Amount); err != nil {
		return err
	}
	domain := req.GetDomain()
	if domain == "" {
		domain = a.domain()
	}
	a.Plan.MatchDescriptor(&s.ask, domain, 0, s.entries, hits)
	return nil
}

// summarise says a decision in a sentence.
func summarise(now limiter.Instant, d *limiter.Decision) string {
	if len(d.Checks) == 0 {
		return "Nothing matches: the call would be allowed, and not be counted."
	}
	if d.RefusedBy < 0 || d.RefusedBy >= len(d.Checks) {
		if d.Delay > 0 {
			return fmt.Sprintf("The call would be allowed after %s; %d limits have room for it.", d.Delay.Round(time.Millisecond), len(d.Checks))
		}
		return fmt.Sprintf("The call would be allowed; %d limits have room for it.", len(d.Checks))
	}
	c := &d.Checks[d.RefusedBy]
	if d.Refusal.Cause > limiter.CauseLimit {
		return fmt.Sprintf("The call would be denied: %s. It would pass in %s, if nobody else asked.",
			appendCause(nil, now, c, &d.Refusal), until(now, d.RetryAt).Round(time.Millisecond))
	}
	what := fmt.Sprintf("%s admits %d %s per %s, of which %d are left; the call asks for %d",
		c.Limit.Owner, c.Amount, c.Limit.Meter, c.Limit.Window, c.Remaining, c.Requested)
	if d.Verdict == limiter.Infeasible || d.RetryAt == limiter.Never {
		return "The call can never be allowed: " + what + "."
	}
	return fmt.Sprintf("The call would be denied: %s. It would pass in %s, if nobody else asked.",
		what, until(now, d.RetryAt).Round(time.Millisecond))
}

// window is a duration as a message.
func window(d time.Duration) *durationpb.Duration { return durationpb.New(d) }
