package xds

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/anypb"
)

// pipes connect a client and a server inside a bubble of virtual time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	// hole swallows all that the connections of now say.
	hole atomic.Pointer[atomic.Bool]
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.hole.Store(new(atomic.Bool))
	return p
}

func (p *pipes) dial(ctx context.Context, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	hole := new(atomic.Bool)
	p.hole.Store(hole)
	select {
	case p.conns <- far:
		return &holed{near, hole}, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// holed is a connection whose packets may get lost on the way.
type holed struct {
	net.Conn
	hole *atomic.Bool
}

func (h *holed) Write(b []byte) (int, error) {
	if h.hole.Load() {
		return len(b), nil
	}
	return h.Conn.Write(b)
}

// inBubble gives f a client that dials with dial, on virtual time.
func inBubble(t *testing.T, o Options, sink func() Sink, dial func(context.Context, string) (net.Conn, error), f func(*Client)) {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	o.Server, o.NodeID = "control:1", "node-1"
	c, err := New(o, sink())
	if err != nil {
		t.Fatal(err)
	}
	c.dial = dial
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	f(c)
	cancel()
	<-done
}

// pass lets virtual time pass, and waits until nothing is going on.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// refusing is a network with nobody there. It notes when somebody asked.
func refusing(at *[]time.Duration) func(context.Context, string) (net.Conn, error) {
	begun := time.Now()
	return func(context.Context, string) (net.Conn, error) {
		*at = append(*at, time.Since(begun))
		return nil, errors.New("connection refused")
	}
}

// TestWaitsGrow: a server that is not there is asked after 3 s, and then after twice as
// long each time, up to a minute.
func TestWaitsGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		inBubble(t, Options{Steady: true}, func() Sink { return newForce() }, refusing(&at), func(*Client) {
			pass(5 * time.Minute)
		})
		var want []time.Duration
		for _, s := range []int{0, 3, 3 + 6, 9 + 12, 21 + 24, 45 + 48, 93 + 60, 153 + 60, 213 + 60} {
			want = append(want, time.Duration(s)*time.Second)
		}
		if !slices.Equal(at, want) {
			t.Errorf("asked at %v, want %v", at, want)
		}
	})
}

// TestWaitsOfStreams: a server that ends each stream is asked again after 10 s, 20 s, 40 s
// and then every minute; after a stream that worked, after 10 s again.
func TestWaitsOfStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		var at []int // of the server's goroutine, until nothing is going on
		p := &plane{t: t}
		p.script = func(s adsStream) error {
			at = append(at, int(time.Since(begun)/time.Second))
			request, err := s.Recv()
			if err != nil || len(at) != 6 {
				return err
			}
			if err := s.Send(&discoveryv3.DiscoveryResponse{VersionInfo: "1", Nonce: "1", TypeUrl: request.GetTypeUrl()}); err != nil {
				return err
			}
			_, err = s.Recv()
			return err
		}
		door := newPipes()
		p.serve(door)
		inBubble(t, Options{Steady: true}, func() Sink { return newForce() }, door.dial, func(*Client) {
			pass(270 * time.Second)
		})
		p.stop()
		if want := []int{0, 10, 30, 70, 130, 190, 200, 220, 260}; !slices.Equal(at, want) {
			t.Errorf("streams began at %v s, want %v", at, want)
		}
	})
}

// TestJitter: by default each wait is drawn from the upper half of what it could be.
func TestJitter(t *testing.T) {
	o, err := Options{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	different := false
	for failures, full := range map[int]time.Duration{1: 10 * time.Second, 2: 20 * time.Second, 3: 40 * time.Second, 4: time.Minute, 5000: time.Minute} {
		first := o.wait(failures, o.InitialInterval)
		for range 1000 {
			d := o.wait(failures, o.InitialInterval)
			if d < full/2 || d > full {
				t.Fatalf("a wait of %s after %d failures, want from %s to %s", d, failures, full/2, full)
			}
			different = different || d != first
		}
	}
	if !different {
		t.Error("all waits were the same")
	}
}

// TestBlackHole: a server that is gone without a word is noticed, and left for another
// connection. One that finds that it is asked too often whether it is there, as servers
// of gRPC do unless they are told otherwise, is asked less often.
func TestBlackHole(t *testing.T) {
	for name, c := range map[string]struct {
		options []grpc.ServerOption
		before  int64         // streams in the first two hours
		within  time.Duration // of the loss, it is noticed
	}{
		"patient":   {[]grpc.ServerOption{grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 30 * time.Second})}, 1, 100 * time.Second},
		"impatient": {nil, 4, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var streams atomic.Int64
				p := &plane{t: t, options: c.options}
				p.script = func(s adsStream) error {
					streams.Add(1)
					<-s.Context().Done()
					return nil
				}
				door := newPipes()
				p.serve(door)
				inBubble(t, Options{Steady: true}, func() Sink { return newForce() }, door.dial, func(*Client) {
					pass(2 * time.Hour)
					if n := streams.Load(); n != c.before {
						t.Errorf("%d streams to a server that is silent and there, want %d", n, c.before)
					}
					door.hole.Load().Store(true)
					pass(c.within)
					if n := streams.Load(); n != c.before+1 {
						t.Errorf("%d streams %s after the server was gone, want %d", n, c.within, c.before+1)
					}
				})
				p.stop()
			})
		})
	}
}

// TestRefusalsArePaced: a server that repeats at once what was refused does not keep
// either side busy, and what it mends is taken soon.
func TestRefusalsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refusals atomic.Int64
		var mended atomic.Bool
		p := &plane{t: t}
		p.script = func(s adsStream) error {
			for {
				request, err := s.Recv()
				if err != nil {
					return err
				}
				r := &discoveryv3.DiscoveryResponse{VersionInfo: "2", Nonce: "n", TypeUrl: typeURL, Resources: []*anypb.Any{{}}}
				switch {
				case mended.Load() && request.GetVersionInfo() == "3":
					continue
				case mended.Load():
					r = &discoveryv3.DiscoveryResponse{VersionInfo: "3", Nonce: "n", TypeUrl: typeURL}
				case request.GetErrorDetail() != nil:
					refusals.Add(1)
				}
				if err := s.Send(r); err != nil {
					return err
				}
			}
		}
		door := newPipes()
		p.serve(door)
		f := newForce()
		inBubble(t, Options{}, func() Sink { return f }, door.dial, func(*Client) {
			pass(10 * time.Second)
			if n := refusals.Load(); n < 3 || n > 6 {
				t.Errorf("%d refusals in 10 s, want from 3 to 6", n)
			}
			pass(10 * time.Minute)
			if n := refusals.Load(); n > 50 {
				t.Errorf("%d refusals in 10 minutes, want at most 50", n)
			}
			mended.Store(true)
			pass(16 * time.Second)
			select {
			case <-f.applied:
			default:
				t.Error("what was mended is not in force 16 s later")
			}
		})
		p.stop()
	})
}
