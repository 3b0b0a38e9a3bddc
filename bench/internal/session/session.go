// Package session drives weir.v1.QuotaService.Session: many decisions over few
// streams, pipelined.
package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-project/weir/bench/internal/rawcodec"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

const (
	// ttl is how long reservations live that nobody reports.
	ttl = 10 * time.Second
	// window is more than is ever under way, so that the server never waits.
	window = 1 << 24
)

// Options say how to drive.
type Options struct {
	// Addr is host:port of a server without TLS.
	Addr string
	// Streams is the number of streams, each on a connection of its own.
	Streams int
	// Pipeline is how many messages of a stream are under way at a time.
	Pipeline int
	// Calls is how many decisions a message asks for.
	Calls int
	// Duration is how long to drive.
	Duration time.Duration
	// Reports says that what was reserved is reported: half of the calls then are
	// reports. Otherwise all reserve.
	Reports bool
	// Bounce says that the server sends messages back as they are, so that nothing
	// can be said about its answers.
	Bounce bool
}

// Tally counts answers: the messages that they came in, the calls that they answer,
// and of which kind these were.
type Tally struct {
	Messages, Calls, Reserves, Allowed, Reports, Errors uint64
}

// Run drives until the time is over.
func Run(o Options) (Tally, time.Duration, error) {
	var (
		wg    sync.WaitGroup
		tally = make([]Tally, o.Streams)
		errs  = make([]error, o.Streams)
		start = time.Now()
	)
	for i := range o.Streams {
		wg.Go(func() { tally[i], errs[i] = drive(o, start.Add(o.Duration)) })
	}
	wg.Wait()
	var sum Tally
	for _, t := range tally {
		sum.Messages += t.Messages
		sum.Calls += t.Calls
		sum.Reserves += t.Reserves
		sum.Allowed += t.Allowed
		sum.Reports += t.Reports
		sum.Errors += t.Errors
	}
	return sum, time.Since(start), errors.Join(errs...)
}

// drive runs one stream: it keeps Pipeline messages under way and sends another
// for each that is answered.
func drive(o Options, end time.Time) (Tally, error) {
	var t Tally
	conn, err := grpc.NewClient(o.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window))
	if err != nil {
		return t, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Until(end)+10*time.Second)
	defer cancel()
	desc := &grpc.StreamDesc{StreamName: "Session", ServerStreams: true, ClientStreams: true}
	stream, err := conn.NewStream(ctx, desc, weirv1.QuotaService_Session_FullMethodName, grpc.ForceCodecV2(rawcodec.Codec{}))
	if err != nil {
		return t, err
	}
	e, err := newEncoder()
	if err != nil {
		return t, err
	}
	return t, t.exchange(stream, e, o, end)
}

func (t *Tally) exchange(stream grpc.ClientStream, e *encoder, o Options, end time.Time) error {
	var open []string
	send := func() error {
		var b []byte
		if o.Reports && len(open) >= o.Calls {
			b, open = e.message(o.Calls, open)
		} else {
			b, _ = e.message(o.Calls, nil)
		}
		return stream.SendMsg(&b)
	}
	for range o.Pipeline {
		if err := send(); err != nil {
			return err
		}
	}
	var answer []byte
	for underWay := o.Pipeline * o.Calls; underWay > 0; {
		if err := stream.RecvMsg(&answer); err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		n, err := t.take(answer, &open, o)
		if err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		// Answers to several messages may come in one.
		for underWay -= n; underWay <= (o.Pipeline-1)*o.Calls && time.Now().Before(end); underWay += o.Calls {
			if err := send(); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
	}
	return stream.CloseSend()
}

// take reads one message and returns how many calls it answers.
func (t *Tally) take(answer []byte, open *[]string, o Options) (calls int, err error) {
	t.Messages++
	if o.Bounce {
		t.Calls += uint64(o.Calls)
		return o.Calls, nil
	}
	before := t.answered()
	*open, err = t.answers(answer, *open)
	if !o.Reports {
		*open = (*open)[:0]
	}
	n := t.answered() - before
	t.Calls += n
	return int(n), err
}

func (t *Tally) answered() uint64 { return t.Reserves + t.Reports + t.Errors }
