package ratelimitstats

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// edge is a file of envoyproxy/ratelimit.
const edge = `
domain: edge
descriptors:
- key: user
  rate_limit: {unit: minute, requests_per_unit: 10}
- key: path
  value: /v1/*
  descriptors:
  - key: method
    value: POST
    rate_limit: {unit: hour, requests_per_unit: 5}
- key: remote_address
  value: 10.0.0.1
  rate_limit: {unit: second, requests_per_unit: 1}
- key: free
  rate_limit: {unlimited: true}
`

// load reads files of envoyproxy/ratelimit.
func load(t testing.TB, files ...string) *config.Loaded {
	t.Helper()
	dir := t.TempDir()
	for i, text := range files {
		name := filepath.Join(dir, string(rune('a'+i))+".yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := config.Load([]string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// hit is an event: n hits on a limit that had counted before, of 10.
func hit(domain, path string, before, n uint64) *server.RatelimitEvent {
	return of(10, domain, path, before, n)
}

// of is hit for another limit.
func of(limit uint64, domain, path string, before, n uint64) *server.RatelimitEvent {
	return &server.RatelimitEvent{
		Domain: domain, Path: []byte(path), Hits: n, Limit: limit,
		Before: before, After: before + n, Charged: true, Over: before+n > limit,
	}
}

// shadow makes e an event of a rule in shadow mode.
func shadow(e *server.RatelimitEvent) *server.RatelimitEvent {
	e.Shadow = true
	return e
}

// back makes e an event of hits that were given back.
func back(e *server.RatelimitEvent) *server.RatelimitEvent {
	e.Negative = true
	e.After = e.Before - min(e.Hits, e.Before)
	return e
}

// book is Stats that are written into a buffer when the test says so.
type book struct {
	*Stats
	out    bytes.Buffer
	writer *writer
}

func newBook(t testing.TB, l *lines, files ...string) *book {
	t.Helper()
	b := new(book)
	b.writer = &writer{to: &b.out, lines: l, log: slog.New(slog.DiscardHandler)}
	b.Stats = newStats(DefaultNearLimitRatio, b.writer)
	if len(files) > 0 {
		b.Loaded(load(t, files...))
	}
	return b
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// flush returns the lines of what was counted since the last time, at an instant.
func (b *book) flush(at time.Duration) string {
	b.out.Reset()
	b.writer.flush(b.Stats, epoch.Add(at))
	return b.out.String()
}

// want compares lines, of which the test leaves out the indentation.
func want(t testing.TB, what, got, lines string) {
	t.Helper()
	var all []string
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line+"\n")
		}
	}
	if w := strings.Join(all, ""); got != w {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, w)
	}
}
