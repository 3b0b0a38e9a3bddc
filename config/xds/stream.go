package xds

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"github.com/weir-project/weir/config"
)

// stream is one stream to the control plane, from its first request to its end.
type stream struct {
	client *Client
	wire   discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	// open says that the server answered at all, and accepted that a response was put in
	// force.
	open, accepted bool
}

// received is what the server sent, or of what the stream ended.
type received struct {
	response *discoveryv3.DiscoveryResponse
	err      error
}

var errEnded = errors.New("the server ended the stream")

// run opens the stream and answers each response, until the stream or ctx ends.
func (s *stream) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	conn, wire, err := s.client.open(ctx)
	if err != nil {
		cancel()
		return err
	}
	var reading sync.WaitGroup
	defer func() {
		cancel()
		_ = conn.Close() // of what is on it, nobody wants to know any more
		reading.Wait()
	}()
	s.wire, s.open = wire, true
	s.client.stats.opened()
	defer s.client.stats.closed()
	s.client.log.Info("connected to the control plane", slog.String("server", s.client.options.Server),
		slog.String("node", s.client.options.NodeID), slog.Bool("has_configuration", s.client.ever))
	responses := make(chan received)
	reading.Go(func() { s.receive(ctx, responses) })
	err = s.send("", nil)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-responses:
			switch {
			case r.err != nil:
				return r.err
			case err == nil:
				// Where sending failed, what the stream ended of is still to come.
				err = s.take(ctx, r.response)
			}
		}
	}
}

// receive reads the stream until it ends.
func (s *stream) receive(ctx context.Context, to chan<- received) {
	for {
		response, err := s.wire.Recv()
		if errors.Is(err, io.EOF) {
			err = errEnded
		}
		select {
		case to <- received{response, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// take puts a response in force and says so, or says why not.
func (s *stream) take(ctx context.Context, r *discoveryv3.DiscoveryResponse) error {
	c := s.client
	resources, err := decode(r)
	if err != nil {
		c.sink.Refused(err)
	} else {
		err = c.sink.Put(ctx, resources)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return s.refuse(ctx, r, reasons(err))
	}
	c.accepted, c.ever, c.refused, c.same = r.GetVersionInfo(), true, refusal{}, 0
	s.accepted = true
	c.stats.took(len(resources), time.Now())
	c.log.Info("the control plane's configuration is in force", slog.String("version", shown(r.GetVersionInfo())), slog.Int("resources", len(resources)))
	return s.send(r.GetNonce(), nil)
}

// refuse tells the control plane what is wrong with a response. Many answer at once with
// the same again, so that what is refused in a row is refused slower and slower.
func (s *stream) refuse(ctx context.Context, r *discoveryv3.DiscoveryResponse, text string) error {
	c := s.client
	c.stats.refused(time.Now())
	if now := (refusal{r.GetVersionInfo(), text}); now != c.refused {
		c.refused, c.same = now, 0
		c.log.Error("the control plane's configuration is refused, the earlier one stays in force",
			slog.String("version", shown(r.GetVersionInfo())), slog.String("in_force", shown(c.accepted)), slog.String("error", text))
	} else {
		c.same++
	}
	if pause := refusalPause(c.same); pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wire.Context().Done(): // the server is gone: there is nobody to tell
		case <-timer.C:
		}
	}
	return s.send(r.GetNonce(), &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: text})
}

// send sends a request: the first one, with no nonce, or the answer to the response of
// that nonce. The version is always the one that was accepted last.
func (s *stream) send(nonce string, failure *rpcstatus.Status) error {
	return s.wire.Send(&discoveryv3.DiscoveryRequest{
		Node: s.client.node, TypeUrl: typeURL,
		VersionInfo: s.client.accepted, ResponseNonce: nonce, ErrorDetail: failure,
	})
}

// maxReasons bounds what is told of a refused response, in bytes.
const maxReasons = 8 << 10

// reasons says everything that is wrong, one line for each problem.
func reasons(err error) string {
	text := err.Error()
	if e, ok := errors.AsType[*config.Error](err); ok {
		lines := make([]string, len(e.Problems))
		for i, p := range e.Problems {
			lines[i] = p.String()
		}
		text = strings.Join(lines, "\n")
		if e.More > 0 {
			text += "\nand more"
		}
	}
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= maxReasons {
		return text
	}
	cut := maxReasons
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// shown returns a version as it can be logged.
func shown(version string) string {
	const most = 64
	if len(version) > most {
		return strings.ToValidUTF8(version[:most], "") + "…"
	}
	return version
}
