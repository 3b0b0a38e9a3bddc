package ratelimitstats

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The patience of a sender.
const (
	dialTimeout  = 3 * time.Second
	writeTimeout = 5 * time.Second
	lastTimeout  = time.Second // of all that is sent in the end
	// complainEvery is how often it is said that a server cannot be reached.
	complainEvery = 10 * time.Minute
	sweepEvery    = time.Minute
)

// The sizes of what is written at once. A datagram fits into a frame of Ethernet.
const (
	bufferSize   = 64 << 10
	datagramSize = 1432
)

// sender sends to a statsd server, over TCP or UDP. What it cannot send stays where it is
// counted, and is sent together with what follows.
type sender struct {
	network, addr string
	lines         *lines
	every         time.Duration
	log           *slog.Logger

	conn       *connection
	complained time.Time
	swept      time.Time
	readings   []reading
	buffer     []byte
	parts      []part
	watching   sync.WaitGroup
}

// part is a reading that has been written into the buffer up to end.
type part struct {
	reading
	end int
}

// connection is one to a server that says nothing: when it can be read, it has ended.
type connection struct {
	net.Conn
	ended atomic.Bool
}

func newSender(network, addr string, l *lines, every time.Duration, log *slog.Logger) *sender {
	return &sender{network: network, addr: addr, lines: l, every: every, log: log}
}

func (w *sender) close() error { return nil }

// run implements sink.
func (w *sender) run(ctx context.Context, s *Stats) error {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			w.flush(ctx, s, now)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTimeout)
			defer cancel()
			w.flush(last, s, time.Now())
			w.hangUp()
			w.watching.Wait()
			return nil
		}
	}
}

// flush sends what was counted since it was sent last, as far as the server takes it.
func (w *sender) flush(ctx context.Context, s *Stats, now time.Time) {
	s.sending.Lock()
	defer s.sending.Unlock()
	if err := w.send(ctx, s, now); err != nil {
		w.hangUp()
		w.complain(now, err)
	}
	if now.Sub(w.swept) >= sweepEvery {
		w.swept = now
		s.sweep(now, func(*series) {})
	}
}

func (w *sender) send(ctx context.Context, s *Stats, now time.Time) error {
	if err := w.dial(ctx); err != nil {
		return err
	}
	w.buffer, w.parts = w.buffer[:0], w.parts[:0]
	w.readings = s.read(now, w.readings[:0])
	for _, r := range w.readings {
		from := len(w.buffer)
		w.buffer = w.lines.reading(w.buffer, r)
		if len(w.buffer) > bufferSize && from > 0 {
			// The last reading does not fit any more: it begins the next write.
			if err := w.write(ctx, s, from); err != nil {
				return err
			}
		}
		w.parts = append(w.parts, part{r, len(w.buffer)})
	}
	if n, worth := s.gauge(); worth {
		w.buffer = w.lines.number(w.buffer, serviceRoot, runtimeSeries, n, "g")
	}
	return w.write(ctx, s, len(w.buffer))
}

// write writes the buffer up to end, and notes which of its parts were sent.
func (w *sender) write(ctx context.Context, s *Stats, end int) error {
	if end == 0 {
		return nil
	}
	deadline := time.Now().Add(writeTimeout)
	last, bounded := ctx.Deadline()
	if bounded && last.Before(deadline) {
		deadline = last
	}
	if err := w.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	if conn := w.conn; !bounded {
		// Who stops does not wait for a server that does not read.
		defer context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Now()) })()
	}
	n, err := w.put(w.buffer[:end])
	for _, p := range w.parts {
		if p.end <= n {
			s.done(p.reading)
		}
	}
	w.buffer = append(w.buffer[:0], w.buffer[end:]...)
	w.parts = w.parts[:0]
	return err
}

// put writes lines, and returns how many bytes of them were written: at once to a stream,
// and else in datagrams of whole lines.
func (w *sender) put(b []byte) (int, error) {
	if !strings.HasPrefix(w.network, "udp") {
		return w.conn.Write(b)
	}
	done := 0
	for done < len(b) {
		next := b[done:]
		if len(next) > datagramSize {
			cut := bytes.LastIndexByte(next[:datagramSize], '\n')
			if cut < 0 { // one line that is longer goes alone
				cut = bytes.IndexByte(next, '\n')
			}
			next = next[:cut+1]
		}
		if _, err := w.conn.Write(next); err != nil {
			return done, err
		}
		done += len(next)
	}
	return done, nil
}

// dial connects, unless there is a connection that has not ended.
func (w *sender) dial(ctx context.Context) error {
	if w.conn != nil && !w.conn.ended.Load() {
		return nil
	}
	w.hangUp()
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, w.network, w.addr)
	if err != nil {
		return err
	}
	c := &connection{Conn: conn}
	w.conn = c
	w.watching.Go(func() {
		// A server that goes away is noticed here, before anything is written to nobody.
		_, _ = io.Copy(io.Discard, c)
		c.ended.Store(true)
	})
	return nil
}

func (w *sender) hangUp() {
	if w.conn != nil {
		_ = w.conn.Close() // nothing is written any more; there is nobody to tell
		w.conn = nil
	}
}

func (w *sender) complain(now time.Time, err error) {
	if !w.complained.IsZero() && now.Sub(w.complained) < complainEvery {
		return
	}
	w.complained = now
	w.log.Warn("metrics cannot be sent: they are kept until they can be",
		slog.String("network", w.network), slog.String("address", w.addr), slog.Any("error", err))
}

// writer writes what a sender would send, for whoever reads it.
type writer struct {
	to    io.Writer
	lines *lines
	every time.Duration
	log   *slog.Logger

	swept    time.Time
	readings []reading
	buffer   []byte
	failed   bool
}

func (w *writer) close() error { return nil }

// run implements sink.
func (w *writer) run(ctx context.Context, s *Stats) error {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			w.flush(s, now)
		case <-ctx.Done():
			w.flush(s, time.Now())
			return nil
		}
	}
}

func (w *writer) flush(s *Stats, now time.Time) {
	s.sending.Lock()
	defer s.sending.Unlock()
	w.buffer = w.buffer[:0]
	w.readings = s.read(now, w.readings[:0])
	for _, r := range w.readings {
		w.buffer = w.lines.reading(w.buffer, r)
		s.done(r)
	}
	if n, worth := s.gauge(); worth {
		w.buffer = w.lines.number(w.buffer, serviceRoot, runtimeSeries, n, "g")
	}
	if now.Sub(w.swept) >= sweepEvery {
		w.swept = now
		s.sweep(now, func(*series) {})
	}
	if len(w.buffer) == 0 {
		return
	}
	if _, err := w.to.Write(w.buffer); err != nil && !w.failed {
		w.failed = true
		w.log.Warn("metrics cannot be written", slog.Any("error", err))
	}
}
