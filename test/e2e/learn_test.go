package e2e

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/weir-project/weir/test/harness"
	"github.com/weir-project/weir/test/upstream"
)

// lane is an upstream whose limits nobody is told in full, and what weir is told.
type lane struct {
	name string
	// limits are what the upstream enforces, the scarcest first.
	limits []upstream.Limit
	// told is the quota's limits in weir's configuration, empty if there are none.
	told string
	// ramp is how long weir may take to find the limit; what is used of it counts from
	// then on. A lane that has one runs only with the full minute.
	ramp time.Duration
}

// Tokens are plenty, and known from the headers, as with the real API.
var (
	inputShown  = upstream.Limit{Meter: "input-tokens", Amount: 1_000_000, Window: time.Minute}
	outputShown = upstream.Limit{Meter: "output-tokens", Amount: 1_000_000, Window: time.Minute}
)

var lanes = []lane{
	{
		name: "one second, hidden; the headers show the minute",
		limits: []upstream.Limit{
			{Meter: "requests", Amount: 20, Window: time.Second, Hidden: true},
			{Meter: "requests", Amount: 1200, Window: time.Minute},
			inputShown, outputShown,
		},
	},
	{
		name: "one minute, hidden; weir is told its amount",
		limits: []upstream.Limit{
			{Meter: "requests", Amount: 300, Window: time.Minute, Hidden: true, Drained: true},
			inputShown, outputShown,
		},
		told: "limits: {requests_per_minute: 300}",
	},
	{
		name:   "one second, hidden; nothing is told or shown",
		limits: []upstream.Limit{{Meter: "requests", Amount: 20, Window: time.Second, Hidden: true}},
		ramp:   time.Minute,
	},
}

// What learned control is for, with nothing simulated but the provider: 20 callers of
// the SDK, its retries on, meet an upstream with a hidden limit, through Envoy with
// weir, and at the same time their like through an Envoy that asks nobody. It takes 20
// seconds a lane; WEIR_E2E_MINUTE=1 makes it a minute, and adds the lane in which the
// limit must be found, with a further minute for that:
//
//	WEIR_E2E_MINUTE=1 go test -count=1 -run TestLearnedControl -v ./test/e2e
func TestLearnedControl(t *testing.T) {
	seconds := 20.0
	full := os.Getenv("WEIR_E2E_MINUTE") != ""
	if full {
		seconds = 60
	}
	for _, l := range lanes {
		t.Run(l.name, func(t *testing.T) {
			if l.ramp > 0 && !full {
				t.Skip("only with WEIR_E2E_MINUTE=1")
			}
			length := l.ramp.Seconds() + seconds
			with, without := l.start(t, length, true), l.start(t, length, false)
			a, b := with.wait(t), without.wait(t)
			t.Logf("%s, %g s:\n%s", l.name, length, table(a, b))
			l.judge(t, full, a, b)
		})
	}
}

// judge compares a run with weir to one without. The bars are shares of what the
// upstream itself has counted. In less than a minute they are lower, since there the first
// seconds, and a single refusal, weigh more.
func (l lane) judge(t *testing.T, full bool, with, without figures) {
	t.Helper()
	most, least, part := 0.05, 0.75, 0.8
	if full {
		most, least, part = 0.03, 0.85, 0.9
	}
	if without.refused() == 0 {
		t.Fatal("without weir nothing was refused: the limit does not bind")
	}
	if share := with.refused(); share > most || share > without.refused()/5 {
		t.Errorf("with weir the upstream refused %.1f %%, want at most %.0f %% and a fifth of the %.1f %% without",
			100*share, 100*most, 100*without.refused())
	}
	if with.util() < least && with.util() < part*without.util() {
		t.Errorf("with weir %.1f %% of the limit was used, want %.0f %%, or %g of the %.1f %% without",
			100*with.util(), 100*least, part, 100*without.util())
	}
	if share := with.failed(); share > 0.01 {
		t.Errorf("with weir %.1f %% of the callers' calls failed, want at most 1 %%: %v", 100*share, with.errors)
	}
	if with.unseen > 0 {
		t.Errorf("Envoy admitted %d requests without weir's answer, want 0", with.unseen)
	}
}

// run is one of the two sides, under way.
type run struct {
	lane    lane
	name    string
	seconds float64
	up      *harness.Upstream
	envoy   *harness.Envoy
	callers *harness.Callers
}

