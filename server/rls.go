package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/weir-project/weir/limiter"
)

// rls is envoy.service.ratelimit.v3.RateLimitService. It is safe for concurrent use.
//
// To the filter that asks, an error means that the call may pass. So whatever must not
// pass is answered over limit: what a limit refuses, what no limit admits, values that
// the filter's own client chose badly, and everything that weir cannot decide. Errors
// are for mistakes in the filter's configuration.
type rls struct {
	rlsv3.UnimplementedRateLimitServiceServer
	d       *decider
	settler *settler
	calls   sync.Pool
	words   vocabularies
	// ratelimit is for domains of files of envoyproxy/ratelimit.
	ratelimit RatelimitOptions
	// complained is when a failure was last logged, so that a sick store does not fill
	// the log.
	complained atomic.Int64
}

func newRLS(d *decider) *rls {
	s := &rls{d: d, settler: newSettler(d, "rls")}
	s.calls.New = func() any { return &rlsCall{scratch: newScratch()} }
	return s
}

// rlsCall is one call, with all the room that it needs, used again for the next one.
type rlsCall struct {
	request  rlsRequest
	spoken   spoken
	response rlsResponse
	scratch  *scratch
	text     []byte // what the response points to
	wire     bool   // it came over the port that proxies speak to

	matches   []limiter.Match   // of the descriptors, where they were matched by themselves
	ratelimit *RatelimitOptions // nil in domains of weir's own
	quiet     bool              // a refusal carries nothing but codes
	path      []byte            // of an event
	event     RatelimitEvent
}

func (c *rlsCall) release() {
	c.spoken.reset()
	c.request.release()
	c.response.reset()
	c.scratch.reset()
	c.text = c.text[:0]
	c.matches, c.path = c.matches[:0], c.path[:0]
	c.wire, c.quiet, c.ratelimit = false, false, nil
	c.event = RatelimitEvent{}
}

// register adds the service to g, with a handler that takes the codec's own messages.
// Its name, its methods and its file are Envoy's, so that reflection shows it.
func (s *rls) register(g grpc.ServiceRegistrar) {
	desc := rlsv3.RateLimitService_ServiceDesc
	desc.Methods = []grpc.MethodDesc{{
		MethodName: "ShouldRateLimit",
		Handler: func(_ any, ctx context.Context, dec func(any) error, via grpc.UnaryServerInterceptor) (any, error) {
			return s.handle(ctx, dec, via)
		},
	}}
	g.RegisterService(&desc, s)
}

// handle serves one call of the wire.
func (s *rls) handle(ctx context.Context, dec func(any) error, via grpc.UnaryServerInterceptor) (any, error) {
	c := s.calls.Get().(*rlsCall)
	if err := dec(&c.request); err != nil {
		c.release()
		s.calls.Put(c)
		return nil, err
	}
	if w := s.ratelimit.Service; w != nil {
		began := time.Now()
		defer func() { w.Answered(time.Since(began)) }()
	}
	c.wire = true
	if via == nil {
		return s.answer(ctx, c)
	}
	info := &grpc.UnaryServerInfo{Server: s, FullMethod: rlsv3.RateLimitService_ShouldRateLimit_FullMethodName}
	reached := false
	reply, err := via(ctx, &c.request, info, func(ctx context.Context, _ any) (any, error) {
		reached = true
		return s.answer(ctx, c)
	})
	if !reached {
		c.release()
		s.calls.Put(c)
	}
	return reply, err
}

// answer decides c, which must not be used afterwards, and returns its encoded answer.
func (s *rls) answer(ctx context.Context, c *rlsCall) (any, error) {
	if err := s.decide(ctx, c); err != nil {
		s.d.metrics.errors.WithLabelValues(status.Code(err).String()).Inc()
		if o := s.ratelimit.Observer; o != nil {
			o.ServiceError()
		}
		c.release()
		s.calls.Put(c)
		return nil, err
	}
	c.scratch.text = c.response.append(c.scratch.text[:0])
	reply := newEncodedReply(c.scratch.text)
	c.release()
	s.calls.Put(c)
	return reply, nil
}

