package harness_test

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/test/harness"
	"github.com/weir-project/weir/test/upstream"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// Every example is accepted by the real Envoy, as it stands, and with the lines for
// the real provider switched on.
func TestExamplesAreValid(t *testing.T) {
	envoy := harness.Tool(t, "bin/envoy")
	examples, err := filepath.Glob(filepath.Join(harness.Root(t), "examples", "envoy", "*.yaml"))
	if err != nil || len(examples) < 4 {
		t.Fatalf("examples: %v, %v", examples, err)
	}
	validate := func(t *testing.T, path string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), envoy, "--mode", "validate", "-c", path, "-l", "error").CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
	}
	for _, path := range examples {
		name := filepath.Base(path)
		if name == "quotas.yaml" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			validate(t, path)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			before, rest, found := strings.Cut(string(text), "    # transport_socket:")
			block, after, ends := strings.Cut(rest, "\n  - name: weir\n")
			if !found || !ends {
				t.Fatal("no lines for the real provider before the cluster weir")
			}
			block = strings.ReplaceAll(block, "\n    # ", "\n    ")
			on := before + "    transport_socket:" + block + "\n  - name: weir\n" + after
			on = strings.Replace(on, "127.0.0.1, port_value: 18080", "api.anthropic.com, port_value: 443", 1)
			const roots = "/etc/ssl/certs/ca-certificates.crt"
			if _, err := os.Stat(roots); err != nil { // a machine without them validates with one of our own
				on = strings.ReplaceAll(on, roots, harness.WriteFile(t, "roots.pem", ownRoot()))
			}
			validate(t, harness.WriteFile(t, name, on))
		})
	}
}

// So is what Envoy Gateway makes of its own resources.
func TestGatewayExampleIsValid(t *testing.T) {
	envoy := harness.Tool(t, "bin/envoy")
	path := filepath.Join(harness.Root(t), "examples", "envoy-gateway", "envoy.yaml")
	out, err := exec.CommandContext(t.Context(), envoy, "--mode", "validate", "-c", path, "-l", "error").CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", path, err, out)
	}
}

// ownRoot is a certificate, in PEM.
func ownRoot() string {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

// The SDK talks to the fake as it talks to the real API: answers, streams, retries
// and errors come out as the SDK's own.
func TestSDKAgainstTheFakeUpstream(t *testing.T) {
	up := harness.StartUpstream(t, upstream.Options{})
	up.Script(
		upstream.Behavior{Usage: &upstream.Usage{InputTokens: 5, OutputTokens: 6}, Text: "hello"},
		upstream.Behavior{Text: "one two", Events: 2},
		upstream.Behavior{Status: 429, RetryAfter: "1"},
		upstream.Behavior{Text: "after a retry"},
		upstream.Behavior{Status: 400, ErrorMessage: "nonsense"},
	)
	call := harness.Call{Model: "claude-test", MaxTokens: 50, Text: "hi"}
	stream, patient := call, call
	stream.Stream, patient.MaxRetries = true, 2
	sdk := harness.StartSDK(t, up.URL())
	var got []harness.Outcome
	for _, c := range []harness.Call{call, stream, patient, call} {
		got = append(got, sdk.Send(t, c))
	}
	if got[0].Text != "hello" || got[0].Usage["output_tokens"] != 6.0 {
		t.Errorf("answer: %+v", got[0])
	}
	if got[1].Text != "one two" || got[1].Events[len(got[1].Events)-1] != "message_stop" {
		t.Errorf("stream: %+v", got[1])
	}
	if got[2].Text != "after a retry" || got[2].Retries != 1 || got[2].Seconds < 1 {
		t.Errorf("retried: %+v", got[2])
	}
	if got[3].Error != "BadRequestError" || got[3].Status != 400 {
		t.Errorf("refused: %+v", got[3])
	}
}

// A process that is told to stop is gone when the test ends, and what it wrote is
// there to be read.
func TestProcessIsStopped(t *testing.T) {
	var p *harness.Process
	t.Run("inner", func(t *testing.T) {
		p = harness.Start(t, []string{"WORD=hello"}, "/bin/sh", "-c", "echo $WORD; exec sleep 60")
		harness.Eventually(t, 5*time.Second, "it writes", func() error {
			if p.Output() == "" {
				return os.ErrNotExist
			}
			return nil
		})
	})
	if err := p.Wait(time.Second); err == nil || p.Output() != "hello\n" {
		t.Errorf("ended with %v, having written %q", err, p.Output())
	}
}
