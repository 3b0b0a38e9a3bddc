package server

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

const (
	// maxHeldInSession bounds how many questions of one session wait at a time. One
	// more is answered at once, as if it did not want to wait: stopping to read would
	// stop the reports that make room.
	maxHeldInSession = 64
	// maxAnswers is how many bytes of answers are kept at most to be sent together.
	maxAnswers = 32 << 10
	// maxSessionAge is when a session is ended, between two messages, so that callers
	// spread anew over the replicas. The connection outlives it.
	maxSessionAge = 30 * time.Minute
)

// sessionDesc describes weir.v1.QuotaService with sessions that are served without
// protobuf objects.
func sessionDesc() *grpc.ServiceDesc {
	desc := weirv1.QuotaService_ServiceDesc
	desc.Streams = slices.Clone(desc.Streams)
	for i := range desc.Streams {
		if desc.Streams[i].StreamName == "Session" {
			desc.Streams[i].Handler = func(srv any, stream grpc.ServerStream) error {
				return srv.(grpcQuota).serve(stream)
			}
		}
	}
	return &desc
}

// session is one stream. Questions are decided as they are read, in the order of the
// messages and within a message; those that must wait wait beside, and are answered
// when they are decided.
type session struct {
	q      *quotaService
	stream grpc.ServerStream

	// mu is held while a message is worked on or an answer is sent.
	mu     sync.Mutex
	closed bool
	out    sessionResponse // decided, not sent
	held   int

	// ready says that out is to be sent. Sending is left to another goroutine than the
	// one that reads: that one goes on first with the messages that have arrived, and
	// their answers go out together.
	ready chan struct{}

	waiting sync.WaitGroup
}

// serve runs a session until the caller ends it, or the server has to.
func (q *quotaService) serve(stream grpc.ServerStream) error {
	sn := &session{q: q, stream: stream, ready: make(chan struct{}, 1)}
	over := make(chan error, 1)
	go func() { over <- sn.receive() }()
	age := time.NewTimer(maxSessionAge)
	defer age.Stop()
	err := sn.answers(over, age.C)
	sn.waiting.Wait()
	if last := sn.flush(); err == nil {
		err = last
	}
	return err
}

// answers sends what is decided, until the session is over.
func (sn *session) answers(over <-chan error, aged <-chan time.Time) error {
	for {
		select {
		case <-sn.ready:
			if err := sn.flush(); err != nil {
				sn.stop()
				return err
			}
		case err := <-over:
			return err
		case <-sn.q.cut.Done():
			return sn.close("the server is about to stop")
		case <-aged:
			return sn.close("the session is " + maxSessionAge.String() + " old")
		}
	}
}

// flush sends what was decided.
func (sn *session) flush() error {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	return sn.sendOut()
}

// sendOut is flush with mu held.
func (sn *session) sendOut() error {
	if len(sn.out.out) == 0 {
		return nil
	}
	err := sn.send(&sn.out)
	sn.out.out = sn.out.out[:0]
	return err
}

// close stops the session and says why. What was read is answered.
func (sn *session) close(why string) error {
	sn.stop()
	return &fault{reason: draining, got: why, want: "the caller to open another session and to repeat what was not answered"}
}

// stop ends the work on messages.
func (sn *session) stop() {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	sn.closed = true
}

// receive works on messages until the caller has sent the last one.
func (sn *session) receive() (err error) {
	d := sn.q.d
	s := d.getScratch()
	var req sessionRequest
	defer func() {
		if p := recover(); p != nil {
			err = doorman{d: d}.caught(sn.stream.Context(), weirv1.QuotaService_Session_FullMethodName, p)
			return // what panicked may have left the scratch unfit for others
		}
		req.free()
		d.putScratch(s)
	}()
	for {
		if err := sn.stream.RecvMsg(&req); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if req.err != nil {
			return req.err
		}
		if open, err := sn.work(&req, s); err != nil || !open {
			return err
		}
	}
}

// work answers one message. It is false once the session is closed.
func (sn *session) work(req *sessionRequest, s *scratch) (open bool, err error) {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	if sn.closed {
		return false, nil
	}
	d := sn.q.d
	a, now := d.loaded.Load(), d.now()
	ctx := sn.stream.Context()
	for i := range req.calls {
		c := &req.calls[i]
		if err := sn.answer(ctx, now, a, c, s); err != nil {
			d.metrics.errors.WithLabelValues(codeOf(err).String()).Inc()
			sn.out.addError(c.sequence, err)
		}
	}
	switch {
	case len(sn.out.out) == 0:
		return true, nil
	case len(sn.out.out) > maxAnswers:
		return true, sn.sendOut()
	}
	select {
	case sn.ready <- struct{}{}:
	default: // it is known already
	}
	return true, nil
}

// send sends answers. It is called with mu held.
func (sn *session) send(r *sessionResponse) error {
	if mem.IsBelowBufferPoolingThreshold(len(r.out)) {
		return sn.stream.SendMsg(newEncodedReply(r.out)) // there is no cheaper way
	}
	return sn.stream.SendMsg(r)
}

