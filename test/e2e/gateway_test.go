package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/weir-project/weir/test/harness"
	"github.com/weir-project/weir/test/manifests"
	"github.com/weir-project/weir/test/upstream"
)

// sent is what Envoy Gateway makes of examples/ai-gateway/policy.yaml and sends over xDS, with
// a budget that a few calls use up.
var sent = map[string]string{
	"shared.yaml": `
domain: default/llm
descriptors:
- key: default/llm/rule/0
  value: default/llm/rule/0
  descriptors:
  - key: rule-0-match-0
    descriptors:
    - key: rule-0-match-1
      rate_limit: {unit: hour, requests_per_unit: 4294967295}
`,
	"listener.yaml": `
domain: default/ai/http
descriptors:
- key: httproute/default/llm/rule/0/match/0/*
  value: httproute/default/llm/rule/0/match/0/*
  descriptors:
  - key: rule-0-match-0
    rate_limit: {unit: year, requests_per_unit: 100}
`,
}

// What examples/ai-gateway promises: Envoy Gateway's own descriptors, of a rule that is
// shared, ask for a call; the reservation comes back in the access log, and is settled with
// what AI Gateway wrote down. Beside it a tenant has a budget.
func TestGatewayFormSettlesByTheAccessLog(t *testing.T) {
	harness.Tool(t, "bin/envoy")
	up := harness.StartUpstream(t, upstream.Options{})
	up.SetDefault(upstream.Behavior{Usage: &usage})
	files, err := manifests.Read(filepath.Join(harness.Root(t), "examples", "ai-gateway", "weir.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o := harness.WeirOptions{Config: files[0].ConfigMap()["weir.yaml"], Args: []string{"--compat=ratelimit"}}
	for name, text := range sent {
		o.Paths = append(o.Paths, harness.WriteFile(t, name, text))
	}
	w := harness.StartWeir(t, o)
	envoy := harness.StartEnvoyWith(t, up, harness.EnvoyOptions{File: "examples/envoy-gateway/envoy.yaml", Weirs: []int{w.GRPCPort}})
	harness.Eventually(t, 10*time.Second, "Envoy knows weir", func() error {
		const known = "cluster.ratelimit_cluster.membership_healthy"
		if n := envoy.Stats(t, "^"+known+"$")[known]; n != 1 {
			return fmt.Errorf("it knows %d", n)
		}
		return nil
	})
	ask := harness.Ask{Model: "claude-sonnet-4-5", MaxTokens: 100, Headers: map[string]string{"x-tenant-id": "chat"}}
	first := harness.MustSend(t, envoy.URL, ask, 200)
	if first.Header.Get("x-ratelimit-limit") == "" {
		t.Errorf("no x-ratelimit-limit in %v", first.Header)
	}
	w.Settled(t, "claude", "", settled)
	// 42 tokens a call, known and charged when it has ended: the third one overdraws the
	// budget, and the next is refused.
	for n := range 2 {
		harness.MustSend(t, envoy.URL, ask, 200)
		w.Settled(t, "claude", "", harness.Uses(uint64(n)+2, (uint64(n)+2)*32, (uint64(n)+2)*42))
	}
	harness.Eventually(t, 10*time.Second, "the budget is used up", func() error {
		got, err := harness.Send(t.Context(), envoy.URL, ask)
		if err == nil && got.Status != 429 {
			err = fmt.Errorf("status %d", got.Status)
		}
		return err
	})
	// Another tenant has a budget of its own, and the same quota.
	ask.Headers["x-tenant-id"] = "batch"
	harness.MustSend(t, envoy.URL, ask, 200)
	if n := envoy.Stats(t, "ratelimit.failure_mode_allowed$")["cluster.anthropic.ratelimit.failure_mode_allowed"]; n != 0 {
		t.Errorf("Envoy admitted %d requests without weir's answer, want 0", n)
	}
}