// ShouldRateLimit implements rlsv3.RateLimitServiceServer, for callers inside this
// process: the wire is served without these messages.
func (s *rls) ShouldRateLimit(ctx context.Context, in *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
	return s.decideMessage(ctx, in, true)
}

// decideMessage answers in. wire says whether it is as if it had come over the port that
// proxies speak to.
func (s *rls) decideMessage(ctx context.Context, in *rlsv3.RateLimitRequest, wire bool) (*rlsv3.RateLimitResponse, error) {
	b, err := proto.Marshal(in)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	c := s.calls.Get().(*rlsCall)
	c.wire = wire
	if err := c.request.parseRetained(mem.SliceBuffer(b)); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	reply, err := s.answer(ctx, c)
	if err != nil {
		return nil, err
	}
	out := new(rlsv3.RateLimitResponse)
	if err := proto.Unmarshal(reply.(*encodedReply).data, out); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return out, nil
}

// decideJSON answers a request that came as JSON.
func (s *rls) decideJSON(ctx context.Context, in *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
	return s.decideMessage(ctx, in, false)
}

// decide fills c.response. A panic on the way is a bug; the call is refused, and the
// process lives.
func (s *rls) decide(ctx context.Context, c *rlsCall) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.d.metrics.panics.Inc()
			s.d.log.Error("a rate limit request ended in a panic", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			*c.scratch = *newScratch()
			c.refuse(&refusal{reason: "weir failed", retryAfter: sickRetry})
			err = nil
		}
	}()
	a := s.d.loaded.Load()
	now := s.d.now()
	words := s.words.of(a.Loaded)
	if a.takesRatelimit(words, c.request.domain) {
		c.ratelimit, c.quiet = &s.ratelimit, a.Strict
	}
	if r := c.request.tooLong(); r != nil {
		c.refuse(r)
		return nil
	}
	if a.Strict {
		if err := a.strictError(&c.request); err != nil {
			return err
		}
	}
	if err := c.request.check(); err != nil {
		return err
	}
	if a.Missing {
		return status.Error(codes.Unavailable, "no rate limit configuration loaded")
	}
	if r := c.request.unacceptable(!a.Ratelimit[c.request.domain]); r != nil && !s.reportsOnly(a, c) {
		c.refuse(r)
		return nil
	}
	switch {
	case c.ratelimit != nil:
		return s.decideRatelimit(ctx, now, a, c)
	case !words.speaks(c.request.domain):
		return s.decidePlain(ctx, now, a, c)
	}
	c.spoken.read(words, &c.request)
	trusted := a.trusts(ctx, c.wire)
	c.scratch.ask.Trusted = trusted
	for i := range c.spoken.reports {
		c.spoken.reports[i].trusted = trusted
		s.settler.settle(ctx, now, a, &c.spoken.reports[i])
	}
	return s.decideSpoken(ctx, now, a, c)
}

// reportsOnly says whether a request has nothing but reports in it. What cannot be
// accepted in those does not let a call pass, and is not read, or is cut.
func (s *rls) reportsOnly(a *active, c *rlsCall) bool {
	words := s.words.of(a.Loaded)
	if !words.speaks(c.request.domain) {
		return false
	}
	c.spoken.read(words, &c.request)
	for i := range c.spoken.uses {
		if c.spoken.uses[i].role != roleReport {
			return false
		}
	}
	return true
}

// decidePlain decides a request of a domain of rules alone.
func (s *rls) decidePlain(ctx context.Context, now limiter.Instant, a *active, c *rlsCall) error {
	for i := range c.request.descriptors {
		if err := s.matchPlain(a, c, i); err != nil {
			return err
		}
	}
	return s.ask(ctx, now, a, c)
}