func (l lane) start(t *testing.T, seconds float64, weir bool) run {
	t.Helper()
	r := run{lane: l, name: "without", seconds: seconds}
	r.up = harness.StartUpstream(t, upstream.Options{Limits: l.limits})
	r.up.SetDefault(upstream.Behavior{Usage: &usage, Delay: upstream.Duration(200 * time.Millisecond)})
	o := harness.EnvoyOptions{Example: "compact.yaml"}
	if weir {
		r.name = "with weir"
		w := harness.StartWeir(t, harness.WeirOptions{Config: `
quotas:
- name: claude
  provider: anthropic
  control: learn
  match: {model: "claude-*"}
  hold: 10s
  ` + l.told})
		// Longer than the hold: past its patience Envoy admits.
		o.Weirs, o.Patience = []int{w.GRPCPort}, 12*time.Second
	}
	r.envoy = harness.StartEnvoyWith(t, r.up, o)
	if weir {
		r.envoy.SeesHealthy(t, 1)
	}
	r.callers = harness.StartLoad(t, harness.Load{
		BaseURL: r.envoy.URL, Seconds: seconds, Org: "acme", Tenants: map[string]int{"chat": 10, "batch": 10},
		Model: "claude-test", MaxTokens: 100, Text: "Hello",
	})
	return r
}

// figures are what came of a run.
type figures struct {
	name string
	// sent is what came to the upstream, in requests, and accepted what of it was not
	// refused. Of these used came when the ramp was over, and could is what the
	// scarcest limit could have served from then on.
	sent, accepted, used int
	could                float64
	// calls are the callers', failed those that ended with an exception.
	calls, failures, retries int
	longest                  float64
	errors                   map[string]int
	tenants                  []string // the calls of each
	unseen                   int
}

func (f figures) util() float64    { return float64(f.used) / f.could }
func (f figures) refused() float64 { return 1 - float64(f.accepted)/float64(f.sent) }
func (f figures) failed() float64  { return float64(f.failures) / float64(f.calls) }

// wait waits for the callers and counts. The upstream is watched from its first
// request until shortly before the callers begin to stop.
func (r run) wait(t *testing.T) figures {
	t.Helper()
	f := figures{name: r.name, errors: map[string]int{}}
	counts := r.callers.Wait(t)
	for _, tenant := range slices.Sorted(maps.Keys(counts)) {
		c := counts[tenant]
		f.tenants = append(f.tenants, fmt.Sprintf("%s %d", tenant, c.Calls))
		f.calls += c.Calls
		f.failures += c.Failed
		f.retries += c.Retries
		f.longest = max(f.longest, c.Longest)
		for text, n := range c.Errors {
			f.errors[text] += n
		}
	}
	requests := r.up.Requests()
	if len(requests) == 0 {
		t.Fatalf("%s: the upstream received nothing: %v", r.name, f.errors)
	}
	watched := time.Duration((r.seconds - 1) * float64(time.Second))
	for _, q := range requests {
		since := q.At.Sub(requests[0].At)
		if since > watched {
			continue
		}
		f.sent++
		if q.RefusedBy == nil {
			f.accepted++
			if since >= r.lane.ramp {
				f.used++
			}
		}
	}
	f.could = r.lane.serves(watched)
	if len(r.envoy.Stats(t, "^cluster.upstream.ratelimit.")) > 0 {
		f.unseen = r.envoy.Unseen(t)
	}
	return f
}

// serves is what the scarcest limit can serve between the end of the ramp and that
// time.
func (l lane) serves(until time.Duration) float64 {
	limit := l.limits[0]
	n := float64(limit.Amount) * (until - l.ramp).Seconds() / limit.Window.Seconds()
	if l.ramp == 0 && !limit.Drained {
		n += float64(limit.Amount) // what the bucket held at first
	}
	return n
}

// table shows runs side by side.
func table(runs ...figures) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tutil %\t429 %\tsent\taccepted\tcalls\tfailed %\tretries\tlongest s\tcalls of each\t")
	for _, f := range runs {
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%d\t%d\t%d\t%.1f\t%d\t%.1f\t%s\t\n", f.name, 100*f.util(), 100*f.refused(),
			f.sent, f.accepted, f.calls, 100*f.failed(), f.retries, f.longest, strings.Join(f.tenants, ", "))
	}
	_ = w.Flush()
	return text.String()
}
