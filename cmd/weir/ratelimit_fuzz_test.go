package main

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
)

// FuzzRefEnv: whatever stands in a variable, it is read or refused with its name and what
// was expected, in lines of its own, and never both.
func FuzzRefEnv(f *testing.F) {
	var names []string
	for name := range readRefEnv(nil).known {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, value := range []string{"", "true", "8080", "-1", "24h", "0.5", "NaN", "WARN", "FILE", "a:b,c:d", "host:1", "\x00\n", "[::1]"} {
		f.Add(i*7, value)
	}
	f.Fuzz(func(t *testing.T, which int, value string) {
		name := names[int(uint(which)%uint(len(names)))]
		r := newRefSettings([]string{name + "=" + value}, true, false)
		cmd := newRatelimit(&process{})
		s, err := readSettings(cmd, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.take(s); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.Contains(line, name) || !strings.Contains(line, "expected ") {
					t.Errorf("%s=%q: %q, want lines with the name and what was expected", name, value, line)
				}
			}
			return
		}
		r.env.note(slog.New(slog.DiscardHandler))
		if v := r.env.known[name]; v.by == readHere && value != "" && v.wrong(value) != "" {
			t.Errorf("%s=%q is accepted", name, value)
		}
	})
}
