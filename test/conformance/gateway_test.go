package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/weir-project/weir/test/harness"
	"github.com/weir-project/weir/test/upstream"
)

// gatewayFile is Envoy in the form that Envoy Gateway gives it.
const gatewayFile = "test/conformance/testdata/gateway/envoy.yaml"

// gateway is a client's way through Envoy to the provider, with weir in the place of the
// rate limit service.
type gateway struct {
	*server
	envoy *harness.Envoy
	up    *harness.Upstream
}

// startGateway starts it; files are of testdata/gateway.
func startGateway(t *testing.T, timeout time.Duration, start, mode string, files ...string) gateway {
	t.Helper()
	harness.Tool(t, "bin/envoy")
	g := gateway{up: harness.StartUpstream(t, upstream.Options{})}
	g.up.SetDefault(upstream.Behavior{Usage: &upstream.Usage{InputTokens: 25, OutputTokens: 42}})
	s := &suite{Start: start, Files: map[string]string{}}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join("testdata/gateway", f))
		if err != nil {
			t.Fatal(err)
		}
		s.Files[f] = string(text)
	}
	g.server = startServer(t, s, mode)
	g.envoy = harness.StartEnvoyWith(t, g.up, harness.EnvoyOptions{File: gatewayFile, Weirs: []int{g.grpcPort}, Patience: timeout})
	harness.Eventually(t, 10*time.Second, "Envoy knows weir", func() error {
		if n := g.envoy.Stats(t, "^cluster.ratelimit_cluster.membership_healthy$")["cluster.ratelimit_cluster.membership_healthy"]; n != 1 {
			return fmt.Errorf("it knows %d", n)
		}
		return nil
	})
	// The limits are per hour, which must not end during a test.
	moveTo(wait{Unit: "hour", To: time.Hour - 30*time.Second})
	return g
}

// send sends a request of a user, which must be answered with the status.
func (g *gateway) send(t *testing.T, user string, status int) harness.Answer {
	t.Helper()
	return harness.MustSend(t, g.envoy.URL, harness.Ask{Headers: map[string]string{"x-user-id": user}}, status)
}

// route is the route of ratelimit.yaml.
const route = "httproute/default/llm/rule/0/match/0/*"

