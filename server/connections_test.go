package server

import (
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
	"github.com/weir-project/weir/store/memory"
)

// farConn comes from an address.
type farConn struct {
	net.Conn
	from net.Addr
}

func (c farConn) RemoteAddr() net.Addr { return c.from }

// farListener has connections from addresses to accept.
type farListener struct {
	net.Listener
	from []string
}

func (l *farListener) Accept() (net.Conn, error) {
	if len(l.from) == 0 {
		return nil, net.ErrClosed
	}
	ip := net.ParseIP(l.from[0])
	l.from = l.from[1:]
	near, _ := net.Pipe()
	return farConn{near, &net.TCPAddr{IP: ip, Port: 1000 + len(l.from)}}, nil
}

func TestAPeerHasSoManyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logBuffer{}
		refused := newRefusedConnections(newMetrics("test"), slog.New(slog.NewTextHandler(log, nil)), 2)
		far := &farListener{}
		l := newPeerBound(far, 2, refused.note)
		var open []net.Conn
		for i, step := range []struct {
			from    string
			closed  int // which connection ends first; -1: none
			refused float64
			lines   int
		}{
			{"192.0.2.1 192.0.2.1", -1, 0, 0},
			{"192.0.2.1 192.0.2.1 192.0.2.2", -1, 2, 1}, // the mapped address is the same one
			{"::ffff:192.0.2.1 2001:db8::1", -1, 3, 1},
			{"127.0.0.1 127.0.0.1 127.0.0.1 ::1 ::1 ::1", -1, 3, 1},
			{"192.0.2.1", 0, 3, 1},
			{"192.0.2.1 192.0.2.2", 0, 4, 1}, // closed twice, counted once
		} {
			if step.closed >= 0 {
				_ = open[step.closed].Close()
			}
			far.from = strings.Fields(step.from)
			for {
				c, err := l.Accept()
				if err != nil {
					break
				}
				open = append(open, c)
			}
			if n := testutil.ToFloat64(refused.count); n != step.refused {
				t.Errorf("step %d: %v refused, want %v", i, n, step.refused)
			}
			if n := strings.Count(log.String(), "too many connections"); n != step.lines {
				t.Errorf("step %d: %d lines, want %d", i, n, step.lines)
			}
		}
		time.Sleep(between)
		far.from = []string{"192.0.2.1"}
		if _, err := l.Accept(); err == nil || strings.Count(log.String(), "too many connections") != 2 {
			t.Errorf("an hour later: %v, and the log is\n%s", err, log)
		}
		for _, c := range open {
			_ = c.Close()
		}
		if len(l.open) != 0 {
			t.Errorf("all are closed, and %v are counted", l.open)
		}
	})
}

func TestAConnectionHasSoManyStreams(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		var sessions []grpc.BidiStreamingClient[weirv1.SessionRequest, weirv1.SessionResponse]
		for range maxStreams {
			s, err := w.quota.Session(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			sessions = append(sessions, s)
		}
		synctest.Wait()
		more, err := w.quota.Session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := more.Recv(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("one session more: %v", err)
		}
		s := logStream(t, w.conn)
		if err := s.RecvMsg(new(weirv1.SessionResponse)); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("an access log more: %v", err)
		}
		// Calls are not streams; and what ends leaves room.
		wantVerdict(t, w.reserve(call("acme", 1, 1)), weirv1.Verdict_VERDICT_ALLOW)
		for _, s := range sessions {
			if err := s.CloseSend(); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		openSession(t, w)
		synctest.Wait()
		if n := len(w.server.logs.streams.open); n != 1 {
			t.Errorf("%d connections have streams, want 1", n)
		}
	})
}

func TestSharedCountersAreSaidOnceAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New(limiter.Options{Shards: 1, MaxKeys: 4})
		t.Cleanup(store.Close)
		w := newWorld(t, Options{Store: store})
		t.Cleanup(w.end)
		lines := func() int { return strings.Count(w.log.String(), "the bound on keys is reached") }
		w.reserve(call("a", 1, 1))
		time.Sleep(time.Minute)
		if n := lines(); n != 0 {
			t.Fatalf("%d lines before there are too many:\n%s", n, w.log)
		}
		for range 3 {
			for _, org := range []string{"b", "c", "d", "e", "f", "g"} {
				w.reserve(call(org, 1, 1))
			}
			time.Sleep(20 * time.Minute)
		}
		if n := lines(); n != 1 {
			t.Errorf("%d lines in the first hour, want 1:\n%s", n, w.log)
		}
		time.Sleep(time.Minute)
		if n := lines(); n != 2 {
			t.Errorf("%d lines after it, want 2:\n%s", n, w.log)
		}
	})
}
