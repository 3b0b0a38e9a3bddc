package h2client

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/weir-project/weir/bench/internal/stats"
)

const (
	// receiveWindow is what the server may send before it is told to go on.
	receiveWindow = 1 << 30
	// initialSendWindow is what may be sent before the server grants more.
	initialSendWindow = 65535
)

// conn is one connection. Whoever touches its fields holds mu, except that only
// the reader uses reader and decoder.
type conn struct {
	mu         sync.Mutex
	net        net.Conn
	out        *bufio.Writer
	framer     *http2.Framer // reads are the reader's
	reader     *bufio.Reader
	decoder    *hpack.Decoder
	headers    []hpack.HeaderField
	encoder    *hpack.Encoder
	block      bytes.Buffer
	body       []byte
	next       func([]byte) []byte
	nextStream uint32
	sendWindow int
	received   uint32
	maxOpen    int
	open       map[uint32]*call
	spare      []*call
	queue      []time.Time // when the calls that wait for room were due
	failure    error
	closing    bool // no more answers are expected

	// again says when the call that follows a finished one is due, if one does.
	again   func() (time.Time, bool)
	tally   Tally
	latency stats.Histogram
	status  string // grpc-status of the block being decoded
}

// call is one open call.
type call struct {
	due     time.Time
	message []byte
}

func dial(o Options, next func([]byte) []byte) (*conn, error) {
	nc, err := net.Dial("tcp", o.Addr)
	if err != nil {
		return nil, err
	}
	c := &conn{
		net: nc, out: bufio.NewWriterSize(nc, 64<<10), reader: bufio.NewReaderSize(nc, 64<<10),
		nextStream: 1, sendWindow: initialSendWindow, maxOpen: o.Streams, next: next,
		open: make(map[uint32]*call, o.Streams),
		headers: []hpack.HeaderField{
			{Name: ":method", Value: "POST"},
			{Name: ":scheme", Value: "http"},
			{Name: ":path", Value: o.Path},
			{Name: ":authority", Value: o.Addr},
			{Name: "content-type", Value: "application/grpc"},
			{Name: "te", Value: "trailers"},
		},
	}
	if o.Timeout != "" {
		c.headers = append(c.headers, hpack.HeaderField{Name: "grpc-timeout", Value: o.Timeout})
	}
	c.framer = http2.NewFramer(c.out, c.reader)
	c.framer.SetReuseFrames()
	c.encoder = hpack.NewEncoder(&c.block)
	c.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == "grpc-status" {
			c.status = f.Value
		}
	})
	return c, c.greet()
}

// greet sends the preface and windows so large that the server never waits, and
// waits for the server's settings, which bound the number of streams.
func (c *conn) greet() error {
	if _, err := c.out.WriteString(http2.ClientPreface); err != nil {
		return err
	}
	err := c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: receiveWindow},
		http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	if err != nil {
		return err
	}
	if err := c.framer.WriteWindowUpdate(0, receiveWindow-initialSendWindow); err != nil {
		return err
	}
	if err := c.out.Flush(); err != nil {
		return err
	}
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		c.handle(f)
		if _, ok := f.(*http2.SettingsFrame); ok || c.failure != nil {
			c.fail(c.out.Flush())
			return c.failure
		}
	}
}

// enqueue asks for a call that was due at an instant. It is sent at once if there
// is room, but not flushed.
func (c *conn) enqueue(due time.Time) {
	c.queue = append(c.queue, due)
	c.drain()
}

// drain sends what waits, as far as streams and window allow.
func (c *conn) drain() {
	sent := 0
	for sent < len(c.queue) && len(c.open) < c.maxOpen && c.failure == nil {
		if len(c.body) == 0 {
			c.body = c.next(c.body)
		}
		if len(c.body) > c.sendWindow {
			break
		}
		c.send(c.queue[sent])
		c.body = c.body[:0]
		sent++
	}
	if sent > 0 {
		c.queue = c.queue[:copy(c.queue, c.queue[sent:])]
	}
}

