package ratelimitstats

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// The page of metrics has a row for each name, and the bounds that hold.
func TestPageOfMetrics(t *testing.T) {
	b, err := os.ReadFile("../docs/reference/ratelimit-metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	rows := slices.Clone(limitNames)
	for _, names := range []struct {
		base  string
		names []string
	}{
		{limitRoot + "<domain>", domainNames},
		{serviceRoot, serviceNames},
		{serviceRoot, []string{runtimeSeries}},
		{serverRoot, serverNames},
		{serverRoot, []string{responseTime}},
	} {
		for _, name := range names.names {
			rows = append(rows, names.base+"."+name)
		}
	}
	for _, name := range rows {
		if n := strings.Count(page, "\n| `"+name+"` |"); n != 1 {
			t.Errorf("%s has %d rows, want 1", name, n)
		}
	}
	for _, bound := range []string{
		fmt.Sprintf("at most %d,%03d names with values", MaxRuntimeSeries/1000, MaxRuntimeSeries%1000),
		fmt.Sprintf("together %d,%03d,", MaxAllRuntimeSeries/1000, MaxAllRuntimeSeries%1000),
		fmt.Sprintf("at most %d unknown domains", MaxUnknownDomains),
		fmt.Sprintf("more than %d bytes", MaxRuntimePath),
		fmt.Sprintf("for %d minutes make", int(KeepIdle.Minutes())),
	} {
		if !strings.Contains(strings.Join(strings.Fields(page), " "), bound) {
			t.Errorf("the page does not say %q", bound)
		}
	}
}