// decideSpoken decides what a request in an LLM domain asks for.
func (s *rls) decideSpoken(ctx context.Context, now limiter.Instant, a *active, c *rlsCall) error {
	k, sp := &c.scratch.ask, &c.spoken
	if sp.tooMuch >= 0 {
		d := &c.request.descriptors[sp.tooMuch]
		c.refuse(tooManyHits(sp.tooMuch, d.hits))
		return nil
	}
	k.Tenant, k.RequestID = sp.tenant, sp.requestID
	k.DryRun = len(sp.asks) > 0
	for i := range sp.asks {
		q := &sp.asks[i]
		k.DryRun = k.DryRun && q.peeks()
		a.match(c.scratch, c.request.domain, q.ordinal, q.attributes, q.estimate)
	}
	k.Open = k.Len() > 0 && !k.DryRun
	for i := range sp.uses {
		if sp.uses[i].role != rolePlain {
			continue
		}
		k.DryRun = false
		if err := s.matchPlain(a, c, i); err != nil {
			return err
		}
	}
	return s.ask(ctx, now, a, c)
}

// matchPlain matches descriptor i against the rules of the request's domain.
func (s *rls) matchPlain(a *active, c *rlsCall, i int) error {
	d := &c.request.descriptors[i]
	hits := limiter.Hits{Refund: d.negative, Stated: d.hasHits}
	hits.Amount, _ = c.request.hitsOf(d)
	if d.limit.set {
		window, err := d.limit.window(i)
		if err != nil {
			return err
		}
		hits.Override = limiter.Override{Amount: uint64(d.limit.amount), Window: window}
	}
	m := a.Plan.MatchDescriptor(&c.scratch.ask, c.request.domain, i, c.request.of(d), hits)
	c.matches = append(c.matches, m)
	return nil
}

// sickRetry is when callers are told to come back where weir itself is at fault.
const sickRetry = time.Second

// ask has the store decide what was matched, and fills in the response.
func (s *rls) ask(ctx context.Context, now limiter.Instant, a *active, c *rlsCall) error {
	if i := c.request.tooMuch(); i >= 0 && c.scratch.ask.Len() > 0 {
		c.refuse(tooManyHits(i, c.request.descriptors[i].hits))
		return nil
	}
	k := &c.scratch.ask
	k.DropReplaced()
	if k.Len() == 0 {
		c.admitUncounted()
		return nil
	}
	if !s.d.enter() {
		c.refuse(&refusal{reason: "weir is overloaded", retryAfter: sickRetry})
		return nil
	}
	defer s.d.leave()
	early := s.d.beforeDeadline(ctx, now)
	defer early.stop()
	if err := early.Err(); err != nil {
		return s.undecided(ctx, c, err)
	}
	if k.Open {
		k.ID = c.scratch.newID()
	}
	s.place(now, a, c)
	var err error
	if hold := k.Hold(); hold > 0 {
		k.HoldUntil = s.d.holdUntil(ctx, now, hold)
	}
	if k.HoldUntil > 0 {
		now, err = s.d.decideHeld(early, now, a, c.request.domain, c.scratch)
	} else {
		err = s.d.decide(early, now, a, c.request.domain, c.scratch)
	}
	if err == nil {
		now, err = s.follow(early, now, c)
	}
	if err != nil {
		return s.undecided(ctx, c, err)
	}
	if c.ratelimit != nil {
		c.fillRatelimit(now)
	} else {
		c.fill(now)
	}
	return nil
}

// undecided answers where the store did not.
func (s *rls) undecided(ctx context.Context, c *rlsCall, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return status.Error(codes.Canceled, "the caller left before there was an answer; nothing was charged")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		c.refuse(&refusal{reason: "there was no decision before the caller's deadline", retryAfter: sickRetry})
		return nil
	}
	if w := s.ratelimit.Service; w != nil {
		w.StoreError()
	}
	if now := s.d.now(); int64(now)-s.complained.Load() > int64(time.Second) {
		s.complained.Store(int64(now))
		s.d.log.Error("the store did not decide; calls are refused", slog.Any("error", err))
	}
	c.refuse(&refusal{reason: "weir's store failed", retryAfter: sickRetry})
	return nil
}

// tooManyHits refuses what no limit can admit.
func tooManyHits(i int, hits uint64) *refusal {
	return &refusal{
		reason:     fmt.Sprintf("descriptor %d asks for %d hits; no limit admits more than %d at once", i, hits, limiter.MaxAmount),
		infeasible: true,
	}
}
