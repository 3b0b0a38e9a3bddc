package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/weir-project/weir/bench/internal/messages"
	"github.com/weir-project/weir/bench/internal/process"
)

var (
	h2loadCounts = regexp.MustCompile(`requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded`)
	h2loadRate   = regexp.MustCompile(`finished in [^,]+, ([0-9.]+) req/s`)
)

// h2load sends n equal requests over 8 connections of 32 streams and returns how
// many a second were answered. It sees HTTP statuses alone: whether the answers were
// right, a real client must have looked before and must look afterwards.
func (b *bench) h2load(s *process.Server, m proto.Message, n int) (perSecond float64, err error) {
	frame, err := messages.Frame(m)
	if err != nil {
		return 0, err
	}
	file := filepath.Join(b.dir, "body.bin")
	if err := os.WriteFile(file, frame, 0o600); err != nil {
		return 0, err
	}
	out, err := exec.Command("h2load", "-n", strconv.Itoa(n), "-c", "8", "-m", "32",
		"-H", "content-type: application/grpc", "-H", "te: trailers", "-d", file,
		"http://"+s.Addr+messages.ShouldRateLimit).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return 0, errors.New("h2load is missing: make -C bench install (Debian: apt-get install nghttp2-client)")
	}
	if err != nil {
		return 0, fmt.Errorf("h2load: %w\n%s", err, out)
	}
	counts, rate := h2loadCounts.FindSubmatch(out), h2loadRate.FindSubmatch(out)
	if counts == nil || rate == nil || string(counts[2]) != strconv.Itoa(n) {
		return 0, fmt.Errorf("h2load: want %d requests succeeded\n%s", n, out)
	}
	return strconv.ParseFloat(string(rate[1]), 64)
}
