package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-project/weir/test/harness"
	"github.com/weir-project/weir/test/upstream"
)

// TestRetriesInsideEnvoy: what the upstream refused and Envoy tried again teaches, once for
// each attempt, and the call is settled by what it used in the end; where Envoy gives up, the
// last refusal is not counted twice.
func TestRetriesInsideEnvoy(t *testing.T) {
	harness.Tool(t, "bin/envoy")
	l := loop{up: harness.StartUpstream(t, upstream.Options{})}
	l.up.SetDefault(upstream.Behavior{Usage: &usage})
	l.weir = harness.StartWeir(t, harness.WeirOptions{Config: `
quotas:
- name: claude
  provider: anthropic
  control: learn
  match: {model: "claude-*"}
  limits: {requests_per_minute: 60000}
`})
	l.envoy = harness.StartEnvoyWith(t, l.up, harness.EnvoyOptions{Example: "access-log.yaml", Weirs: []int{l.weir.GRPCPort}, Retries: true})
	l.envoy.SeesHealthy(t, 1)
	refuse := upstream.Behavior{Status: 429, RetryAfter: "1", RateLimits: []upstream.RateLimit{
		{Meter: "requests", Limit: 60000, Remaining: 0, Reset: time.Now().Add(time.Minute)},
	}}
	refusals := func(want float64) func() error {
		return func() error {
			m, err := l.weir.Metrics(t)
			if err != nil {
				return err
			}
			if n := m[`weir_refusals_total{class="quota",owner="claude"}`]; n != want {
				return fmt.Errorf("%g refusals were learned from, want %g", n, want)
			}
			return nil
		}
	}
	l.up.Script(refuse, refuse)
	harness.MustSend(t, l.envoy.URL, harness.Ask{Org: "acme", MaxTokens: 1000}, 200)
	l.weir.Settled(t, "claude", "acme", settled)
	harness.Eventually(t, 10*time.Second, "two attempts teach", refusals(2))
	l.up.Script(refuse, refuse, refuse, refuse)
	harness.MustSend(t, l.envoy.URL, harness.Ask{Org: "globex", MaxTokens: 1000}, 429)
	l.weir.Settled(t, "claude", "globex", harness.Uses(0, 0, 0))
	harness.Eventually(t, 10*time.Second, "three attempts and the end teach", refusals(6))
}
