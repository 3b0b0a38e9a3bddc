package simulate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func run(t *testing.T, upstream, workload string, change func(*Scenario)) *Result {
	t.Helper()
	s, err := Named(upstream, workload)
	if err != nil {
		t.Fatal(err)
	}
	s.Seed, s.Duration = 3, Duration(3*time.Minute)
	if change != nil {
		change(&s)
	}
	r, err := Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTheSameSeedGivesTheSameRun(t *testing.T) {
	for _, k := range Kinds() {
		again := func(s *Scenario) { s.Limiter, s.Mode, s.RestartAt, s.LostReports = k, Deny, []Duration{sec(60)}, 0.1 }
		if diff := cmp.Diff(run(t, "U6", "W3i", again), run(t, "U6", "W3i", again)); diff != "" {
			t.Errorf("%s:\n%s", k, diff)
		}
	}
}

func TestNothingIsLost(t *testing.T) {
	for _, mode := range []Mode{Queue, Deny} {
		for _, k := range Kinds() {
			for _, up := range []string{"U2", "U3", "U5", "U6", "U7"} {
				r := run(t, up, "W3r", func(s *Scenario) {
					s.Limiter, s.Mode, s.RestartAt = k, mode, []Duration{sec(61)}
				})
				waiting := 0.0
				for _, v := range r.Series.Waiting {
					waiting += v[len(v)-1]
				}
				if on := r.Arrived - r.Accepted - r.Dropped; float64(on) > waiting+60 || on < 0 {
					t.Errorf("%s, %s, %s: %d arrived, %d accepted, %d dropped, %v waiting", up, k, mode, r.Arrived, r.Accepted, r.Dropped, waiting)
				}
				if on := r.Sent - r.Accepted - r.Rejected - r.Overloaded; on < 0 || on > 60 {
					t.Errorf("%s, %s, %s: %d sent, %d accepted, %d rejected, %d overloaded", up, k, mode, r.Sent, r.Accepted, r.Rejected, r.Overloaded)
				}
				if r.Utilization > 100.5 {
					t.Errorf("%s, %s, %s: more was used than there was: %v %%", up, k, mode, r.Utilization)
				}
			}
		}
	}
}

func TestEveryLimiterMeetsTheSameRequests(t *testing.T) {
	var want *Result
	for _, k := range Kinds() {
		r := run(t, "U2", "W3i", func(s *Scenario) { s.Limiter = k })
		if want == nil {
			want = r
		}
		if r.Arrived != want.Arrived || r.Tenants[2].Offered != want.Tenants[2].Offered {
			t.Errorf("%s: %d arrived, others had %d", k, r.Arrived, want.Arrived)
		}
	}
}

func TestAllItemsAreDone(t *testing.T) {
	for _, k := range Kinds() {
		r := run(t, "U2", "W1", func(s *Scenario) {
			s.Limiter, s.Duration, s.Workload.Items = k, Duration(2*time.Hour), 100
		})
		if r.Completed != 100 || r.Makespan < 99 {
			t.Errorf("%s: %d completed in %v s", k, r.Completed, r.Makespan)
		}
	}
}

func TestSDKsRepeatTwice(t *testing.T) {
	r := run(t, "U6", "W3r", func(s *Scenario) {
		s.Limiter = SDK
		s.Workload.Load = 0.3
		s.Upstream.Overloads = []Overload{{At: 0, For: sec(1000), Share: 1}}
	})
	if r.Accepted != 0 || r.Sent < 3*r.Dropped || r.Sent > 3*r.Arrived {
		t.Errorf("%d arrived, %d sent, %d dropped: want three calls for each", r.Arrived, r.Sent, r.Dropped)
	}
	for repeats, least := range []time.Duration{375, 750, 1500, 3000, 6000, 6000} {
		d := backoff(newChance(1, 1), repeats, 0)
		if d < least*time.Millisecond || d > least*time.Millisecond*4/3 {
			t.Errorf("repeat %d after %s", repeats, d)
		}
	}
	if d := backoff(newChance(1, 1), 0, 59*time.Second); d != 59*time.Second {
		t.Errorf("told 59 s, it waits %s", d)
	}
	if d := backoff(newChance(1, 1), 0, time.Hour); d > time.Second {
		t.Errorf("told an hour, it waits %s", d)
	}
}

func TestWindowsCountAMinute(t *testing.T) {
	for _, k := range []Kind{FixedWindow, SlidingWindow} {
		r := run(t, "U1", "W3r", func(s *Scenario) { s.Limiter, s.Duration = k, sec(600) })
		for m := range 10 {
			if got := sum(r.Series.Sent[m*60+1 : m*60+61]); got > 620 {
				t.Errorf("%s: %v sent in minute %d, with 600 allowed", k, got, m)
			}
		}
		if r.Accepted < 5900 {
			t.Errorf("%s: accepted %d of 6000", k, r.Accepted)
		}
	}
}

func TestARestartedWeirIsAskedAgainWithinASecond(t *testing.T) {
	r := run(t, "U1", "W3r", func(s *Scenario) { s.RestartAt = []Duration{sec(120)} })
	before := r.Series.Waiting[0][120]
	if after := r.Series.Waiting[0][123]; before < 5 || after < before/2 {
		t.Errorf("%v waited before the restart, %v after it", before, after)
	}
	if r.Utilization < 80 || r.RejectedShare() > 5 {
		t.Errorf("util %v, 429 %v", r.Utilization, r.RejectedShare())
	}
}

func TestAScenarioThatMakesNoSenseSaysWhere(t *testing.T) {
	for want, change := range map[string]func(*Scenario){
		`limiter: "magic" is none of`:                 func(s *Scenario) { s.Limiter = "magic" },
		`mode: "wish" is neither`:                     func(s *Scenario) { s.Mode = "wish" },
		"upstream.limits.input_tokens: 0 is not":      func(s *Scenario) { s.Upstream.Limits.InputTokens = 0 },
		"upstream.changes[1].at":                      func(s *Scenario) { s.Upstream.Changes = []Change{{sec(5), 1}, {sec(5), 2}} },
		"upstream.overloads[0]: share":                func(s *Scenario) { s.Upstream.Overloads = []Overload{{Share: 2}} },
		"workload.load: 0":                            func(s *Scenario) { s.Workload.Load = 0 },
		"workload.binding: \"cents\"":                 func(s *Scenario) { s.Workload.Binding = "cents" },
		"workload.tenants[1].name: \"a\" is empty or": func(s *Scenario) { s.Workload.Tenants = []Tenant{{"a", 1, 1}, {"a", 1, 1}} },
		"workload.input: needs kind":                  func(s *Scenario) { s.Workload.Input = Dist{Kind: "flat", Median: 1} },
		"lost_reports: 2 is not a share":              func(s *Scenario) { s.LostReports = 2 },
		"duration: 9999h0m0s is not between":          func(s *Scenario) { s.Duration = Duration(9999 * time.Hour) },
	} {
		s, err := Named("U1", "W3r")
		if err != nil {
			t.Fatal(err)
		}
		change(&s)
		if _, err := Run(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := Named("U99", "W1"); err == nil || !strings.Contains(err.Error(), `no upstream is called "U99"`) {
		t.Error(err)
	}
	if _, err := Named("U1", "W99"); err == nil || !strings.Contains(err.Error(), `no workload is called "W99"`) {
		t.Error(err)
	}
}

func TestACancelledRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := Named("U1", "W3r")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := RunAll(ctx, Seeds(s, 1, 2, 3)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestScenariosAreData(t *testing.T) {
	for _, up := range UpstreamNames() {
		for _, w := range WorkloadNames() {
			want, err := Named(up+"n", w)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			var got Scenario
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s x %s:\n%s", up, w, diff)
			}
		}
	}
}

func TestThePageNeedsNothingElse(t *testing.T) {
	var results []*Result
	for _, k := range []Kind{Weir, None} {
		results = append(results, run(t, "U4", "W3r", func(s *Scenario) { s.Limiter, s.Name = k, "a <b> & c" }))
	}
	var page, table bytes.Buffer
	if err := WritePage(&page, "weir", results); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	for _, s := range []string{"http:", "https:", "<script", "src=", "@import", "<b>", "NaN", "ZgotmplZ"} {
		if strings.Contains(text, s) {
			t.Errorf("the page has %q", s)
		}
	}
	if n := strings.Count(text, "<svg"); n != 6 {
		t.Errorf("%d plots, want 6", n)
	}
	if err := WriteTable(&table, Summarize(results)); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(table.String()), "\n"); len(lines) != 3 || !strings.Contains(lines[2], "none") {
		t.Errorf("table:\n%s", table.String())
	}
}

func BenchmarkHour(b *testing.B) {
	s, err := Named("U1", "W3r")
	if err != nil {
		b.Fatal(err)
	}
	s.Duration = Duration(time.Hour)
	for b.Loop() {
		if _, err := Run(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
}
