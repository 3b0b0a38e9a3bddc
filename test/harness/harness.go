// Package harness starts real peers for end to end tests: the weir binary, a stock
// Envoy with one of examples/envoy, Anthropic's Python SDK, and a fake upstream.
//
// Every program is started on loopback with ports of its own, is stopped by its
// process id when its test ends, and shows what it wrote if the test failed. A test
// package calls [Main] from its TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// requireVar is the environment variable that makes missing tools a failure; without
// it the tests that need them are left out, so that `go test ./...` works anywhere.
const requireVar = "E2E_TOOLS"

// build is where Main puts the binary, and what came of building it.
var build struct {
	once sync.Once
	dir  string
	err  error
}

// Main runs the tests of a package and cleans up after them. It returns the exit
// status.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "weir-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	build.dir = dir
	return m.Run()
}

// Root is the root of the repository.
func Root(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("harness: no caller information, cannot find the repository")
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Tool returns the path of a program that `make tools` installs, as a path below
// .tools. Where it is missing the test is skipped, or fails under E2E_TOOLS=require.
func Tool(t testing.TB, path string) string {
	t.Helper()
	full := filepath.Join(Root(t), ".tools", path)
	if _, err := os.Stat(full); err == nil {
		return full
	}
	if os.Getenv(requireVar) == "require" {
		t.Fatalf("%s is missing; run \"make tools\"", full)
	}
	t.Skipf("%s is missing; run \"make tools\" to have this test run", full)
	return ""
}

// Binary returns the path of the weir binary, built on first use: with the race
// detector if the tests have it.
func Binary(t testing.TB) string {
	t.Helper()
	path := filepath.Join(build.dir, "weir")
	build.once.Do(func() {
		if build.dir == "" {
			build.err = errors.New("TestMain does not call harness.Main")
			return
		}
		args := []string{"build", "-o", path}
		if raceEnabled {
			args = append(args, "-race")
		}
		cmd := exec.CommandContext(context.Background(), "go", append(args, "./cmd/weir")...)
		cmd.Dir = Root(t)
		if out, err := cmd.CombinedOutput(); err != nil {
			build.err = fmt.Errorf("go build ./cmd/weir: %w\n%s", err, out)
		}
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return path
}

// FreePort returns a port that nobody listens on. It lies below the range that the
// system gives to outgoing connections, so that none of these takes it meanwhile.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 200 {
		port := 20000 + rand.IntN(12000)
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", Loopback(port))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no free port between 20000 and 32000")
	return 0
}

// Loopback is the address of a port of this machine.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Eventually calls check until it returns nil, and fails the test with its last
// error if that takes longer than within.
func Eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(pause)
	}
}

// Environ is the environment without the variables that weir reads, which whoever
// runs the tests may have set.
func Environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "WEIR_") })
}

// WriteFile writes a file into a directory of the test's own, and returns its path.
func WriteFile(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