// left looks at what is left of a rule for a user.
func (g *gateway) left(t *testing.T, rule, user string) *rlsv3.RateLimitResponse_DescriptorStatus {
	t.Helper()
	r, err := parseRequest(map[string]any{"domain": "default/eg/http", "descriptors": []any{map[string]any{
		"entries":    []any{map[string]any{"key": route, "value": route}, map[string]any{"key": rule, "value": user}},
		"hitsAddend": 0,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := ask(t.Context(), g.rls, r)
	if err != nil || len(got.GetStatuses()) != 1 {
		t.Fatalf("%s of %s: got %v, %v", rule, user, got, err)
	}
	return got.GetStatuses()[0]
}

// charged waits until a rule has so much left for a user: what Envoy says at the end of a
// stream comes when the client has its answer already.
func (g *gateway) charged(t *testing.T, rule, user string, left uint32) {
	t.Helper()
	harness.Eventually(t, 10*time.Second, rule+" of "+user+" is charged", func() error {
		if got := g.left(t, rule, user); got.GetLimitRemaining() != left {
			return fmt.Errorf("%v, want %d left", got, left)
		}
		return nil
	})
}

// TestGateway: the cost of a request is known when it ends, and charged then.
func TestGateway(t *testing.T) {
	for _, mode := range []string{compat, byDefault} {
		t.Run(mode, func(t *testing.T) {
			g := startGateway(t, 0, asRatelimit, mode, "ratelimit.yaml")
			t.Run("a budget of tokens is charged", g.chargesBudget)
			t.Run("a budget of tokens is spent, and then refuses", func(t *testing.T) { g.spendsBudget(t, mode) })
			t.Run("a budget of requests", func(t *testing.T) { g.spendsRequests(t, mode) })
			t.Run("an answer without usage costs no tokens", g.costsNothing)
			t.Run("a user who is not named has no limit", g.passesUnnamed)
			t.Run("users of a group share its tokens", g.sharesTokens)
			if n := g.envoy.Unseen(t); n != 0 {
				t.Errorf("Envoy admitted %d requests without an answer", n)
			}
		})
	}
}

func (g *gateway) chargesBudget(t *testing.T) {
	const user = "zoe"
	first := g.send(t, user, 200)
	// The tightest limit is that of requests, of which 4 are left.
	for name, want := range map[string]string{
		"x-ratelimit-limit":     "5, 5;w=3600, 60;w=3600",
		"x-ratelimit-remaining": "4",
	} {
		if got := first.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if first.Header.Get("x-ratelimit-reset") == "" {
		t.Errorf("no x-ratelimit-reset: %v", first.Header)
	}
	g.charged(t, "rule-1-match-0", user, 35)
	g.send(t, user, 200)
	g.charged(t, "rule-1-match-0", user, 10)
	// Nobody else pays for that.
	if got := g.left(t, "rule-1-match-0", "yan"); got.GetLimitRemaining() != 60 {
		t.Errorf("another user: %v", got)
	}
}

func (g *gateway) spendsBudget(t *testing.T, mode string) {
	const user = "ann"
	for _, left := range []uint32{35, 10, 0} { // the last is recorded although only 10 were left
		g.send(t, user, 200)
		g.charged(t, "rule-1-match-0", user, left)
	}
	received := g.up.Totals().Received
	denied := g.send(t, user, 429)
	if denied.Header.Get("x-ratelimit-remaining") != "0" || denied.Header.Get("x-envoy-ratelimited") != "true" {
		t.Errorf("refused with %v", denied.Header)
	}
	if n := g.up.Totals().Received; n != received {
		t.Errorf("the provider received %d requests more", n-received)
	}
	if got := g.left(t, "rule-1-match-0", user); got.GetCode() != rlsv3.RateLimitResponse_OVER_LIMIT {
		t.Errorf("the budget is spent, got %v", got)
	}
	// The reference charges the refused one to its requests, too: 1 of 5 is left.
	requests := uint32(2)
	if mode == compat {
		requests = 1
	}
	g.charged(t, "rule-0-match-0", user, requests)
}

func (g *gateway) spendsRequests(t *testing.T, mode string) {
	const user = "cleo"
	g.up.SetDefault(upstream.Behavior{Usage: &upstream.Usage{InputTokens: 1}})
	defer g.up.SetDefault(upstream.Behavior{Usage: &upstream.Usage{InputTokens: 25, OutputTokens: 42}})
	for range 5 {
		g.send(t, user, 200)
	}
	g.send(t, user, 429)
	// A refused request has no tokens: only the five cost one each.
	g.charged(t, "rule-1-match-0", user, 55)
	if got := g.left(t, "rule-0-match-0", user); (got.GetCode() == rlsv3.RateLimitResponse_OVER_LIMIT) != (mode == compat) || got.GetLimitRemaining() != 0 {
		t.Errorf("requests: %v", got)
	}
}

func (g *gateway) costsNothing(t *testing.T) {
	const user = "dora"
	refuse := upstream.Behavior{Status: upstream.StatusOverloaded}
	harness.MustSend(t, g.envoy.URL, harness.Ask{Behavior: &refuse, Headers: map[string]string{"x-user-id": user}}, 529)
	g.send(t, user, 200)
	g.charged(t, "rule-1-match-0", user, 35)
	g.charged(t, "rule-0-match-0", user, 3)
}

func (g *gateway) passesUnnamed(t *testing.T) {
	for range 8 {
		harness.MustSend(t, g.envoy.URL, harness.Ask{}, 200)
	}
}

func (g *gateway) sharesTokens(t *testing.T) {
	for _, user := range []string{"hal", "ida"} {
		harness.MustSend(t, g.envoy.URL, harness.Ask{Headers: map[string]string{"x-user-id": user, "x-group": "blue"}}, 200)
		g.charged(t, "rule-1-match-0", user, 35)
	}
	g.charged(t, "rule-2-match-0", "blue", 1000-2*42)
}

// TestGatewayDeadline: Envoy Gateway has 20 ms for an answer. Without one the request
// passes, and what weir did not see is not charged.
func TestGatewayDeadline(t *testing.T) {
	g := startGateway(t, 20*time.Millisecond, asVerb, compat, "ratelimit.yaml")
	const user = "eve"
	g.Freeze(t)
	g.send(t, user, 200)
	g.Thaw()
	if n := g.envoy.Unseen(t); n == 0 {
		t.Error("Envoy had an answer of a weir that stood still")
	}
	// Those calls were given up: they are not charged when weir goes on, unless they had
	// come so far that nobody could know. The next ones are answered.
	harness.Eventually(t, 10*time.Second, "weir answers within the deadline", func() error {
		got, err := harness.Send(t.Context(), g.envoy.URL, harness.Ask{Headers: map[string]string{"x-user-id": user}})
		if err != nil || got.Header.Get("x-ratelimit-limit") == "" {
			return fmt.Errorf("got %v, %v", got, err) //nolint:errorlint // nobody unwraps it
		}
		return nil
	})
}

// TestGatewayReserves: where a request carries an estimate in weir's words, it holds that
// much while it runs, and is settled with what it used; beside the limits as they were.
func TestGatewayReserves(t *testing.T) {
	g := startGateway(t, 0, asServe, compat, "ratelimit.yaml", "weir.yaml")
	headers := map[string]string{"x-user-id": "fay", "x-llm-org": "acme", "x-ai-eg-model": "claude-test", "x-max-tokens": "900"}
	slow := upstream.Behavior{Usage: &upstream.Usage{InputTokens: 25, OutputTokens: 42}, Delay: upstream.Duration(time.Second)}
	done := make(chan error, 1)
	go func() {
		got, err := harness.Send(t.Context(), g.envoy.URL, harness.Ask{Behavior: &slow, Headers: headers})
		if err == nil && got.Status != 200 {
			err = fmt.Errorf("status %d: %s", got.Status, got.Body)
		}
		done <- err
	}()
	harness.Eventually(t, 10*time.Second, "a reservation is open", func() error {
		if s := g.weir.State(t, "claude", "acme"); s.Open != 1 || s.Used["requests"] != 1 || s.Used["output_tokens"] == 0 {
			return fmt.Errorf("it has %+v", s)
		}
		return nil
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	g.weir.Settled(t, "claude", "acme", harness.Uses(1, 25, 42))
	g.charged(t, "rule-1-match-0", "fay", 35)
	g.charged(t, "rule-0-match-0", "fay", 4)
	// A request without an estimate is not in weir's quota.
	g.send(t, "gil", 200)
	g.charged(t, "rule-1-match-0", "gil", 35)
	g.weir.Settled(t, "claude", "acme", harness.Uses(1, 25, 42))
}
