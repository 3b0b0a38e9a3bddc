package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/test/harness"
)

// exitInvalid is weir's exit code for a configuration that is not valid.
const exitInvalid = 3

// TestRefusals: weir check and weir serve refuse what the reference refuses, in its
// words, and accept what it accepts.
func TestRefusals(t *testing.T) {
	for _, r := range loadRefusals(t) {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			writeFiles(t, dir, r.Files)
			if !r.Compat {
				r.check(t, dir)
			}
			r.serve(t, dir)
		})
	}
}

// check runs weir check.
func (r *refusal) check(t *testing.T, dir string) {
	t.Helper()
	code, stdout, stderr := run(t, r.Env, "check", "-o", "json", dir)
	var out struct {
		Valid    bool `json:"valid"`
		Problems []struct {
			File string `json:"file"`
			Line int    `json:"line"`
			Text string `json:"text"`
		} `json:"problems"`
	}
	if err := json.Unmarshal([]byte(stdout), &out); err != nil {
		t.Fatalf("exit code %d, %v: %s\n%s", code, err, stdout, stderr)
	}
	switch {
	case r.Text == "" && (code != 0 || !out.Valid):
		t.Fatalf("check: exit code %d, want it to be valid: %s\norigin: %s", code, stdout, r.Origin)
	case r.Text == "":
		return
	case code != exitInvalid || len(out.Problems) == 0:
		t.Fatalf("check: exit code %d, want %d and a problem: %s\norigin: %s", code, exitInvalid, stdout, r.Origin)
	}
	p := out.Problems[0]
	if !strings.HasPrefix(p.Text, r.Text) {
		t.Errorf("check: got %q, want it to begin with %q\norigin: %s", p.Text, r.Text, r.Origin)
	}
	if at := fmt.Sprintf("%s:%d", filepath.Base(p.File), p.Line); r.At != "" && at != r.At {
		t.Errorf("check: %s: got it at %s, want %s", p.Text, at, r.At)
	}
}

// serve has weir serve read the configuration and stop.
func (r *refusal) serve(t *testing.T, dir string) {
	t.Helper()
	code, stdout, stderr := run(t, r.Env, "serve", "--compat=ratelimit", "--print-config", dir)
	want := exitInvalid
	if r.Text == "" {
		want = 0
	}
	if code != want || !strings.Contains(stderr, r.Text) {
		t.Errorf("serve: exit code %d, want %d and %q: %s%s\norigin: %s", code, want, r.Text, stdout, stderr, r.Origin)
	}
}

// run runs weir to its end.
func run(t *testing.T, vars map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), harness.Binary(t), args...)
	cmd.Env = append(harness.Environ(), noSleep)
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		cmd.Env = append(cmd.Env, k+"="+vars[k])
	}
	var out, bad bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &bad
	kill := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), bad.String()
}
