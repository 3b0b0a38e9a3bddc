package harness

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// keepOutput is how much of what a process writes is kept: its end, in bytes.
const keepOutput = 128 << 10

// patience is how long a process may take to end once it was told to, before it is
// killed.
const patience = 20 * time.Second

// Process is a program that a test started. Its methods are safe for concurrent use.
type Process struct {
	name   string
	cmd    *exec.Cmd
	output tail
	done   chan struct{}
	err    error // how it ended; set before done is closed
}

// Start runs a program until the test ends, or it does. env is added to the
// environment.
func Start(t testing.TB, env []string, path string, args ...string) *Process {
	t.Helper()
	return start(t, program{path: path, args: args, env: env})
}

// program is what is started, and with what.
type program struct {
	path      string
	args, env []string
	stdin     io.Reader
	stdout    io.Writer // nil: kept with the rest of the output
}

func start(t testing.TB, what program) *Process {
	t.Helper()
	// The test's end is seen by the cleanup below, which is gentler than a context.
	p := &Process{name: filepath.Base(what.path), cmd: exec.Command(what.path, what.args...), done: make(chan struct{})}
	p.cmd.Env = append(Environ(), what.env...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = what.stdin, what.stdout, &p.output
	if what.stdout == nil {
		p.cmd.Stdout = &p.output
	}
	// Whatever it leaves behind does not keep its end from being seen.
	p.cmd.WaitDelay = time.Second
	p.cmd.Dir = Root(t)
	p.cmd.SysProcAttr = attributes()
	started := make(chan error)
	go func() {
		// The kernel sends the death signal when the thread ends that started the
		// process, so that thread stays here until the process has ended.
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		t.Fatalf("starting %s: %v", what.path, err)
	}
	t.Cleanup(func() {
		p.Stop()
		p.report(t)
	})
	return p
}

// report shows the output of a process whose test failed, and fails the test if the
// process had a data race or panicked.
func (p *Process) report(t testing.TB) {
	out := p.Output()
	for _, bad := range []string{"WARNING: DATA RACE", "\npanic: ", "fatal error: "} {
		if strings.Contains(out, bad) {
			t.Errorf("%s wrote %q", p.name, strings.TrimSpace(bad))
		}
	}
	if t.Failed() {
		t.Logf("output of %s (pid %d, %v):\n%s", p.name, p.cmd.Process.Pid, p.err, out)
	}
}

// Output is what the process has written, or the end of it.
func (p *Process) Output() string { return p.output.String() }

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal to the process and to what it started. One that has ended is
// left alone.
func (p *Process) Signal(s syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(-p.Pid(), s)
	}
}

// Freeze stops the process where it is, until Thaw, and returns when all of its
// threads stand still. Linux only.
func (p *Process) Freeze(t testing.TB) {
	t.Helper()
	p.Signal(syscall.SIGSTOP)
	t.Cleanup(p.Thaw)
	Eventually(t, 10*time.Second, p.name+" stands still", func() error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid()))
		if err != nil || len(threads) == 0 {
			return fmt.Errorf("it has %d threads, %v", len(threads), err) //nolint:errorlint // nobody unwraps it
		}
		for _, path := range threads {
			stat, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			// The state follows the name, which is in parentheses.
			if _, after, _ := bytes.Cut(stat, []byte(") ")); !bytes.HasPrefix(after, []byte("T")) {
				return fmt.Errorf("%s: %s", path, stat)
			}
		}
		return nil
	})
}

// Thaw lets a process go on that Freeze has stopped.
func (p *Process) Thaw() { p.Signal(syscall.SIGCONT) }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the process to end, and returns how it did.
func (p *Process) Wait(within time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(within):
		return fmt.Errorf("%s (pid %d) has not ended within %s", p.name, p.Pid(), within)
	}
}

// Stop ends the process with SIGTERM, or with SIGKILL if that takes too long.
func (p *Process) Stop() {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.Kill()
	}
}

// Kill ends the process, and whatever it started, at once.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// exited returns an error once the process has ended.
func (p *Process) exited() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended: %s\n%s", p.name, p.cmd.ProcessState, p.Output())
	default:
		return nil
	}
}

// tail keeps the end of what is written to it. Safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	text []byte
	cut  bool
}

func (b *tail) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	if over := len(b.text) - keepOutput; over > keepOutput {
		b.text, b.cut = append([]byte(nil), b.text[over:]...), true
	}
	return len(p), nil
}

func (b *tail) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cut {
		return "…" + string(bytes.ToValidUTF8(b.text, nil))
	}
	return string(b.text)
}
