package xds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that ours counts for
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

// Sink takes what the control plane says. Its methods are called one at a time.
type Sink interface {
	// Put puts in force all resources that there are, in place of those before; none
	// means that nothing is limited. It returns when they are in force, or why they
	// cannot be: an error of several lines tells several reasons. It keeps resources.
	Put(ctx context.Context, resources []*ratelimitv3.RateLimitConfig) error
	// Refused is told of a response that could not even be read.
	Refused(error)
}

const (
	// pingEvery is how often a silent server is asked whether it is there. One that
	// finds this too often says so, and is asked half as often from then on.
	pingEvery    = time.Minute
	longestPing  = 20 * time.Minute
	pingPatience = 20 * time.Second
	// lookEvery is how often the files of TLS are looked at while there is no connection.
	lookEvery = 2 * time.Second
)

// Client keeps a stream to a control plane. Run is called once; the other methods are
// safe for concurrent use.
type Client struct {
	options Options
	sink    Sink
	node    *corev3.Node
	log     *slog.Logger
	stats   stats
	ping    time.Duration
	dial    func(context.Context, string) (net.Conn, error) // nil but for tests

	accepted string // the version that was accepted last
	ever     bool   // a response was accepted
	// refused is what was refused last, and same how many times in a row.
	refused refusal
	same    int
}

// refusal is a response that was refused, and why.
type refusal struct{ version, text string }

// New returns a client that hands to sink what the control plane says, once Run runs.
func New(o Options, sink Sink) (*Client, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{options: o, sink: sink, log: o.Logger, ping: pingEvery, node: &corev3.Node{Id: o.NodeID, UserAgentName: "weir"}}
	if o.Version != "" {
		c.node.UserAgentVersionType = &corev3.Node_UserAgentVersion{UserAgentVersion: o.Version}
	}
	if len(o.Metadata) > 0 {
		c.node.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{}}
		for k, v := range o.Metadata {
			c.node.Metadata.Fields[k] = structpb.NewStringValue(v)
		}
	}
	return c, nil
}

// Run keeps a stream open until ctx ends, and returns ctx's error.
func (c *Client) Run(ctx context.Context) error {
	failures := 0
	for {
		begun, files := time.Now(), c.options.TLS.state()
		s := &stream{client: c}
		err := s.run(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.accepted || s.open && time.Since(begun) >= healthyAfter {
			failures = 0
		}
		failures++
		if !c.rest(ctx, c.failed(err, s.open, failures), files) {
			return ctx.Err()
		}
	}
}

// failed notes of what the last stream ended, after so many failures in a row, and
// returns how long to wait before the next one.
func (c *Client) failed(err error, open bool, failures int) time.Duration {
	cause, text := c.classify(err, open)
	first := c.options.InitialInterval
	if cause == causeConnect || cause == causeTLS {
		first = c.options.ConnectInterval
	}
	wait := c.options.wait(failures, first)
	c.stats.failed(cause)
	log := c.log.With(slog.String("server", c.options.Server), slog.String("cause", string(cause)), slog.String("error", text),
		slog.Int("failures", failures), slog.Duration("retry_in", wait.Round(time.Millisecond)))
	if c.ever {
		log.Warn("no stream from the control plane, what it said last stays in force")
	} else {
		log.Warn("no stream from the control plane, and no configuration from it yet")
	}
	return wait
}

// rest waits before the next attempt. Files of TLS that are not as they were before the
// last one end the wait. It returns false if ctx ended.
func (c *Client) rest(ctx context.Context, wait time.Duration, files string) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var looks <-chan time.Time
	if files != "" {
		ticker := time.NewTicker(lookEvery)
		defer ticker.Stop()
		looks = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-looks:
			if c.options.TLS.state() != files {
				return true
			}
		}
	}
}

// connect returns a connection, which is made when it is needed first.
func (c *Client) connect() (*grpc.ClientConn, error) {
	creds, err := c.options.TLS.credentials(time.Now())
	if err != nil {
		return nil, err
	}
	target := c.options.Server
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: c.ping, Timeout: pingPatience}),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(c.options.MaxMessageBytes),
			grpc.ForceCodecV2(codec{encoding.GetCodecV2("proto")}),
		),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"pick_first":{}}]}`),
		grpc.WithDisableServiceConfig(),
	}
	if c.dial != nil {
		target = "passthrough:///" + target
		options = append(options, grpc.WithContextDialer(c.dial))
	}
	return grpc.NewClient(target, options...)
}

// open opens a stream. The connection is to be closed after it.
func (c *Client) open(ctx context.Context) (*grpc.ClientConn, discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient, error) {
	conn, err := c.connect()
	if err != nil {
		return nil, nil, err
	}
	for _, h := range c.options.Headers {
		ctx = metadata.AppendToOutgoingContext(ctx, h.Name, h.Value)
	}
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, s, nil
}

// classify says what a stream ended of, for a person and for a label.
func (c *Client) classify(err error, open bool) (cause, string) {
	if file, ok := errors.AsType[*fileError](err); ok {
		return causeTLS, file.Error()
	}
	st, ok := status.FromError(err)
	if !ok {
		return causeStream, err.Error()
	}
	text := plain(errors.New(st.Message()))
	switch {
	case strings.Contains(text, "too_many_pings"):
		c.ping = min(2*c.ping, longestPing)
		return causePings, fmt.Sprintf("the server wants fewer pings, it gets one every %s from now on: %s", c.ping, text)
	case st.Code() == codes.ResourceExhausted && strings.Contains(text, "larger than max"):
		return causeTooLarge, fmt.Sprintf("the response is too large, expected at most %d bytes (XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES): %s", c.options.MaxMessageBytes, text)
	case strings.Contains(text, "tls: ") || strings.Contains(text, "x509: ") || strings.Contains(text, "authentication handshake"):
		return causeTLS, c.options.TLS.explain(text)
	case !open:
		return causeConnect, text
	}
	return causeStream, st.Code().String() + ": " + text
}
