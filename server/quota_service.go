package server

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// quotaService is weir.v1.QuotaService without its door: the unary methods serve gRPC
// and Connect alike. It is safe for concurrent use.
type quotaService struct {
	d *decider
	// cut ends when held callers are to be answered, because the server drains.
	cut context.Context
}

// Reserve implements weirv1.QuotaServiceServer.
func (q *quotaService) Reserve(ctx context.Context, req *weirv1.ReserveRequest) (*weirv1.ReserveResponse, error) {
	s := q.d.getScratch()
	defer q.d.putScratch(s)
	c := &s.reserve
	c.from(req)
	a, now := q.d.loaded.Load(), q.d.now()
	wait, err := q.prepare(ctx, now, a, c, s)
	if err != nil {
		return nil, err
	}
	if now, err = q.decide(ctx, now, a, c, s, wait); err != nil {
		return nil, err
	}
	return reserveAnswer(now, a, &s.decision, s.sealed(q.d)), nil
}

// prepare checks c and turns it into s.ask. It returns how long the caller wants to
// wait.
func (q *quotaService) prepare(ctx context.Context, now limiter.Instant, a *active, c *reserveCall, s *scratch) (time.Duration, error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	wait, err := c.maxWait.atLeast("max_wait", 0)
	if err != nil {
		return 0, err
	}
	ttl, err := c.ttl.timeToLive()
	if err != nil {
		return 0, err
	}
	useful, err := c.usefulFor.atLeast("useful_for", 0)
	if err != nil {
		return 0, err
	}
	if c.domain == "" {
		c.domain = a.domain()
	}
	ask := &s.ask
	ask.Reset()
	if c.usefulFor.set {
		ask.Deadline = now.Add(useful)
	}
	if len(a.learned) > 0 {
		s.claim = q.d.seals.claim(c.attributes)
		ask.Turn = q.d.seals.open(&s.ticket, c.ticket, s.claim)
	}
	ask.Retry, ask.Trusted = c.retry, a.trusts(ctx, false)
	if ask.Priority = priorityBands[c.priority]; ask.Priority == limiter.PriorityUnset {
		ask.Priority = priorityOf(c.attributes)
	}
	ask.Tenant = c.value(attributeNames[wordTenant])
	ask.RequestID = c.requestID
	ask.IdempotencyKey = c.idempotencyKey
	ask.TTL = ttl
	ask.Open = true
	ask.ID = s.newID()
	a.match(s, c.domain, -1, c.attributes, c.estimate.terms())
	return wait, nil
}

// priorityBands are the values of weir.v1.Priority.
var priorityBands = [...]limiter.Priority{
	weirv1.Priority_PRIORITY_UNSPECIFIED: limiter.PriorityUnset,
	weirv1.Priority_PRIORITY_INTERACTIVE: limiter.Interactive,
	weirv1.Priority_PRIORITY_DEFAULT:     limiter.Standard,
	weirv1.Priority_PRIORITY_BATCH:       limiter.Batch,
}

// domain is the domain of calls that name none.
func (a *active) domain() string {
	if len(a.Vocabulary.Domains) == 0 {
		return ""
	}
	return a.Vocabulary.Domains[0]
}

// decide decides s.ask, holding the caller for up to wait, and returns the instant of
// the answer. A caller that left while it was held has consumed nothing.
func (q *quotaService) decide(ctx context.Context, now limiter.Instant, a *active, c *reserveCall, s *scratch, wait time.Duration) (limiter.Instant, error) {
	s.ask.HoldUntil = q.d.holdUntil(ctx, now, wait)
	if s.ask.HoldUntil == 0 {
		return now, q.settled(ctx, now, c, s, q.d.decide(ctx, now, a, c.domain, s))
	}
	hold, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(q.cut, stop)()
	now, err := q.d.decideHeld(hold, now, a, c.domain, s)
	if err != nil && q.cut.Err() != nil && ctx.Err() == nil {
		// The server drains: the caller is told how things stand, so that it can ask
		// elsewhere.
		now = q.d.now()
		s.ask.HoldUntil = 0
		err = q.d.decide(ctx, now, a, c.domain, s)
	}
	return now, q.settled(ctx, now, c, s, err)
}

// settled looks at what came of a decision. It gives back what was granted to a caller
// that has left meanwhile, unless the caller can ask for it again by its key.
func (q *quotaService) settled(ctx context.Context, now limiter.Instant, c *reserveCall, s *scratch, err error) error {
	if err != nil {
		return sick(err)
	}
	d := &s.decision
	if d.Verdict == limiter.Overloaded {
		return &fault{
			reason: overloaded, got: "too many reservations are open",
			want: "the caller to come back when some have been reported; nothing was charged",
		}
	}
	if gone := ctx.Err(); gone != nil {
		if c.idempotencyKey == "" {
			q.d.giveBack(now, d)
		}
		return gone
	}
	return nil
}

