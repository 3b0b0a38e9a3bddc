package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// wire is an HTTP/2 client that sends what it likes.
type wire struct {
	t      *testing.T
	conn   net.Conn
	framer *http2.Framer
	header bytes.Buffer
	hpack  *hpack.Encoder
	frames chan wireFrame
}

// wireFrame is what came back: the header fields of a stream, or that the connection
// has ended.
type wireFrame struct {
	stream uint32
	fields map[string]string
	reset  bool
	goAway bool
	err    error
}

func newWire(t *testing.T, w *world) *wire {
	t.Helper()
	conn, err := w.grpcDoor.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	r := &wire{t: t, conn: conn, framer: http2.NewFramer(conn, conn), frames: make(chan wireFrame, 1000)}
	r.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.hpack = hpack.NewEncoder(&r.header)
	go r.read()
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	if err := r.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *wire) read() {
	defer close(r.frames)
	for {
		f, err := r.framer.ReadFrame()
		if err != nil {
			r.frames <- wireFrame{err: err}
			return
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			fields := map[string]string{}
			for _, h := range f.Fields {
				fields[h.Name] = h.Value
			}
			r.frames <- wireFrame{stream: f.StreamID, fields: fields}
		case *http2.RSTStreamFrame:
			r.frames <- wireFrame{stream: f.StreamID, reset: true}
		case *http2.GoAwayFrame:
			r.frames <- wireFrame{goAway: true}
		}
	}
}

// open starts a call.
func (r *wire) open(stream uint32, path string, more ...string) {
	r.t.Helper()
	r.header.Reset()
	fields := append([]string{
		":method", "POST", ":scheme", "http", ":path", path, ":authority", "weir",
		"content-type", "application/grpc", "te", "trailers",
	}, more...)
	for i := 0; i < len(fields); i += 2 {
		if err := r.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			r.t.Fatal(err)
		}
	}
	// What is too long is refused while it is being sent.
	_ = r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: r.header.Bytes(), EndHeaders: true})
}

// call makes a call with a message as it is, and returns its status.
func (r *wire) call(stream uint32, path string, message []byte) (code, text string) {
	r.t.Helper()
	r.open(stream, path)
	r.data(stream, frameOf(message), true)
	return r.status(stream)
}

func frameOf(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

func (r *wire) data(stream uint32, b []byte, end bool) {
	r.t.Helper()
	for {
		n := min(len(b), 16<<10)
		if err := r.framer.WriteData(stream, end && n == len(b), b[:n]); err != nil {
			r.t.Fatal(err)
		}
		if b = b[n:]; len(b) == 0 {
			return
		}
		synctest.Wait() // the server has taken it in, and there is room for more
	}
}

// status waits for the end of a call.
func (r *wire) status(stream uint32) (code, text string) {
	r.t.Helper()
	for f := range r.frames {
		switch {
		case f.err != nil:
			r.t.Fatalf("the connection ended: %v", f.err)
		case f.stream == stream && f.fields["grpc-status"] != "":
			return f.fields["grpc-status"], f.fields["grpc-message"]
		case f.stream == stream && f.fields[":status"] != "" && f.fields[":status"] != "200":
			return "HTTP " + f.fields[":status"], ""
		case f.stream == stream && f.reset:
			return "reset", ""
		}
	}
	r.t.Fatal("the connection ended")
	return "", ""
}

const reservePath = "/weir.v1.QuotaService/Reserve"

func TestWhatIsNoCallIsRefused(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		good, err := proto.Marshal(call("acme", 1, 1))
		if err != nil {
			t.Fatal(err)
		}
		r := newWire(t, w)
		for i, c := range []struct {
			name, path string
			message    []byte
			code, text string
		}{
			{"a good call", reservePath, good, "0", ""},
			{"a path without its slash", reservePath[1:], good, "12", "malformed method name"},
			{"no path", "", good, "12", ""},
			{"an unknown method", "/weir.v1.QuotaService/Nothing", good, "12", "unknown method Nothing"},
			{"an unknown service", "/weir.v2.QuotaService/Reserve", good, "12", "unknown service weir.v2.QuotaService"},
			{"bytes that are no message", reservePath, []byte{0xff, 0xff}, "3", "expected a weir.v1.ReserveRequest"},
			{"text that is not UTF-8", reservePath, []byte{10<<3 | 2, 1, 0xff}, "3", "expected a weir.v1.ReserveRequest"},
			{"a long message", reservePath, make([]byte, maxMessage+1), "8", "message: got 65537 bytes, expected at most 65536"},
			{"a message of 64 KiB that is none", reservePath, make([]byte, maxMessage), "3", "message: got bytes that do not parse"},
			{"an enormous message for a session", "/weir.v1.QuotaService/Session", make([]byte, maxMessage+1), "8", "message: got 65537 bytes"},
			{"a session of no messages", "/weir.v1.QuotaService/Session", []byte{0xff}, "3", "expected a weir.v1.SessionRequest"},
			{"a good call after all this", reservePath, good, "0", ""},
		} {
			code, text := r.call(uint32(2*i+1), c.path, c.message)
			if code != c.code || !strings.Contains(text, c.text) {
				t.Errorf("%s: status %s %q, want %s with %q", c.name, code, text, c.code, c.text)
			}
		}
		if used := w.used("acme", "requests"); used != 2 {
			t.Errorf("%d requests are used, want the 2 good ones", used)
		}
	})
}