// send writes one call.
func (c *conn) send(due time.Time) {
	c.block.Reset()
	for _, f := range c.headers {
		if err := c.encoder.WriteField(f); err != nil {
			c.fail(err)
			return
		}
	}
	id := c.nextStream
	c.nextStream += 2
	c.sendWindow -= len(c.body)
	cl := c.newCall()
	cl.due = due
	c.open[id] = cl
	c.tally.Sent++
	if err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block.Bytes(), EndHeaders: true}); err != nil {
		c.fail(err)
		return
	}
	if err := c.framer.WriteData(id, true, c.body); err != nil {
		c.fail(err)
	}
}

func (c *conn) newCall() *call {
	if n := len(c.spare); n > 0 {
		cl := c.spare[n-1]
		c.spare = c.spare[:n-1]
		return cl
	}
	return &call{}
}

func (c *conn) fail(err error) {
	if c.failure == nil {
		c.failure = err
	}
}

// read handles frames until the connection ends or fails, flushing what they led
// to whenever no more of them are at hand.
func (c *conn) read() {
	for {
		f, err := c.framer.ReadFrame()
		c.mu.Lock()
		switch {
		case err == nil:
			c.handle(f)
		case !c.closing:
			c.fail(err)
		}
		if c.failure == nil && c.reader.Buffered() == 0 && c.out.Buffered() > 0 {
			c.fail(c.out.Flush())
		}
		done := err != nil || c.failure != nil
		c.mu.Unlock()
		if done {
			return
		}
	}
}

// handle does what f asks for.
func (c *conn) handle(f http2.Frame) {
	switch f := f.(type) {
	case *http2.DataFrame:
		c.handleData(f)
	case *http2.HeadersFrame:
		c.handleHeaders(f)
	case *http2.RSTStreamFrame:
		c.finish(f.StreamID, false)
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.sendWindow += int(f.Increment)
			c.drain()
		}
	case *http2.SettingsFrame:
		if !f.IsAck() {
			c.handleSettings(f)
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			c.fail(c.framer.WritePing(true, f.Data))
		}
	case *http2.GoAwayFrame:
		c.fail(fmt.Errorf("the server closes the connection: %v %q", f.ErrCode, f.DebugData()))
	}
}

func (c *conn) handleSettings(f *http2.SettingsFrame) {
	if v, ok := f.Value(http2.SettingMaxConcurrentStreams); ok {
		c.maxOpen = min(c.maxOpen, int(v))
	}
	c.fail(c.framer.WriteSettingsAck())
}

func (c *conn) handleData(f *http2.DataFrame) {
	if cl := c.open[f.StreamID]; cl != nil {
		cl.message = append(cl.message, f.Data()...)
	}
	c.received += f.Length
	if c.received > receiveWindow/4 {
		c.fail(c.framer.WriteWindowUpdate(0, c.received))
		c.received = 0
	}
}

func (c *conn) handleHeaders(f *http2.HeadersFrame) {
	if !f.HeadersEnded() {
		c.fail(fmt.Errorf("a header block in several frames: not understood here"))
		return
	}
	c.status = ""
	if _, err := c.decoder.Write(f.HeaderBlockFragment()); err != nil {
		c.fail(err)
		return
	}
	c.fail(c.decoder.Close())
	if f.StreamEnded() {
		c.finish(f.StreamID, c.status == "0")
	}
}

// finish ends the call of a stream and starts the next one, if there is one.
func (c *conn) finish(id uint32, ok bool) {
	cl := c.open[id]
	if cl == nil {
		return
	}
	delete(c.open, id)
	c.count(cl, ok)
	cl.message = cl.message[:0]
	c.spare = append(c.spare, cl)
	if c.again != nil {
		if due, more := c.again(); more {
			c.queue = append(c.queue, due)
		}
	}
	c.drain()
}

func (c *conn) count(cl *call, ok bool) {
	c.latency.Record(time.Since(cl.due))
	body, framed := unframe(cl.message)
	switch {
	case !ok || !framed:
		c.tally.Failed++
	default:
		c.tally.add(overallCode(body))
	}
}

// unframe returns the message of a gRPC body that holds just one.
func unframe(b []byte) ([]byte, bool) {
	if len(b) < 5 || b[0] != 0 || int(binary.BigEndian.Uint32(b[1:5])) != len(b)-5 {
		return nil, false
	}
	return b[5:], true
}
