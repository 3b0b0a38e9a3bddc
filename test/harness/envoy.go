package harness

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/test/upstream"
)

// Upstream is a fake provider that listens on a port.
type Upstream struct {
	*upstream.Server
	Port int
}

// StartUpstream starts a fake provider in this process.
func StartUpstream(t testing.TB, o upstream.Options) *Upstream {
	t.Helper()
	fake := upstream.New(o)
	server := httptest.NewServer(fake)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return &Upstream{Server: fake, Port: port}
}

// URL is the provider's URL, without a slash at its end.
func (u *Upstream) URL() string { return "http://" + Loopback(u.Port) }

// Envoy is a stock Envoy in front of an upstream.
type Envoy struct {
	*Process
	// URL is where clients go, without a slash at its end.
	URL   string
	admin string
}

// EnvoyOptions say how Envoy is started.
type EnvoyOptions struct {
	// Example is a file of examples/envoy.
	Example string
	// File is the path of another file, below the root of the repository, in place of
	// Example.
	File string
	// Weirs are the gRPC ports of weir. None: Envoy asks nobody, and all requests pass.
	Weirs []int
	// Patience is how long Envoy waits for weir's answer. Zero: as the example says.
	Patience time.Duration
	// Retries makes Envoy try calls again that the upstream answered with a 429, and log each
	// attempt. For access-log.yaml.
	Retries bool
}

// StartEnvoy starts Envoy with a file of examples/envoy, in which only the addresses
// are replaced, and waits until it is live. weirs are the gRPC ports of weir.
func StartEnvoy(t testing.TB, example string, up *Upstream, weirs ...int) *Envoy {
	t.Helper()
	return StartEnvoyWith(t, up, EnvoyOptions{Example: example, Weirs: weirs})
}

// StartEnvoyWith is StartEnvoy for an example of which more than the addresses is
// replaced.
func StartEnvoyWith(t testing.TB, up *Upstream, o EnvoyOptions) *Envoy {
	t.Helper()
	binary := Tool(t, "bin/envoy")
	if o.File == "" {
		o.File = filepath.Join("examples", "envoy", o.Example)
	}
	example := filepath.Base(o.File)
	listener, admin := FreePort(t), FreePort(t)
	text, err := o.vary(mustRead(t, filepath.Join(Root(t), o.File)))
	if err == nil {
		text, err = address(text, listener, admin, up.Port, o.Weirs)
	}
	if err != nil {
		t.Fatalf("%s: %v", example, err)
	}
	path := WriteFile(t, example, text)
	// Without --disable-hot-restart Envoy would end with the thread that started it.
	e := &Envoy{
		Process: Start(t, nil, binary, "-c", path, "--disable-hot-restart", "--concurrency", "1", "-l", "warning", "--skip-deprecated-logs"),
		URL:     "http://" + Loopback(listener),
		admin:   "http://" + Loopback(admin),
	}
	Eventually(t, startWithin, "Envoy is live", func() error {
		if err := e.exited(); err != nil {
			t.Fatal(err)
		}
		_, err := Get(t, e.admin+"/ready")
		return err
	})
	return e
}

// attemptLog makes the router of an example log each attempt.
const attemptLog = `              upstream_log:
              - name: envoy.access_loggers.http_grpc
                typed_config:
                  "@type": type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig
                  common_config:
                    log_name: upstream
                    transport_api_version: V3
                    buffer_flush_interval: 0.1s
                    grpc_service: { envoy_grpc: { cluster_name: weir } }
                  additional_request_headers_to_log: [x-envoy-attempt-count]
                  additional_response_headers_to_log:
                  - retry-after
                  - anthropic-ratelimit-requests-limit
                  - anthropic-ratelimit-requests-remaining
`

// vary replaces what differs from the example besides addresses.
func (o EnvoyOptions) vary(text string) (string, error) {
	replace := func(old, by string) error {
		if n := strings.Count(text, old); n != 1 {
			return fmt.Errorf("%q occurs %d times, expected once", old, n)
		}
		text = strings.Replace(text, old, by, 1)
		return nil
	}
	if o.Patience > 0 {
		if err := replace("              timeout: 2s\n", fmt.Sprintf("              timeout: %gs\n", o.Patience.Seconds())); err != nil {
			return "", err
		}
	}
	if o.Retries {
		const once = `{ retry_on: "connect-failure,refused-stream,reset-before-request", num_retries: 1 }`
		const router = `"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router` + "\n"
		for old, by := range map[string]string{
			once:   `{ retry_on: retriable-status-codes, retriable_status_codes: [429], num_retries: 3, rate_limited_retry_back_off: { reset_headers: [{ name: retry-after, format: SECONDS }], max_interval: 30s } }`,
			router: router + attemptLog,
		} {
			if err := replace(old, by); err != nil {
				return "", err
			}
		}
	}
	if len(o.Weirs) == 0 {
		const filter = "          - name: envoy.filters.http.ratelimit\n"
		if err := replace(filter, filter+"            disabled: true\n"); err != nil {
			return "", err
		}
	}
	return text, nil
}

// address replaces the addresses of an example: a port each, and for weir the line of
// the endpoint, once for each replica.
func address(text string, listener, admin, up int, weirs []int) (string, error) {
	replace := func(old, by int) error {
		was := fmt.Sprintf("port_value: %d", old)
		if n := strings.Count(text, was+" "); n != 1 {
			return fmt.Errorf("%q occurs %d times, expected once", was, n)
		}
		text = strings.Replace(text, was+" ", fmt.Sprintf("port_value: %d ", by), 1)
		return nil
	}
	for _, r := range [][2]int{{10000, listener}, {9901, admin}, {18080, up}} {
		if err := replace(r[0], r[1]); err != nil {
			return "", err
		}
	}
	lines := regexp.MustCompile(`(?m)^.*port_value: 8081 .*\n`).FindAllString(text, -1)
	if len(lines) != 1 {
		return "", fmt.Errorf("port 8081 is on %d lines, expected one", len(lines))
	}
	var replicas strings.Builder
	for _, port := range weirs {
		replicas.WriteString(strings.Replace(lines[0], "8081", strconv.Itoa(port), 1))
	}
	return strings.Replace(text, lines[0], replicas.String(), 1), nil
}

// Stats returns Envoy's counters and gauges whose names match a regular expression.
func (e *Envoy) Stats(t testing.TB, filter string) map[string]int {
	t.Helper()
	text, err := Get(t, e.admin+"/stats?filter="+url.QueryEscape(filter))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if n, err := strconv.Atoi(value); err == nil {
			all[name] = n
		}
	}
	return all
}

// Unseen is the number of requests that Envoy admitted without an answer from weir.
func (e *Envoy) Unseen(t testing.TB) int {
	t.Helper()
	return e.Stats(t, "^cluster.upstream.ratelimit.")["cluster.upstream.ratelimit.failure_mode_allowed"]
}

// SeesHealthy waits until Envoy takes n replicas of weir for healthy.
func (e *Envoy) SeesHealthy(t testing.TB, n int) {
	t.Helper()
	Eventually(t, 15*time.Second, fmt.Sprintf("Envoy sees %d replicas healthy", n), func() error {
		if got := e.Stats(t, "^cluster.weir.membership_healthy$")["cluster.weir.membership_healthy"]; got != n {
			return fmt.Errorf("it sees %d", got)
		}
		return nil
	})
}
