package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// als is envoy.service.accesslog.v3.AccessLogService: the second way in which proxies
// report how calls went. It is safe for concurrent use.
//
// A proxy keeps a stream open for as long as it lives, and does not notice that
// entries of a broken one are lost. So streams are ended from this side, when nothing
// is on its way: when the server drains, and when they are old.
type als struct {
	accesslogv3.UnimplementedAccessLogServiceServer
	d        *decider
	settler  *settler
	words    vocabularies
	received [numLogged]prometheus.Counter
	taken    atomic.Uint64 // entries, whatever came of them
	streams  *streamBound  // shared with the services behind the doorman

	draining chan struct{}
	drained  sync.Once

	mu   sync.Mutex
	open map[chan struct{}]bool // one for each stream, closed at its end; guarded by mu
}

const (
	// quiet is how long a stream must have said nothing, after it has said something, to
	// be ended. Proxies flush what they have at an interval (0.1 s in the examples, a
	// second by default): what is sent while the end is on its way to the proxy is lost,
	// so the end must come just after a flush.
	quiet = 20 * time.Millisecond
	// maxQuietWait is how long that is waited for.
	maxQuietWait = time.Second
)

func newALS(d *decider) *als {
	s := &als{d: d, settler: newSettler(d, "access_log"), streams: newStreamBound(), draining: make(chan struct{}), open: make(map[chan struct{}]bool)}
	for k := range numLogged {
		s.received[k] = d.metrics.accessLogResult(k.String())
	}
	return s
}

// register adds the service to g.
func (s *als) register(g grpc.ServiceRegistrar) { accesslogv3.RegisterAccessLogServiceServer(g, s) }

// entries is the number of entries received, whatever came of them.
func (s *als) entries() uint64 { return s.taken.Load() }

// drain ends all streams once they are quiet, and those that come later. It returns
// when all that were open have ended, after about a second at most.
func (s *als) drain() {
	s.drained.Do(func() { close(s.draining) })
	s.mu.Lock()
	open := slices.Collect(maps.Keys(s.open))
	s.mu.Unlock()
	for _, over := range open {
		<-over
	}
}

// opened notes that there is a stream, until the function returned is called.
func (s *als) opened() (over func()) {
	c := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, c)
		close(c)
	}
}

// StreamAccessLogs implements accesslogv3.AccessLogServiceServer.
func (s *als) StreamAccessLogs(stream accesslogv3.AccessLogService_StreamAccessLogsServer) error {
	leave, err := s.streams.enter(stream)
	if err != nil {
		s.d.metrics.errors.WithLabelValues(codeOf(err).String()).Inc()
		return grpcError(err)
	}
	defer leave()
	return s.serve(stream)
}

// serve takes in a stream until it ends, or is to be ended.
func (s *als) serve(stream accesslogv3.AccessLogService_StreamAccessLogsServer) error {
	defer s.opened()()

	heard := make(chan struct{}, 1) // something came
	ended := make(chan error, 1)
	go func() { ended <- s.receive(stream, heard) }()

	old := time.NewTimer(maxSessionAge)
	defer old.Stop()
	select {
	case err := <-ended:
		return err
	case <-s.draining:
	case <-old.C:
	}
	return s.finish(stream, heard, ended)
}

// finish waits until the stream has spoken and is quiet, and ends it.
func (s *als) finish(stream accesslogv3.AccessLogService_StreamAccessLogsServer, heard <-chan struct{}, ended <-chan error) error {
	latest := time.NewTimer(maxQuietWait)
	defer latest.Stop()
	select { // what was said before tells nothing about the next flush
	case <-heard:
	default:
	}
	var silence <-chan time.Time
	for {
		select {
		case err := <-ended:
			return err
		case <-heard:
			silence = time.After(quiet)
			continue
		case <-silence:
		case <-latest.C:
		}
		return stream.SendAndClose(&accesslogv3.StreamAccessLogsResponse{})
	}
}

// receive takes in what the stream says until it ends. Entries that were received are
// settled also if the proxy is gone by then.
func (s *als) receive(stream accesslogv3.AccessLogService_StreamAccessLogsServer, heard chan<- struct{}) error {
	ctx := context.WithoutCancel(stream.Context())
	message := new(accesslogv3.StreamAccessLogsMessage)
	for {
		proto.Reset(message)
		if err := stream.RecvMsg(message); err != nil {
			if errors.Is(err, io.EOF) {
				return stream.SendAndClose(&accesslogv3.StreamAccessLogsResponse{})
			}
			return err
		}
		select {
		case heard <- struct{}{}:
		default:
		}
		s.take(ctx, message)
	}
}

// take takes in one message. A panic on the way is a bug; the rest of the message is
// lost, and the stream goes on.
func (s *als) take(ctx context.Context, m *accesslogv3.StreamAccessLogsMessage) {
	defer func() {
		if p := recover(); p != nil {
			s.d.metrics.panics.Inc()
			s.d.log.Error("an access log message ended in a panic", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	if tcp := m.GetTcpLogs(); tcp != nil {
		s.received[loggedOther].Add(float64(len(tcp.GetLogEntry())))
		s.taken.Add(uint64(len(tcp.GetLogEntry())))
		return
	}
	a := s.d.loaded.Load()
	words := s.words.of(a.Loaded)
	for _, e := range m.GetHttpLogs().GetLogEntry() {
		s.received[s.entry(ctx, a, words, e)].Inc()
		s.taken.Add(1)
	}
}
