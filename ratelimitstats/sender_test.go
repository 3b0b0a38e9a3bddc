package ratelimitstats

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// statsd is a server that sums up the counters that it is sent.
type statsd struct {
	mu       sync.Mutex
	sums     map[string]uint64
	lines    []string
	received int // the longest datagram
}

func (d *statsd) take(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
	name, rest, _ := strings.Cut(line, ":")
	value, kind, _ := strings.Cut(rest, "|")
	if n, err := strconv.ParseUint(value, 10, 64); err == nil && kind == "c" {
		d.sums[name] += n
	}
}

func (d *statsd) sum(name string) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sums[name]
}

// listen takes connections at an address until the test closes what it returns.
func (d *statsd) listen(t *testing.T, addr string) (string, func()) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			serving.Go(func() {
				for lines := bufio.NewScanner(c); lines.Scan(); {
					d.take(lines.Text())
				}
			})
		}
	})
	return l.Addr().String(), func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		serving.Wait()
	}
}

// eventually waits for what has no other sign.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: it does not come about", what)
}

// start runs Stats with a sender until the test ends it.
func start(t *testing.T, o Options) (*Stats, func()) {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.NearLimitRatio, o.FlushInterval = DefaultNearLimitRatio, 5*time.Millisecond
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.bind(load(t, edge).Spec.Domains)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return s, func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

const userHits = "ratelimit.service.rate_limit.edge.user.total_hits"

// A server that comes late, goes away and comes back gets every hit, once.
func TestNothingIsLostWhileTheServerIsAway(t *testing.T) {
	d := &statsd{sums: map[string]uint64{}}
	addr, away := d.listen(t, "127.0.0.1:0")
	away()
	var log bytes.Buffer
	s, stop := start(t, Options{
		Statsd: &Statsd{Network: "tcp", Addr: addr},
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	for range 1000 {
		s.Descriptor(hit("edge", "user", 0, 1))
	}
	time.Sleep(20 * time.Millisecond) // a few attempts that fail
	_, away = d.listen(t, addr)
	eventually(t, "the hits from before it was there", func() bool { return d.sum(userHits) == 1000 })
	s.Descriptor(hit("edge", "user", 0, 5))
	eventually(t, "what follows", func() bool { return d.sum(userHits) == 1005 })

	away()
	eventually(t, "that it is noticed", func() bool {
		s.sending.Lock()
		defer s.sending.Unlock()
		conn := s.sink.(*sender).conn
		return conn == nil || conn.ended.Load()
	})
	s.Descriptor(hit("edge", "user", 0, 7))
	_, away = d.listen(t, addr)
	eventually(t, "what was counted meanwhile", func() bool { return d.sum(userHits) == 1012 })
	s.Descriptor(hit("edge", "user", 0, 1))
	stop()
	eventually(t, "what was counted last", func() bool { return d.sum(userHits) == 1013 })
	away()
	if n := strings.Count(log.String(), "metrics cannot be sent"); n != 1 {
		t.Errorf("it is said %d times that the server is away, want once:\n%s", n, log.String())
	}
}

// A server that takes connections and never reads holds nobody up who decides.
func TestAServerThatDoesNotRead(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, stop := start(t, Options{Statsd: &Statsd{Network: "tcp", Addr: l.Addr().String()}})
	for i := range 20_000 {
		e := hit("edge", "", 0, 1)
		e.Path = append([]byte("user_"), strconv.Itoa(i)...)
		s.Descriptor(e)
	}
	stop()
}

// Over UDP the same lines come in datagrams that no network splits.
func TestDatagrams(t *testing.T) {
	for name, options := range map[string]func(addr string) Options{
		"statsd": func(addr string) Options { return Options{Statsd: &Statsd{Network: "udp", Addr: addr}} },
		"dogstatsd": func(addr string) Options {
			return Options{DogStatsd: &DogStatsd{Addr: addr}, Tags: map[string]string{"env": "test"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			d := &statsd{sums: map[string]uint64{}}
			var reading sync.WaitGroup
			reading.Go(func() {
				for b := make([]byte, 64<<10); ; {
					n, _, err := conn.ReadFrom(b)
					if err != nil {
						return
					}
					d.mu.Lock()
					d.received = max(d.received, n)
					d.mu.Unlock()
					for line := range strings.Lines(string(b[:n])) {
						d.take(strings.TrimSuffix(strings.TrimSpace(line), "|#env:test"))
					}
				}
			})
			s, stop := start(t, options(conn.LocalAddr().String()))
			for i := range 100 {
				s.Descriptor(hit("edge", "user", 0, 1))
				s.Descriptor(hit("edge", "user_"+strconv.Itoa(i), 0, 1))
				s.Answered(time.Duration(i) * time.Millisecond)
			}
			stop()
			eventually(t, "the hits", func() bool {
				return d.sum(userHits) == 100 && d.sum("ratelimit.service.rate_limit.edge.user_99.total_hits") == 1
			})
			_ = conn.Close()
			reading.Wait()
			if d.received > datagramSize {
				t.Errorf("a datagram of %d bytes, want at most %d", d.received, datagramSize)
			}
		})
	}
}

// A line that is longer than a datagram should be goes alone, and whole.
func TestLinesAreNotCut(t *testing.T) {
	long := strings.Repeat("x", datagramSize) + "\n"
	short := strings.Repeat("y", 99) + "\n"
	w := newSender("udp4", "nowhere.invalid:1", plainLines(nil), time.Second, slog.New(slog.DiscardHandler))
	to := new(datagrams)
	w.conn = &connection{Conn: to}
	all := strings.Repeat(short, 20) + long + long + short
	if n, err := w.put([]byte(all)); n != len(all) || err != nil {
		t.Errorf("%d of %d bytes, %v", n, len(all), err)
	}
	for i, size := range []int{1400, 600, len(long), len(long), 100} {
		if i >= len(to.sizes) || to.sizes[i] != size {
			t.Fatalf("the datagrams have %d bytes, want %d as number %d", to.sizes, size, i)
		}
	}
}

// datagrams is a connection that notes the sizes of what is written.
type datagrams struct {
	net.Conn
	sizes []int
}

func (c *datagrams) Write(b []byte) (int, error) {
	c.sizes = append(c.sizes, len(b))
	return len(b), nil
}

// breaking is a connection that fails after some bytes.
type breaking struct {
	net.Conn
	left int
	got  bytes.Buffer
}

func (c *breaking) Write(b []byte) (int, error) {
	n := min(c.left, len(b))
	c.left -= n
	c.got.Write(b[:n])
	if n < len(b) {
		return n, io.ErrClosedPipe
	}
	return n, nil
}

func (c *breaking) SetWriteDeadline(time.Time) error { return nil }

func (c *breaking) Close() error { return nil }

// Wherever a connection breaks, the lines that went through whole are not sent again, and
// all others are.
func TestAWriteThatBreaks(t *testing.T) {
	var whole int
	for cut := 0; cut == 0 || cut < whole; cut++ {
		w := newSender("tcp", "nowhere.invalid:1", plainLines(nil), time.Second, slog.New(slog.DiscardHandler))
		s := newStats(DefaultNearLimitRatio, w)
		s.bind(load(t, edge).Spec.Domains)
		s.Descriptor(hit("edge", "user", 9, 3))
		s.Answered(time.Millisecond)
		first, second := &breaking{left: cut}, &breaking{left: 1 << 20}
		w.conn = &connection{Conn: first}
		w.flush(t.Context(), s, epoch)
		w.conn = &connection{Conn: second}
		w.flush(t.Context(), s, epoch.Add(time.Second))
		complete := first.got.String()
		complete = complete[:strings.LastIndexByte(complete, '\n')+1]
		all := complete + second.got.String()
		want(t, "cut after "+strconv.Itoa(cut), all, `
			ratelimit.service.rate_limit.edge.user.total_hits:3|c
			ratelimit.service.rate_limit.edge.user.over_limit:2|c
			ratelimit.service.rate_limit.edge.user.near_limit:1|c
			ratelimit_server.ShouldRateLimit.total_requests:1|c
			ratelimit_server.ShouldRateLimit.response_time:1|ms`)
		whole = len(all)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]Options{
		"no sink":     {},
		"two":         {Statsd: &Statsd{"tcp", "localhost:1"}, Writer: io.Discard},
		"no interval": {Writer: io.Discard, FlushInterval: -1},
		"a path":      {Prometheus: &Prometheus{Addr: "127.0.0.1:0", Path: "metrics"}},
		"an address":  {Prometheus: &Prometheus{Addr: "127.0.0.1:999999"}},
	} {
		if s, err := New(o); err == nil {
			_ = s.Close()
			t.Errorf("%s: no error", name)
		}
	}
}
