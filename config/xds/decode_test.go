package xds

import (
	"strings"
	"testing"
	"unicode/utf8"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/weir-project/weir/config"
)

// FuzzResponse: whatever a response holds, it is put in force or refused, with a reason
// that can be shown and sent.
func FuzzResponse(f *testing.F) {
	add := func(r *discoveryv3.DiscoveryResponse) {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	good, err := proto.Marshal(edge("a", 10))
	if err != nil {
		f.Fatal(err)
	}
	add(&discoveryv3.DiscoveryResponse{TypeUrl: typeURL, Resources: []*anypb.Any{{TypeUrl: typeURL, Value: good}}})
	add(&discoveryv3.DiscoveryResponse{TypeUrl: typeURL, Resources: []*anypb.Any{{TypeUrl: typeURL, Value: good}, {TypeUrl: typeURL, Value: good}}})
	add(&discoveryv3.DiscoveryResponse{TypeUrl: typeURL, Resources: []*anypb.Any{{TypeUrl: typeURL, Value: good[:len(good)-1]}}})
	add(&discoveryv3.DiscoveryResponse{TypeUrl: "x"})
	f.Add([]byte{0x12, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &discoveryv3.DiscoveryResponse{}
		left := maxMessages
		if unmarshal(b, r, &left) != nil {
			return
		}
		resources, err := decode(r)
		if err == nil {
			_, err = config.Options{}.LoadResources(nil, resources, nil)
		}
		if err == nil {
			return
		}
		if text := reasons(err); text == "" || len(text) > maxReasons+4 || !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\r\t") {
			t.Fatalf("a reason that cannot be shown: %q", text)
		}
	})
}

// TestReasonsAreBounded: of many problems as many are told as fit.
func TestReasonsAreBounded(t *testing.T) {
	c := edge("a", 1)
	for range 500 {
		d := edge("a", 1).Descriptors[0]
		d.Key = strings.Repeat("é", 1000)
		c.Descriptors = append(c.Descriptors, d)
	}
	_, err := config.Options{}.LoadResources(nil, []*ratelimitv3.RateLimitConfig{c, edge("", 1)}, nil)
	text := reasons(err)
	if len(text) > maxReasons+4 || !utf8.ValidString(text) || strings.Count(text, "duplicate descriptor composite key") < 10 {
		t.Errorf("%d bytes: %s", len(text), text)
	}
	if !strings.HasSuffix(text, "…") && !strings.HasSuffix(text, "more") {
		t.Errorf("does not say that there is more: %s", text[len(text)-100:])
	}
}
