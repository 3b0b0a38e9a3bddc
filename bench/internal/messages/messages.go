// Package messages makes the requests that the workloads send, and the plans under
// which weir answers them. Every request passes: the plans' limits are far above
// what a run can ask for, so that what is measured is the deciding, not the refusing.
package messages

import (
	"encoding/binary"
	"fmt"
	"strings"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/proto"
)

// ShouldRateLimit is the path of the method that Envoy calls.
const ShouldRateLimit = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"

// Domain is the domain of the rules.
const Domain = "edge"

// UserWidth is the length of every user name, so that one can be written over
// another in an encoded request.
const UserWidth = len("u-000000000000")

// User returns the name of user i.
func User(i int) string { return fmt.Sprintf("u-%012d", i) }

// descriptor makes a descriptor of keys and values in turn.
func descriptor(keysAndValues ...string) *ratelimitv3.RateLimitDescriptor {
	d := &ratelimitv3.RateLimitDescriptor{}
	for i := 0; i < len(keysAndValues); i += 2 {
		d.Entries = append(d.Entries, &ratelimitv3.RateLimitDescriptor_Entry{Key: keysAndValues[i], Value: keysAndValues[i+1]})
	}
	return d
}

// One is a request of one descriptor of three entries: one charge.
func One(user string) *rlsv3.RateLimitRequest {
	return &rlsv3.RateLimitRequest{Domain: Domain, Descriptors: []*ratelimitv3.RateLimitDescriptor{
		descriptor("tenant", "acme", "path", "/v1/messages", "user", user),
	}}
}

// Four is a request of four descriptors, of one, two, two and three entries: four
// charges.
func Four(user string) *rlsv3.RateLimitRequest {
	return &rlsv3.RateLimitRequest{Domain: Domain, Descriptors: []*ratelimitv3.RateLimitDescriptor{
		descriptor("tenant", "acme"),
		descriptor("tenant", "acme", "path", "/v1/messages"),
		descriptor("tenant", "acme", "model", "claude-lab-1"),
		descriptor("tenant", "acme", "path", "/v1/messages", "user", user),
	}}
}

// Ask is the question that Envoy asks before it sends a call to an LLM API, in the
// compact form. An empty request id is left out.
func Ask(requestID string) *rlsv3.RateLimitRequest {
	d := descriptor("org", "acme", "tenant", "chat", "model", "claude-lab-1", "body_bytes", "4000", "max_tokens", "2048")
	if requestID != "" {
		d.Entries = append(d.Entries, &ratelimitv3.RateLimitDescriptor_Entry{Key: "request_id", Value: requestID})
	}
	return &rlsv3.RateLimitRequest{Domain: "llm", Descriptors: []*ratelimitv3.RateLimitDescriptor{d}}
}

// Report is what Envoy says when the call that Ask asked for is over.
func Report(requestID string) *rlsv3.RateLimitRequest {
	return &rlsv3.RateLimitRequest{Domain: "llm", Descriptors: []*ratelimitv3.RateLimitDescriptor{
		descriptor("request_id", requestID, "status", "200", "details", "via_upstream", "attempts", "1",
			"input_tokens", "925", "output_tokens", "342", "last_event", "message_stop"),
	}}
}

// Frame encodes m as the body of a gRPC call: a flag byte, four bytes of length,
// and the message.
func Frame(m proto.Message) ([]byte, error) {
	body, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 5), m)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(body[1:5], uint32(len(body)-5))
	return body, nil
}

// RulesPlan is a rate limit file of n rules for tenants that nobody asks about,
// followed by those that One and Four end at.
func RulesPlan(n int) string {
	var b strings.Builder
	b.WriteString("domain: " + Domain + "\ndescriptors:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - key: tenant\n    value: other-%d\n    rate_limit: {unit: hour, requests_per_unit: %d}\n", i, 1000+i)
	}
	const ample = "{unit: hour, requests_per_unit: 4000000000}"
	b.WriteString(strings.ReplaceAll(`  - key: tenant
    value: acme
    rate_limit: AMPLE
    descriptors:
      - key: model
        rate_limit: AMPLE
      - key: path
        value: /v1/messages
        rate_limit: AMPLE
        descriptors:
          - key: user
            rate_limit: AMPLE
`, "AMPLE", ample))
	return b.String()
}

// QuotaPlan is a configuration with one quota for the calls of Ask.
const QuotaPlan = `quotas:
- name: lab
  provider: anthropic
  match: {org: "*", model: "claude-lab-*"}
  limits:
    requests_per_minute: 1000000000
    input_tokens_per_minute: 1000000000000
    output_tokens_per_minute: 1000000000000
  control: fixed
`
