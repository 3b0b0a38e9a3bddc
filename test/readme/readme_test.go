package readme

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// commandLimit bounds one command, and how long a server takes to print its banner.
const commandLimit = time.Minute

var serves = regexp.MustCompile(`(^|&& )(weir|go run \./cmd/weir) serve\b`)

// noServer are arguments with which serve ends by itself.
var noServer = regexp.MustCompile(`--(help|print-config)\b`)

func TestPages(t *testing.T) {
	harness.Tool(t, "bin/grpcurl")
	root := harness.Root(t)
	pages := []string{filepath.Join(root, "README.md")}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, path := range pages {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := parse(string(text))
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if len(steps) == 0 {
			continue
		}
		ran++
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			p := newPage(t)
			for _, s := range steps {
				if err := p.run(t, s); err != nil {
					t.Fatalf("%s:%d: $ %s\n%v", name, s.line, s.command, err)
				}
			}
		})
	}
	if ran == 0 {
		t.Error("no page has a console block")
	}
}

// page is the place in which the commands of one page are run.
type page struct {
	dir    string
	env    []string
	ports  *strings.Replacer
	server *harness.Process
}

func newPage(t *testing.T) *page {
	t.Helper()
	root := harness.Root(t)
	p := &page{dir: t.TempDir()}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); name != ".git" && name != ".tools" && name != "bin" {
			if err := os.Symlink(filepath.Join(root, name), filepath.Join(p.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	grpc, http := strconv.Itoa(harness.FreePort(t)), strconv.Itoa(harness.FreePort(t))
	p.ports = strings.NewReplacer("8081", grpc, "8080", http)
	p.env = []string{
		"PATH=" + filepath.Dir(harness.Binary(t)) + ":" + filepath.Join(root, ".tools", "bin") + ":" + os.Getenv("PATH"),
		"WEIR_GRPC_ADDR=127.0.0.1:" + grpc, "WEIR_HTTP_ADDR=127.0.0.1:" + http, "WEIR_DRAIN_DELAY=10ms",
	}
	return p
}

func (p *page) run(t *testing.T, s step) error {
	t.Helper()
	command := strings.ReplaceAll(p.ports.Replace(s.command), "go run ./cmd/weir", "weir")
	var output []string
	for _, line := range s.output {
		output = append(output, p.ports.Replace(line))
	}
	if serves.MatchString(s.command) && !noServer.MatchString(s.command) {
		return p.serve(t, command, output)
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", command)
	cmd.Dir, cmd.Env = p.dir, append(harness.Environ(), p.env...)
	cmd.WaitDelay = time.Second
	got, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended) && ended.ExitCode() == s.exit:
	case err != nil:
		return fmt.Errorf("%w, expected status %d; it printed\n%s", err, s.exit, indent(string(got)))
	case s.exit != 0:
		return fmt.Errorf("it ended with status 0, expected %d; it printed\n%s", s.exit, indent(string(got)))
	}
	if len(output) == 0 {
		return nil
	}
	return matches(output, string(got), false)
}

// serve starts a server in place of the one before, and waits until it has printed
// what the page shows.
func (p *page) serve(t *testing.T, command string, output []string) error {
	t.Helper()
	if p.server != nil {
		p.server.Stop()
	}
	p.server = harness.Start(t, p.env, "/usr/bin/env", "bash", "-c", "cd "+p.dir+" && "+command)
	deadline := time.Now().Add(commandLimit)
	for {
		err := matches(output, p.server.Output(), true)
		if err == nil {
			return nil
		}
		if ended := p.server.Wait(10 * time.Millisecond); time.Now().After(deadline) || !isWaiting(p.server) {
			return fmt.Errorf("%w\n%w", ended, err)
		}
	}
}

// isWaiting says whether the process still runs.
func isWaiting(p *harness.Process) bool {
	select {
	case <-p.Done():
		return false
	default:
		return true
	}
}