func TestALengthThatLiesIsRefused(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		r := newWire(t, w)
		r.open(1, reservePath)
		r.data(1, []byte{0, 0xff, 0xff, 0xff, 0xff}, false)
		if code, text := r.status(1); code != "8" {
			t.Errorf("status %s %q, want 8", code, text)
		}
	})
}

func TestLongHeadersAreRefused(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		r := newWire(t, w)
		r.open(1, reservePath, "x-long", strings.Repeat("a", 17<<10))
		f := <-r.frames
		if f.fields["grpc-status"] == "0" {
			t.Errorf("a call with 17 KiB of headers is served: %v", f)
		}
		// Others are served all the same.
		wantVerdict(t, w.reserve(call("acme", 1, 1)), weirv1.Verdict_VERDICT_ALLOW)
	})
}

func TestSlowClientsAreCut(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		// One that says nothing at all, on either port; one that never ends its headers.
		silent, err := w.grpcDoor.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slow, err := w.httpDoor.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(slow, "POST /json HTTP/1.1\r\nHost: localhost\r\n"); err != nil {
			t.Fatal(err)
		}
		half, err := w.httpDoor.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(half, "POST /json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var cuts sync.WaitGroup
		for name, c := range map[string]struct {
			conn   net.Conn
			within time.Duration
		}{"silent": {silent, 5 * time.Second}, "slow headers": {slow, 3 * time.Second}, "slow body": {half, 10 * time.Second}} {
			cuts.Go(func() {
				_, _ = io.Copy(io.Discard, c.conn)
				if took := time.Since(began); took > c.within {
					t.Errorf("%s: cut after %v, want within %v", name, took, c.within)
				}
				_ = c.conn.Close()
			})
		}
		cuts.Wait()
	})
}

func TestPingsOfProxiesAreWelcome(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		r := newWire(t, w)
		for range 40 { // 20 minutes, with a stream, as a proxy with a log stream does
			if err := r.framer.WritePing(false, [8]byte{1}); err != nil {
				t.Fatalf("ping: %v", err)
			}
			time.Sleep(15 * time.Second)
		}
		synctest.Wait()
		for {
			select {
			case f := <-r.frames:
				if f.goAway || f.err != nil {
					t.Fatalf("the server sends the client away: %+v", f)
				}
				continue
			default:
			}
			return
		}
	})
}

func TestAFloodOfPingsEndsTheConnection(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		r := newWire(t, w)
		go func() {
			for range 100 {
				if r.framer.WritePing(false, [8]byte{1}) != nil {
					return
				}
			}
		}()
		for f := range r.frames {
			if f.goAway {
				return
			}
			if f.err != nil && !errors.Is(f.err, io.EOF) {
				t.Fatal(f.err)
			}
		}
		t.Error("the connection ended without a word")
	})
}
