package server

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
)

// maxStreams bounds the open streams of one connection, over all services but the
// rate limit service: sessions, access logs, health watches. A proxy needs one or two
// for each of its workers.
const maxStreams = 1000

// peerBound is a listener that closes connections of a peer that has too many. Peers
// are told apart by their address; those on this machine are not counted, since all of
// them have the same one. It is safe for concurrent use.
type peerBound struct {
	net.Listener
	most    int
	refused func(netip.Addr)

	mu   sync.Mutex
	open map[netip.Addr]int // guarded by mu
}

func newPeerBound(l net.Listener, most int, refused func(netip.Addr)) *peerBound {
	return &peerBound{Listener: l, most: most, refused: refused, open: make(map[netip.Addr]int)}
}

// Accept implements net.Listener.
func (b *peerBound) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, counted := remote(c)
		if !counted {
			return c, nil
		}
		if b.enter(from) {
			return &peerConn{Conn: c, leave: sync.OnceFunc(func() { b.leave(from) })}, nil
		}
		_ = c.Close() // it is not wanted: nobody is to be told
		b.refused(from)
	}
}

func (b *peerBound) enter(from netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[from] >= b.most {
		return false
	}
	b.open[from]++
	return true
}

func (b *peerBound) leave(from netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[from]--; b.open[from] <= 0 {
		delete(b.open, from)
	}
}

// peerConn leaves its place when it is closed.
type peerConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *peerConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// remote returns the address that a connection comes from, and whether it counts.
func remote(c net.Conn) (netip.Addr, bool) {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	from := tcp.AddrPort().Addr().Unmap()
	return from, !from.IsLoopback()
}

// refusedConnections counts refused connections, and says once an hour that there are
// some. It is safe for concurrent use.
type refusedConnections struct {
	count prometheus.Counter
	log   *slog.Logger
	most  int

	mu   sync.Mutex
	said time.Time // guarded by mu
}

// between is how often a warning of the same kind is repeated at most.
const between = time.Hour

func newRefusedConnections(m *metrics, log *slog.Logger, most int) *refusedConnections {
	r := &refusedConnections{
		log: log, most: most,
		count: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_connections_refused_total", Help: "Connections closed at once, because their peer had too many.",
		}),
	}
	m.registry.MustRegister(r.count)
	return r
}

// note takes note of one.
func (r *refusedConnections) note(from netip.Addr) {
	r.count.Inc()
	now := time.Now()
	r.mu.Lock()
	silent := !r.said.IsZero() && now.Sub(r.said) < between
	if !silent {
		r.said = now
	}
	r.mu.Unlock()
	if !silent {
		r.log.Warn("a peer has too many connections, more of it are refused; if it is a gateway for many, raise --max-connections-per-peer",
			slog.String("peer", from.String()), slog.Int("max_connections_per_peer", r.most))
	}
}

// streamBound counts the open streams of each connection. It is safe for concurrent
// use.
type streamBound struct {
	mu   sync.Mutex
	open map[string]int // by connection; guarded by mu
}

func newStreamBound() *streamBound { return &streamBound{open: make(map[string]int)} }

// enter counts a stream until the function returned is called. The error says that its
// connection has too many.
func (b *streamBound) enter(stream grpc.ServerStream) (leave func(), err error) {
	key := connectionOf(stream)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[key] >= maxStreams {
		return nil, &fault{
			reason: overloaded, got: fmt.Sprintf("%d streams are open on this connection already", maxStreams),
			want: "the caller to send more over those: one carries any number of messages",
		}
	}
	b.open[key]++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.open[key]--; b.open[key] <= 0 {
			delete(b.open, key)
		}
	}, nil
}

// connectionOf names the connection of a stream. All streams of a connection have the
// same peer, and no other has it while that one is open.
func connectionOf(stream grpc.ServerStream) string {
	p, ok := peer.FromContext(stream.Context())
	if !ok || p.Addr == nil {
		return ""
	}
	return p.Addr.String()
}