// Report implements weirv1.QuotaServiceServer.
func (q *quotaService) Report(ctx context.Context, req *weirv1.ReportRequest) (*weirv1.ReportResponse, error) {
	var c reportCall
	c.from(req)
	st, err := q.report(ctx, q.d.now(), &c)
	if err != nil {
		return nil, err
	}
	return &weirv1.ReportResponse{Ending: endingOf(st.Ending), Applied: st.Applied, Charged: usageOf(st.Charged)}, nil
}

func (q *quotaService) report(ctx context.Context, now limiter.Instant, c *reportCall) (limiter.Settlement, error) {
	if err := c.check(); err != nil {
		return limiter.Settlement{}, err
	}
	id, err := idOf(c.reservation)
	if err != nil {
		return limiter.Settlement{}, err
	}
	r := c.terms(Ref{ID: id})
	a := q.d.loaded.Load()
	fill(&r.provider, a.provider)
	r.trusted = a.trusts(ctx, false)
	p := a.Profile(r.provider)
	if c.provider != "" && p.Name != c.provider {
		return limiter.Settlement{}, wrong("provider", quoted(c.provider), a.providersExpected())
	}
	read := r.reading(p, now)
	q.d.metrics.odd(read.Odd)
	st, err := q.d.store.Report(ctx, now, Ref{ID: id}, c.tenant, r.outcome(p, read))
	return q.standing(c.reservation, st, err)
}

// Renew implements weirv1.QuotaServiceServer.
func (q *quotaService) Renew(ctx context.Context, req *weirv1.RenewRequest) (*weirv1.RenewResponse, error) {
	c := renewCall{reservation: req.GetReservation(), tenant: req.GetTenant(), ttl: spanOf(req.GetTtl())}
	st, err := q.renew(ctx, q.d.now(), &c)
	if err != nil {
		return nil, err
	}
	return &weirv1.RenewResponse{ExpiresAt: timestampOf(st.ExpiresAt)}, nil
}

func (q *quotaService) renew(ctx context.Context, now limiter.Instant, c *renewCall) (limiter.Settlement, error) {
	if err := checkText("tenant", c.tenant, maxName); err != nil {
		return limiter.Settlement{}, err
	}
	ttl, err := c.ttl.timeToLive()
	if err != nil {
		return limiter.Settlement{}, err
	}
	id, err := idOf(c.reservation)
	if err != nil {
		return limiter.Settlement{}, err
	}
	st, err := q.d.store.Renew(ctx, now, Ref{ID: id}, c.tenant, ttl)
	if st, err = q.standing(c.reservation, st, err); err == nil && st.Ending != limiter.Open {
		err = &fault{
			reason: ended, field: "reservation", got: "it has ended: " + st.Ending.String(),
			want: "an open one",
		}
	}
	return st, err
}

// Release implements weirv1.QuotaServiceServer.
func (q *quotaService) Release(ctx context.Context, req *weirv1.ReleaseRequest) (*weirv1.ReleaseResponse, error) {
	c := releaseCall{reservation: req.GetReservation(), tenant: req.GetTenant()}
	st, err := q.release(ctx, q.d.now(), &c)
	if err != nil {
		return nil, err
	}
	return &weirv1.ReleaseResponse{Ending: endingOf(st.Ending), Applied: st.Applied}, nil
}

func (q *quotaService) release(ctx context.Context, now limiter.Instant, c *releaseCall) (limiter.Settlement, error) {
	if err := checkText("tenant", c.tenant, maxName); err != nil {
		return limiter.Settlement{}, err
	}
	id, err := idOf(c.reservation)
	if err != nil {
		return limiter.Settlement{}, err
	}
	st, err := q.d.store.Release(ctx, now, Ref{ID: id}, c.tenant)
	return q.standing(c.reservation, st, err)
}

// standing counts what became of a reservation. One that the store does not know is
// an error.
func (q *quotaService) standing(reservation string, st limiter.Settlement, err error) (limiter.Settlement, error) {
	if err != nil {
		return st, sick(err)
	}
	q.d.metrics.settled(st)
	if st.Ending == limiter.Unknown {
		return st, unknownReservation(reservation)
	}
	return st, nil
}

// grpcQuota is the service at the gRPC door. Sessions do not go through protobuf:
// sessionDesc serves them.
type grpcQuota struct {
	weirv1.UnsafeQuotaServiceServer
	*quotaService
}

// Session implements weirv1.QuotaServiceServer, for a server that was not registered
// with sessionDesc.
func (grpcQuota) Session(grpc.BidiStreamingServer[weirv1.SessionRequest, weirv1.SessionResponse]) error {
	return noSession
}

// connectQuota is the service at the JSON door, which is HTTP/1.1 and has no streams
// in both directions.
type connectQuota struct{ *quotaService }

// Session implements weirv1connect.QuotaServiceHandler.
func (connectQuota) Session(context.Context, *connect.BidiStream[weirv1.SessionRequest, weirv1.SessionResponse]) error {
	return connectError(noSession)
}

var noSession error = &fault{reason: unserved, got: "sessions are not served here", want: "a stream on the gRPC port"}
