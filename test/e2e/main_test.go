// Package e2e runs weir behind a stock Envoy, with the configurations of
// examples/envoy, a fake provider, and Anthropic's own SDK.
//
// A loop (Envoy, weir, provider) serves many scenarios: each has an organisation of
// its own, so that none sees what another one used.
package e2e

import (
	"os"
	"testing"

	"github.com/weir-project/weir/test/harness"
	"github.com/weir-project/weir/test/upstream"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// plan is what most scenarios run under. The quota is wide; organisations whose name
// says so are held to little besides.
const plan = `
quotas:
- name: claude
  provider: anthropic
  control: fixed
  match: {model: "claude-*"}
  limits: {requests_per_minute: 1000, input_tokens_per_minute: 1000000, output_tokens_per_minute: 1000000}
rules:
- name: narrow
  domain: llm
  match: [{key: org, value: "narrow-*"}]
  limits: [{meter: requests, amount: 2, per: 3s}]
- name: tiny
  domain: llm
  match: [{key: org, value: "tiny-*"}]
  limits: [{meter: input_tokens, amount: 10, per: 1m}]
`

// usage is what the provider states where a scenario does not say otherwise. For
// Anthropic, what was read from the prompt cache does not count.
var usage = upstream.Usage{InputTokens: 25, CacheCreationInputTokens: 7, CacheReadInputTokens: 100, OutputTokens: 42}

// settled is a check that one call with that usage is charged.
var settled = harness.Uses(1, 32, 42)

// loop is a client's way through Envoy to the provider, with weir beside it.
type loop struct {
	weir  *harness.Weir
	envoy *harness.Envoy
	up    *harness.Upstream
	sdk   *harness.SDK // where a test starts it
}

func newLoop(t *testing.T, example, config string) loop {
	t.Helper()
	harness.Tool(t, "bin/envoy")
	l := loop{up: harness.StartUpstream(t, upstream.Options{})}
	l.up.SetDefault(upstream.Behavior{Usage: &usage})
	l.weir = harness.StartWeir(t, harness.WeirOptions{Config: config})
	l.envoy = harness.StartEnvoy(t, example, l.up, l.weir.GRPCPort)
	l.envoy.SeesHealthy(t, 1)
	return l
}
