package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const environmentPage = "../../docs/reference/ratelimit-environment.md"

// The page of variables is what the table says.
func TestRatelimitEnvironmentPage(t *testing.T) {
	want := environmentReference()
	if *update {
		if err := os.WriteFile(environmentPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(environmentPage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is not what the table says; run go test ./cmd/weir -update (-want +got):\n%s", environmentPage, diff)
	}
}

const environmentHead = `# The environment of envoyproxy/ratelimit

<!-- Written by go test ./cmd/weir -update; do not edit. -->

Started under the name ` + "`ratelimit`, or as `weir ratelimit`" + `, weir serves as envoyproxy/ratelimit does: with its variables, its
defaults and its directories. ` + "`weir serve --compat=ratelimit`" + ` reads the same variables where they are set, and keeps weir's own
defaults for the others. Flags win over ` + "`WEIR_`" + ` variables, those over the variables below, and those over the ` + "`server`" + ` block of a
file. An empty variable is as good as none. ` + "`weir ratelimit --print-config`" + ` shows every setting and where it came from.

Nothing is ignored in silence. A variable without effect, whose value is another than its default, is named in the log at the
start, with what weir does instead. Values that cannot be read end the start with exit code 2: all of them are listed, with what
was expected. A name that is nearly one of these is warned about.

What is different, and cannot be turned back with a variable:

- Only files called ` + "`*.yaml` and `*.yml`" + ` are read; others are named in the log. Files that are renamed or moved are noticed.
- Limits hold in any interval, and refused requests are not charged. ` + "`--compat=ratelimit` (`WEIR_COMPAT=ratelimit`)" + ` counts in
  fixed windows and charges refusals, as envoyproxy/ratelimit does.
- The debug port is closed unless ` + "`DEBUG_HOST` or `DEBUG_PORT`" + ` is set. A port that is taken is an error.
- While there has been no valid configuration calls are answered with ` + "`UNAVAILABLE`" + `, "no rate limit configuration loaded".
- The gRPC health of "" is that of ` + "`ratelimit`" + `, and not always SERVING. SIGTERM says "not ready" first, goes on serving for
  ` + "`--drain-delay`" + `, and then stops; SIGHUP reads the files.
- A body of more than 64 KiB at ` + "`/json`" + ` is answered with 413.
- weir's own services are on both ports, too. Whoever can reach the ports can use them; let nobody do that who must not.
`

// environmentReference returns the page.
func environmentReference() string {
	var b strings.Builder
	b.WriteString(environmentHead)
	for _, g := range refVariables {
		fmt.Fprintf(&b, "\n## %s\n\n| variable | default | |\n|---|---|---|\n", g.title)
		for i := range g.variables {
			v := &g.variables[i]
			value := ""
			if v.def != "" {
				value = "`" + v.def + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.name, value, v.sentence())
		}
	}
	b.WriteString("\nThe `OTEL_` variables are those of OpenTelemetry: `OTEL_EXPORTER_OTLP_ENDPOINT` says where spans go, `OTEL_RESOURCE_ATTRIBUTES` adds to\nwhat they say of this process. Spans that cannot be sent are lost, and the log says so once a minute; nothing waits for them.\n")
	return b.String()
}

// Each variable is there once, does something or has a sentence that says what weir does
// instead, and has a default that can be read.
func TestRefVariables(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range refVariables {
		for i := range g.variables {
			v := &g.variables[i]
			if seen[v.name] {
				t.Errorf("%s: twice", v.name)
			}
			seen[v.name] = true
			if (v.does == "") == (v.instead == "") {
				t.Errorf("%s: expected either what it does or what happens instead", v.name)
			}
			if (v.does != "" && !strings.HasSuffix(v.does, ".")) || strings.HasSuffix(v.instead, ".") {
				t.Errorf("%s: sentences of the page end with a dot, those of the log do not", v.name)
			}
			if v.def != "" && v.wrong(v.def) != "" {
				t.Errorf("%s: its default %q cannot be read: expected %s", v.name, v.def, v.wrong(v.def))
			}
		}
	}
	for name := range strings.FieldsSeq(`HOST GRPC_UDS GRPC_SERVER_TLS_CA_CERT RUNTIME_WATCH_ROOT CONFIG_GRPC_XDS_NODE_ID XDS_CLIENT_BACKOFF_JITTER
		USE_STATSD PROMETHEUS_MAPPER_YAML LIMIT_RESET_HEADER REDIS_URL REDIS_PERSECOND REDIS_PERSECOND_PIPELINE_LIMIT REDIS_STARTUP_MAX_ELAPSED_TIME
		MEMCACHE_SRV TRACING_SAMPLING_RATE STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED`) {
		if !seen[name] {
			t.Errorf("%s is not there", name)
		}
	}
}

// What can be read is accepted, all else is refused with what was expected.
func TestKindsOfVariables(t *testing.T) {
	cases := map[string]struct{ good, bad []string }{
		"SHADOW_MODE":                     {[]string{"true", "false", "1", "0", "T", "FALSE"}, []string{"yes", "on", "2", " true"}},
		"PORT":                            {[]string{"0", "8080", "65535", "0x50"}, []string{"65536", "-1", "http", "8080/tcp", "1.5"}},
		"LOCAL_CACHE_SIZE_IN_BYTES":       {[]string{"0", "524288"}, []string{"512KiB", "-1", "1e6"}},
		"GRPC_MAX_CONNECTION_AGE":         {[]string{"0", "24h", "1h30m", "500ms"}, []string{"24", "1d", "-1s", "soon"}},
		"TRACING_SAMPLING_RATE":           {[]string{"0", "1", "0.25", "1e-3"}, []string{"1.1", "-0.5", "NaN", "50%"}},
		"LOG_LEVEL":                       {[]string{"WARN", "warning", "Debug", "trace"}, []string{"loud", "4"}},
		"CONFIG_TYPE":                     {[]string{"FILE", "GRPC_XDS_SOTW"}, []string{"GRPC_XDS_DELTA", "FIEL"}},
		"REDIS_TYPE":                      {[]string{"single", "SENTINEL", "Cluster"}, []string{"RING"}},
		"LIMIT_LIMIT_HEADER":              {[]string{"X-Limit", "x"}, nil},
		"REDIS_PERSECOND_PIPELINE_WINDOW": {[]string{"150us"}, []string{"150"}},
	}
	for name, c := range cases {
		for _, value := range c.good {
			if e := readRefEnv([]string{name + "=" + value}); len(e.problems) > 0 {
				t.Errorf("%s=%q is refused: %v", name, value, e.problems)
			}
		}
		for _, value := range c.bad {
			e := readRefEnv([]string{name + "=" + value})
			if len(e.problems) != 1 || !strings.HasPrefix(e.problems[0], fmt.Sprintf("%s=%q: expected ", name, value)) {
				t.Errorf("%s=%q: problems %q, want one that names variable, value and what was expected", name, value, e.problems)
			}
		}
	}
}

// Whatever the environment holds, each variable that is not honoured is named once if it
// differs from its default; and never a value.
func TestNotesNameWhatHasNoEffect(t *testing.T) {
	var unused []string
	for name, v := range readRefEnv(nil).known {
		if v.instead != "" && v.is == asText {
			unused = append(unused, name)
		}
	}
	slices.Sort(unused)
	rapid.Check(t, func(t *rapid.T) {
		set := rapid.MapOf(rapid.SampledFrom(unused), rapid.StringMatching(`zq[a-z]{8}qz`)).Draw(t, "set")
		var environ []string
		for _, name := range slices.Sorted(maps.Keys(set)) {
			environ = append(environ, name+"="+set[name])
		}
		var out bytes.Buffer
		readRefEnv(environ).note(slog.New(slog.NewTextHandler(&out, nil)))
		for _, name := range unused {
			want := 0
			if _, ok := set[name]; ok {
				want = 1
			}
			if got := strings.Count(out.String(), "name="+name+" "); got != want {
				t.Errorf("%s is named %d times, want %d:\n%s", name, got, want, out.String())
			}
		}
		for _, value := range set {
			if strings.Contains(out.String(), value) {
				t.Errorf("a value is shown: %s", out.String())
			}
		}
	})
}

// A name that is nearly one of the variables is noted; what others set is not.
func TestNearNamesAreNoted(t *testing.T) {
	e := readRefEnv([]string{
		"REDIS_POL_SIZE=1", "RUNTIME_SUBDIR=x", "CONFIG_GRPC_XDS_NODEID=x", "LIMIT_RESPONSE_HEADER_ENABLED=true", "TRACING_ENABELD=true",
		"REDIS_SERVICE_HOST=10.0.0.1", "REDIS_PORT_6379_TCP_ADDR=10.0.0.1", "GRPC_GO_LOG_VERBOSITY_LEVEL=99", "HOSTNAME=a", "PATH=/bin", "MEMCACHE_SRW=",
		"DOG_STATSD_MOGRIFIER_A_NAME=x",
	})
	want := []stranger{
		{"CONFIG_GRPC_XDS_NODEID", "CONFIG_GRPC_XDS_NODE_ID"},
		{"LIMIT_RESPONSE_HEADER_ENABLED", "LIMIT_RESPONSE_HEADERS_ENABLED"},
		{"REDIS_POL_SIZE", "REDIS_POOL_SIZE"},
		{"TRACING_ENABELD", "TRACING_ENABLED"},
	}
	if diff := cmp.Diff(want, e.strange, cmp.AllowUnexported(stranger{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
