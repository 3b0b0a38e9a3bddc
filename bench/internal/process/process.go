// Package process starts a server pinned to a core and reads what it uses from
// /proc. It works on Linux only.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on every
// architecture that Go runs on.
const tick = time.Second / 100

// Server is a running server. It is not safe for concurrent use.
type Server struct {
	// Addr is where it listens for gRPC.
	Addr string
	cmd  *exec.Cmd
	log  *bytes.Buffer
	gone chan struct{} // closed when it has ended, and err is set
	err  error
}

// Start runs a program on cores, a list with commas between (wherever the caller runs, if
// empty), with env added to
// the environment, and returns when addr accepts connections. The program's output
// is kept for errors.
func Start(cores, addr string, env []string, name string, args ...string) (*Server, error) {
	if cores != "" {
		args = append([]string{"-c", cores, name}, args...)
		name = "taskset"
	}
	s := &Server{Addr: addr, cmd: exec.Command(name, args...), log: &bytes.Buffer{}, gone: make(chan struct{})}
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	// A server must not outlive a run that was killed.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		if s.err = s.cmd.Wait(); s.err == nil {
			s.err = errors.New("exit status 0")
		}
		close(s.gone)
	}()
	return s, s.await()
}

// await waits until the server accepts connections.
func (s *Server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp", s.Addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-s.gone:
			return fmt.Errorf("%s ended before it listened on %s: %w\n%s", s.cmd, s.Addr, s.err, s.log)
		case <-ctx.Done():
			_ = s.Stop()
			return fmt.Errorf("%s does not listen on %s after 10 s\n%s", s.cmd, s.Addr, s.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the server: by SIGTERM, and by SIGKILL if that takes too long.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.gone:
	case <-time.After(time.Second):
		_ = s.cmd.Process.Kill()
		<-s.gone
	}
	return nil
}

// CPU returns the time that the server has used on processors, in user and kernel
// mode, to 10 ms.
func (s *Server) CPU() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	return parseStat(string(b))
}

// parseStat adds fields 14 and 15. The second field is a name in brackets that may
// hold anything.
func parseStat(line string) (time.Duration, error) {
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat has %d fields after the name, want at least 13: %q", len(fields), line)
	}
	user, err := strconv.ParseUint(fields[11], 10, 63)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseUint(fields[12], 10, 63)
	if err != nil {
		return 0, err
	}
	return time.Duration(user+system) * tick, nil
}

// RSS returns the bytes of memory that are resident.
func (s *Server) RSS() (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("/proc/PID/status names no VmRSS")
}