// answer answers one question, unless it has to wait.
func (sn *session) answer(ctx context.Context, now limiter.Instant, a *active, c *sessionCall, s *scratch) error {
	q := sn.q
	switch c.kind {
	case callReserve:
		return sn.reserve(ctx, now, a, c, s)
	case callReport:
		st, err := q.report(ctx, now, &c.report)
		if err == nil {
			sn.out.addReport(c.sequence, st)
		}
		return err
	case callRenew:
		st, err := q.renew(ctx, now, &c.renew)
		if err == nil {
			sn.out.addRenew(c.sequence, st)
		}
		return err
	case callRelease:
		st, err := q.release(ctx, now, &c.release)
		if err == nil {
			sn.out.addRelease(c.sequence, st)
		}
		return err
	case noCall:
	}
	return wrong("call", "nothing", "one of reserve, report, renew, release")
}

func (sn *session) reserve(ctx context.Context, now limiter.Instant, a *active, c *sessionCall, s *scratch) error {
	q := sn.q
	wait, err := q.prepare(ctx, now, a, &c.reserve, s)
	if err != nil {
		return err
	}
	if wait > 0 && len(a.learned) > 0 && s.ask.Turn == 0 {
		// Who will queue must not be given a place beside the queue.
		s.ask.DryRun = true
		if err := q.d.ask(ctx, now, s); err != nil {
			return sick(err)
		}
		s.ask.DryRun = false
		if sn.canWait(ctx, now, s, wait) && sn.hold(ctx, c, wait, nil) {
			return nil
		}
	}
	if err := q.d.ask(ctx, now, s); err != nil {
		return sick(err)
	}
	if sn.canWait(ctx, now, s, wait) && sn.hold(ctx, c, wait, s.sealed(q.d)) {
		return nil
	}
	a.counters.decided(c.reserve.domain, &s.decision)
	if err := q.settled(ctx, now, &c.reserve, s, nil); err != nil {
		return err
	}
	sn.out.addReserve(c.sequence, now, a, &s.decision, s.sealed(q.d))
	return nil
}

// canWait says whether a question that was denied would be allowed within its wait.
func (sn *session) canWait(ctx context.Context, now limiter.Instant, s *scratch, wait time.Duration) bool {
	return s.decision.Verdict == limiter.Denied && s.decision.RetryAt <= sn.q.d.holdUntil(ctx, now, wait)
}

// hold lets a question wait beside the session, for the place of its ticket if it has
// one. It is false if it has to be answered at once.
func (sn *session) hold(ctx context.Context, c *sessionCall, wait time.Duration, ticket []byte) bool {
	d := sn.q.d
	if sn.held >= maxHeldInSession || !d.enter() {
		return false
	}
	sn.held++
	own := c.reserve.clone()
	if ticket != nil {
		own.ticket = slices.Clone(ticket)
	}
	sequence := c.sequence
	sn.waiting.Go(func() {
		defer d.leave()
		sn.wait(ctx, sequence, own, wait)
	})
	return true
}

// wait holds a question and sends its answer.
func (sn *session) wait(ctx context.Context, sequence uint64, c *reserveCall, wait time.Duration) {
	q := sn.q
	s := q.d.getScratch()
	a, now := q.d.loaded.Load(), q.d.now()
	var out sessionResponse
	err := sn.guarded(func() error {
		_, err := q.prepare(ctx, now, a, c, s)
		if err != nil {
			return err
		}
		if now, err = q.decide(ctx, now, a, c, s, wait); err != nil {
			return err
		}
		out.addReserve(sequence, now, a, &s.decision, s.sealed(q.d))
		return nil
	})
	if err != nil {
		out.out = out.out[:0]
		out.addError(sequence, err)
	}
	sn.mu.Lock()
	sn.held--
	sent := sn.sendOut() // was decided before
	if sent == nil {
		sent = sn.send(&out)
	}
	sn.mu.Unlock()
	if sent != nil && err == nil {
		q.d.giveBack(now, &s.decision)
	}
	q.d.putScratch(s)
}

// guarded turns a panic of f into an error.
func (sn *session) guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = doorman{d: sn.q.d}.caught(sn.stream.Context(), weirv1.QuotaService_Session_FullMethodName, p)
		}
	}()
	return f()
}

// clone copies c with all its strings, for a question that outlives its message.
func (c *reserveCall) clone() *reserveCall {
	own := *c
	own.attributes = make([]limiter.Entry, len(c.attributes))
	for i, a := range c.attributes {
		own.attributes[i] = limiter.Entry{Key: strings.Clone(a.Key), Value: strings.Clone(a.Value)}
	}
	own.ticket = slices.Clone(c.ticket)
	own.idempotencyKey = strings.Clone(c.idempotencyKey)
	own.domain = strings.Clone(c.domain)
	own.requestID = strings.Clone(c.requestID)
	return &own
}
