package xds

import (
	"errors"
	"fmt"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// typeURL is the type of the resources that are asked for.
const typeURL = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig"

// An empty message takes two bytes of a response, and a hundred times as much of memory.
// So messages are counted before they are made.
const (
	// maxMessages bounds the messages in one response: several times as many
	// as the descriptors and limits of the most rules that a configuration may have.
	maxMessages = 300_000
	// maxNested bounds how deep messages are nested in each other.
	maxNested = 200
	// maxResources bounds the resources of one response.
	maxResources = 10_000
)

var (
	errTooMany = fmt.Errorf("more than %d messages, expected a rate limit configuration", maxMessages)
	errTooDeep = fmt.Errorf("messages are nested too deep, expected at most %d levels", maxNested)
)

// countMessages checks that the message of kind d that b encodes is not made of too many
// others. What is no encoding at all is left to the decoder to refuse.
func countMessages(d protoreflect.MessageDescriptor, b []byte, depth int, left *int) error {
	if *left--; *left < 0 {
		return errTooMany
	}
	if depth > maxNested {
		return errTooDeep
	}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil
		}
		b = b[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
				return nil
			}
			b = b[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return nil
		}
		b = b[n:]
		if f := d.Fields().ByNumber(number); f != nil && f.Message() != nil {
			if err := countMessages(f.Message(), value, depth+1, left); err != nil {
				return err
			}
		}
	}
	return nil
}

// unmarshal decodes a message, if there are not more than left in it.
func unmarshal(b []byte, m proto.Message, left *int) error {
	if err := countMessages(m.ProtoReflect().Descriptor(), b, 0, left); err != nil {
		return err
	}
	return proto.UnmarshalOptions{RecursionLimit: maxNested}.Unmarshal(b, m)
}

// codec is gRPC's for protobuf, which counts before it decodes.
type codec struct{ encoding.CodecV2 }

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*discoveryv3.DiscoveryResponse)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	b := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer b.Free()
	left := maxMessages
	return unmarshal(b.ReadOnlyData(), m, &left)
}

// decode returns the resources of a response. The error says everything that is wrong
// with it.
func decode(r *discoveryv3.DiscoveryResponse) ([]*ratelimitv3.RateLimitConfig, error) {
	if got := r.GetTypeUrl(); got != typeURL {
		return nil, fmt.Errorf("a response of type %s, expected %s", quoted(got), typeURL)
	}
	if n := len(r.GetResources()); n > maxResources {
		return nil, fmt.Errorf("%d resources, expected at most %d", n, maxResources)
	}
	resources := make([]*ratelimitv3.RateLimitConfig, 0, len(r.GetResources()))
	var errs []error
	left := maxMessages
	for i, any := range r.GetResources() {
		if len(errs) == maxErrors {
			break
		}
		if got := any.GetTypeUrl(); got != typeURL {
			errs = append(errs, fmt.Errorf("resources[%d]: of type %s, expected %s", i, quoted(got), typeURL))
			continue
		}
		c := &ratelimitv3.RateLimitConfig{}
		if err := unmarshal(any.GetValue(), c, &left); err != nil {
			errs = append(errs, fmt.Errorf("resources[%d]: cannot be decoded as %s: %s", i, c.ProtoReflect().Descriptor().FullName(), plain(err)))
			continue
		}
		resources = append(resources, c)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return resources, nil
}

// maxErrors bounds the errors about one response.
const maxErrors = 50

// plain returns what a decoder said, in printable form: it shows bytes of the input.
func plain(err error) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == '\u00a0' || r == '\ufffd' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(err.Error(), "?"))
}

// quoted shows a text that came over the wire.
func quoted(s string) string {
	const most = 120
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
