package xds

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

type adsStream = discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer

// packed encodes resources as a response has them.
func packed(t *testing.T, configs ...proto.Message) []*anypb.Any {
	t.Helper()
	var list []*anypb.Any
	for _, c := range configs {
		any, err := anypb.New(c)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, any)
	}
	return list
}

// TestGarbage: a server sends one response that cannot be used after another. Each is
// refused with its reason and its nonce, and the next one may be a good one.
func TestGarbage(t *testing.T) {
	undecodable := &anypb.Any{TypeUrl: typeURL, Value: []byte{0x1a, 0xff}}
	for _, c := range []struct {
		name string
		bad  *discoveryv3.DiscoveryResponse
		want []string
	}{
		{
			"another type", &discoveryv3.DiscoveryResponse{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster"},
			[]string{`a response of type "type.googleapis.com/envoy.config.cluster.v3.Cluster", expected ` + typeURL},
		},
		{"no type", &discoveryv3.DiscoveryResponse{}, []string{`a response of type "", expected ` + typeURL}},
		{"a long type", &discoveryv3.DiscoveryResponse{TypeUrl: strings.Repeat("x", 1<<20)}, []string{`xxx"…, expected`}},
		{
			"resources of other types, and undecodable ones",
			&discoveryv3.DiscoveryResponse{TypeUrl: typeURL, Resources: append(packed(t, structpb.NewStringValue("x"), edge("a", 1)), undecodable, &anypb.Any{})},
			[]string{
				`resources[0]: of type "type.googleapis.com/google.protobuf.Value", expected ` + typeURL,
				"resources[2]: cannot be decoded as ratelimit.config.ratelimit.v3.RateLimitConfig",
				`resources[3]: of type "", expected `,
			},
		},
		{
			"many messages in few bytes",
			&discoveryv3.DiscoveryResponse{TypeUrl: typeURL, Resources: []*anypb.Any{{TypeUrl: typeURL, Value: bytes.Repeat([]byte{0x1a, 0}, 4<<20)}}},
			[]string{"resources[0]: cannot be decoded as ratelimit.config.ratelimit.v3.RateLimitConfig: more than 300000 messages"},
		},
		{
			"deep nesting", &discoveryv3.DiscoveryResponse{TypeUrl: typeURL, Resources: packed(t, nested(150))},
			[]string{"descriptors are nested too deep, expected at most 32 levels"},
		},
		{
			"very deep nesting", &discoveryv3.DiscoveryResponse{TypeUrl: typeURL, Resources: packed(t, nested(5000))},
			[]string{"messages are nested too deep, expected at most 200 levels"},
		},
		{
			"an empty domain", &discoveryv3.DiscoveryResponse{TypeUrl: typeURL, Resources: packed(t, &ratelimitv3.RateLimitConfig{Name: "a\nb\x00"})},
			[]string{"xds:a?b?: config file cannot have empty domain"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlane(t)
			p.script = func(s adsStream) error {
				for i, r := range []*discoveryv3.DiscoveryResponse{
					{VersionInfo: "1", TypeUrl: typeURL, Resources: packed(t, edge("a", 10))},
					c.bad,
					{VersionInfo: "3", TypeUrl: typeURL, Resources: packed(t, edge("a", 30))},
					nil,
				} {
					request, err := s.Recv()
					if err != nil {
						return err
					}
					p.requests <- request
					if r != nil {
						r = proto.Clone(r).(*discoveryv3.DiscoveryResponse)
						r.Nonce = string(rune('a' + i))
						if err := s.Send(r); err != nil {
							return err
						}
					}
				}
				<-s.Context().Done()
				return nil
			}
			p.start()
			f := newForce()
			run(t, Options{Server: p.addr}, f)
			p.want("", false)
			f.want(t, 10)
			p.want("1", true)
			if r := p.want("1", true, c.want...); r.GetResponseNonce() != "b" || len(r.GetErrorDetail().GetMessage()) > maxReasons+10 {
				t.Errorf("refused %q with %d bytes, want b", r.GetResponseNonce(), len(r.GetErrorDetail().GetMessage()))
			}
			f.want(t, 30)
			p.want("3", true)
		})
	}
}

func nested(depth int) *ratelimitv3.RateLimitConfig {
	c := &ratelimitv3.RateLimitConfig{Domain: "deep"}
	list := &c.Descriptors
	for range depth {
		d := &ratelimitv3.RateLimitDescriptor{Key: "k"}
		*list = []*ratelimitv3.RateLimitDescriptor{d}
		list = &d.Descriptors
	}
	return c
}

// TestTooLarge: a response of more bytes than may be is not read; the stream is opened
// again, and serves as before once the server says less.
func TestTooLarge(t *testing.T) {
	p := newPlane(t)
	p.set("1", edge("a", 10))
	p.start()
	f := newForce()
	c, log := run(t, Options{Server: p.addr}, f)
	f.want(t, 10)

	huge := edge("a", 20)
	huge.Name = strings.Repeat("x", 100<<20)
	p.set("2", huge)
	log.want(t, "the response is too large, expected at most 16777216 bytes (XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES)")
	p.set("3", edge("a", 30))
	f.want(t, 30)
	p.wantAfter("3")
	if n := testutil.ToFloat64(collected{c, failuresDesc}); n < 1 {
		t.Errorf("%v failures were counted, want 1 or more", n)
	}
}

// TestBombsStaySmall: what would be many times as large in memory as it is on the wire is
// refused before it is.
func TestBombsStaySmall(t *testing.T) {
	emptyAny := bytes.Repeat([]byte{0x12, 0}, 4<<20)
	value := bytes.Repeat([]byte{0x1a, 0}, 4<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	left := maxMessages
	if err := unmarshal(emptyAny, &discoveryv3.DiscoveryResponse{}, &left); err == nil {
		t.Error("4 million resources were decoded")
	}
	left = maxMessages
	if err := unmarshal(value, &ratelimitv3.RateLimitConfig{}, &left); err == nil {
		t.Error("4 million descriptors were decoded")
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes were allocated, want less than %d", grown, 1<<20)
	}
}

// TestServerThatEndsStreams: streams that end at once, with and without an error, are
// opened again, less and less often.
func TestServerThatEndsStreams(t *testing.T) {
	p := newPlane(t)
	ends := make(chan time.Time, 100)
	p.script = func(adsStream) error {
		ends <- time.Now()
		return nil
	}
	p.options = []grpc.ServerOption{grpc.MaxConcurrentStreams(10)}
	p.start()
	_, log := run(t, Options{Server: p.addr}, newForce())
	for range 5 {
		<-ends
	}
	log.want(t, "failures=4")
	log.want(t, "the server ended the stream")
}
