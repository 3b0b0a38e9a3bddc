// Package h2client asks a RateLimitService over gRPC at the level of HTTP/2
// frames, so cheaply that the server is what a measurement measures, and with a
// new message for each call, which h2load cannot. It runs in a closed loop, each
// stream asking again as soon as it is answered, or in an open one, where calls are
// due at a steady rate whatever the server does and latency counts from when a call
// was due.
package h2client

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-project/weir/bench/internal/stats"
)

// Options say how to ask.
type Options struct {
	// Addr is host:port of a server without TLS.
	Addr string
	// Path is the method's.
	Path string
	// Conns is the number of connections.
	Conns int
	// Streams is the number of open calls a connection: exactly so many in a
	// closed loop, at most in an open one.
	Streams int
	// Duration is how long to ask; 0 means until Requests.
	Duration time.Duration
	// Requests is the number of calls in a closed loop if Duration is 0.
	Requests int
	// Rate is the number of calls a second, over all connections; 0 means a closed
	// loop.
	Rate float64
	// Timeout is sent as grpc-timeout unless it is empty, for example "250m".
	Timeout string
	// Next returns, for connection i, what appends the next call's body to a
	// slice. Each of these functions is called by one goroutine at a time.
	Next func(i int) func([]byte) []byte
}

// Tally counts answers.
type Tally struct {
	Sent, OK, OverLimit, Failed uint64
}

func (t *Tally) add(code uint64) {
	switch code {
	case 1:
		t.OK++
	case 2:
		t.OverLimit++
	default:
		t.Failed++
	}
}

// Result is what a run saw.
type Result struct {
	Tally
	// Elapsed is from the first call to the last answer.
	Elapsed time.Duration
	// Latency is from when a call was due to its answer.
	Latency stats.Histogram
}

// Run asks until the time is over or the requests are answered.
func Run(o Options) (*Result, error) {
	conns := make([]*conn, 0, o.Conns)
	defer func() {
		for _, c := range conns {
			_ = c.net.Close()
		}
	}()
	for i := range o.Conns {
		c, err := dial(o, o.Next(i))
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", o.Addr, err)
		}
		conns = append(conns, c)
	}
	start := time.Now()
	drive(o, conns, start)
	r := &Result{Elapsed: time.Since(start)}
	var errs []error
	for _, c := range conns {
		c.mu.Lock()
		r.Sent += c.tally.Sent
		r.OK += c.tally.OK
		r.OverLimit += c.tally.OverLimit
		r.Failed += c.tally.Failed
		r.Latency.Merge(&c.latency)
		if c.failure != nil {
			errs = append(errs, c.failure)
		}
		c.mu.Unlock()
	}
	return r, errors.Join(errs...)
}

// drive runs the loop and returns when every call has its answer, or none more
// will come.
func drive(o Options, conns []*conn, start time.Time) {
	var left atomic.Int64
	left.Store(int64(o.Requests))
	end := start.Add(o.Duration)
	if o.Rate == 0 {
		for _, c := range conns {
			c.again = func() (time.Time, bool) {
				now := time.Now()
				if o.Duration > 0 {
					return now, now.Before(end)
				}
				return now, left.Add(-1) >= 0
			}
		}
	}
	var readers sync.WaitGroup
	for _, c := range conns {
		readers.Go(c.read)
	}
	if o.Rate == 0 {
		fill(o, conns)
		time.Sleep(time.Until(end))
	} else {
		pace(o, conns, start, end)
	}
	settle(conns)
	for _, c := range conns {
		c.mu.Lock()
		c.closing = true
		c.tally.Failed += uint64(len(c.open) + len(c.queue))
		c.mu.Unlock()
		_ = c.net.Close()
	}
	readers.Wait()
}

// fill starts the closed loop.
func fill(o Options, conns []*conn) {
	for _, c := range conns {
		c.mu.Lock()
		for range o.Streams {
			if due, more := c.again(); more {
				c.enqueue(due)
			}
		}
		c.fail(c.out.Flush())
		c.mu.Unlock()
	}
}

// pace starts calls, over the connections in turn, whenever one is due. It sleeps
// in the kernel on a thread of its own: the runtime's timers round to milliseconds.
func pace(o Options, conns []*conn, start, end time.Time) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The thread that sleeps keeps its right to run Go for up to 10 ms: with only one,
	// as on one core, the readers would wait for that, and latencies would be its.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0))))
	interval := float64(time.Second) / o.Rate
	for i := 0; ; i++ {
		due := start.Add(time.Duration(float64(i) * interval))
		if due.After(end) {
			return
		}
		if d := time.Until(due); d > 0 {
			ts := syscall.NsecToTimespec(int64(d))
			_ = syscall.Nanosleep(&ts, nil)
		}
		c := conns[i%len(conns)]
		c.mu.Lock()
		c.enqueue(due)
		c.fail(c.out.Flush())
		c.mu.Unlock()
	}
}

// grace is how long answers may take after the last call.
const grace = 5 * time.Second

// settle waits until nothing is open, a connection has failed, or grace is over.
func settle(conns []*conn) {
	var last uint64
	quiet := time.Now()
	for time.Since(quiet) < grace {
		open, failed, sent := 0, false, uint64(0)
		for _, c := range conns {
			c.mu.Lock()
			open += len(c.open) + len(c.queue)
			failed = failed || c.failure != nil
			sent += c.tally.Sent
			c.mu.Unlock()
		}
		if open == 0 || failed {
			return
		}
		if sent != last {
			last, quiet = sent, time.Now()
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// overallCode returns the first field of a RateLimitResponse; 0 if it has none, or
// if b is not one.
func overallCode(b []byte) uint64 {
	var code uint64
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0
		}
		if num == 1 && typ == protowire.VarintType {
			v, m := protowire.ConsumeVarint(b[n:])
			if m < 0 {
				return 0
			}
			code = v
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return 0
		}
		b = b[n+m:]
	}
	return code
}
