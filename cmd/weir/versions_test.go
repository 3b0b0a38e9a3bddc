package main

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// minimumVersions are the oldest versions of dependencies without a known hole that
// matters here. It stands in for a look into the database of vulnerabilities, which
// not every place that builds weir can reach.
var minimumVersions = map[string]string{
	"google.golang.org/grpc": "1.83.2",
	"golang.org/x/net":       "0.38.0",
}

func TestMinimumVersions(t *testing.T) {
	text, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	required := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require ")); len(fields) >= 2 {
			required[fields[0]] = strings.TrimPrefix(fields[1], "v")
		}
	}
	for module, least := range minimumVersions {
		have, ok := required[module]
		if !ok {
			t.Errorf("go.mod does not name %s", module)
			continue
		}
		if older(have, least) {
			t.Errorf("%s is v%s, expected v%s or newer", module, have, least)
		}
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{{"1.83.1", "1.83.2", true}, {"1.83.2", "1.83.2", false}, {"1.9.0", "1.83.2", true}, {"1.100.0", "1.83.2", false}, {"2.0.0", "1.83.2", false}} {
		if got := older(c.a, c.b); got != c.want {
			t.Errorf("is %s older than %s: %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

// older compares versions of three numbers. What is no number counts as 0.
func older(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		x, _ := strconv.Atoi(as[i])
		y, _ := strconv.Atoi(bs[i])
		if x != y {
			return x < y
		}
	}
	return len(as) < len(bs)
}
