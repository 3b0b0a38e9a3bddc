package server

import (
	"fmt"
	"log/slog"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"

	"github.com/weir-project/weir/test/authority"
)

var metricRow = regexp.MustCompile("(?m)^\\| `(weir_[a-z_]+)` \\| ([a-z]+) \\|([^|]*)\\|")

func TestTheDocumentedMetricsAreThoseThatAreShown(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range metricRow.FindAllStringSubmatch(string(page), -1) {
		labels := strings.FieldsFunc(row[3], func(r rune) bool { return strings.ContainsRune("`, ", r) })
		slices.Sort(labels)
		documented[row[1]] = fmt.Sprint(row[2], labels)
	}
	spec := opus()
	spec.Quotas[0].Learn = true
	inBubble(t, Options{Loaded: loaded(t, spec, "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		id, err := newIdentity(filesOf(t, authority.New(t), t.TempDir(), 1), slog.Default())
		if err != nil {
			t.Fatal(err)
		}
		w.server.d.metrics.watchCertificate(id) // as a server with TLS does
		// An error, and a refusal, so that each family has a child.
		_, _ = w.quota.Report(t.Context(), &weirv1.ReportRequest{})
		r := w.reserve(call("acme", 10, 10))
		if _, err := w.quota.Report(t.Context(), &weirv1.ReportRequest{Reservation: r.GetReservation(), HttpStatus: 529}); err != nil {
			t.Fatal(err)
		}
		w.refuse(w.reserve(call("globex", 10, 10)).GetReservation(), time.Second)
		shown := map[string]string{}
		families, err := w.server.d.metrics.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if strings.HasPrefix(f.GetName(), "weir_") {
				shown[f.GetName()] = fmt.Sprint(strings.ToLower(f.GetType().String()), labelsOf(f))
			}
		}
		if diff := cmp.Diff(documented, shown); diff != "" {
			t.Errorf("docs/metrics.md says otherwise (-page +server):\n%s", diff)
		}
		if problems, err := testutil.GatherAndLint(w.server.d.metrics.registry); err != nil || len(problems) > 0 {
			t.Errorf("%v %v", problems, err)
		}
	})
}

func labelsOf(f *dto.MetricFamily) []string {
	labels := []string{}
	for _, l := range f.GetMetric()[0].GetLabel() {
		labels = append(labels, l.GetName())
	}
	slices.Sort(labels)
	return labels
}

func TestDecisionsAreCounted(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		m := w.server.d.metrics
		first := w.reserve(call("acme", 600, 100))
		w.reserve(call("acme", 600, 100))  // denied
		w.reserve(call("acme", 1001, 100)) // infeasible
		w.reserve(&weirv1.ReserveRequest{Attributes: map[string]string{"model": "gpt"}})
		w.reserve(&weirv1.ReserveRequest{Domain: "no such domain", Attributes: map[string]string{"model": "gpt"}})
		_, _ = w.quota.Release(t.Context(), &weirv1.ReleaseRequest{Reservation: first.GetReservation()})
		_, _ = w.quota.Release(t.Context(), &weirv1.ReleaseRequest{Reservation: first.GetReservation()})
		_, _ = w.quota.Release(t.Context(), &weirv1.ReleaseRequest{Reservation: "unknown"})
		said := func(domain, owner string, v limiter.Verdict) float64 {
			return float64(m.plan.Load().verdicts[seriesKey{domain, owner}].verdicts[v].n.Load())
		}
		charged := func(meter limiter.Meter) float64 {
			return float64(m.plan.Load().units[unitsKey{"opus", meter}].n.Load())
		}
		for want, got := range map[string]float64{
			"1 allowed":       said("llm", "opus", limiter.Allowed),
			"1 denied":        said("llm", "opus", limiter.Denied),
			"1 infeasible":    said("llm", "opus", limiter.Infeasible),
			"1 of nobody":     said("llm", none, limiter.Allowed),
			"1 elsewhere":     said(other, none, limiter.Allowed),
			"600 input":       charged(limiter.InputTokens),
			"100 output":      charged(limiter.OutputTokens),
			"1 released":      float64(m.settlements[limiter.Released].Load()),
			"0 of no account": float64(m.settlements[limiter.Unknown].Load()),
		} {
			if !strings.HasPrefix(want, fmt.Sprint(got, " ")) {
				t.Errorf("counted %v, want %s", got, want)
			}
		}
	})
}

func TestSeriesComeAndGoWithThePlan(t *testing.T) {
	first := loaded(t, opus(), "aaaaaaaaaaaa", nil)
	inBubble(t, Options{Loaded: first}, func(t *testing.T, w *world) {
		series := func() int { return testutil.CollectAndCount(planCollector{w.server.d.metrics}, "weir_decisions_total") }
		before := series()
		for i := range 20 {
			spec := opus()
			spec.Quotas[0].Name = fmt.Sprint("quota-", i)
			w.server.Apply(loaded(t, spec, fmt.Sprint(i), first))
			w.reserve(call("acme", 1, 1))
		}
		if n := series(); n != before {
			t.Errorf("%d series after 20 renamings, want %d as before", n, before)
		}
		w.server.Apply(first)
		for i := range 1000 {
			w.reserve(&weirv1.ReserveRequest{Domain: fmt.Sprint("domain-", i), Attributes: map[string]string{"org": fmt.Sprint("org-", i)}})
		}
		if n := series(); n != before {
			t.Errorf("%d series after 1000 callers, want %d as before", n, before)
		}
	})
}

// Of a plan of thousands of rules only those that are asked for have series.
func TestALargePlanShowsWhatIsUsed(t *testing.T) {
	rules := func(n int) limiter.Spec {
		d := limiter.DomainSpec{Name: "edge"}
		for i := range n {
			d.Rules = append(d.Rules, limiter.RuleSpec{
				Key: "user", Value: fmt.Sprint(i),
				Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: 10, Window: time.Minute}},
			})
		}
		return limiter.Spec{Domains: []limiter.DomainSpec{d}}
	}
	m := newMetrics("test")
	count := func() string {
		c := planCollector{m}
		return fmt.Sprint(testutil.CollectAndCount(c, "weir_decisions_total"), " ", testutil.CollectAndCount(c, "weir_charged_units_total"))
	}
	few := loaded(t, rules(3), "aaaaaaaaaaaa", nil)
	m.bind(few)
	all := count()
	many := loaded(t, rules(2000), "bbbbbbbbbbbb", few)
	p := m.bind(many)
	if got := count(); got != "0 0" {
		t.Errorf("%s series of 2,000 rules before any decision, want none", got)
	}
	limits := many.Plan.Limits()
	for range 2 {
		p.decided("edge", &limiter.Decision{RefusedBy: -1, Checks: []limiter.Check{{Limit: limits[7], Requested: 5}}})
	}
	if got := count(); got != "1 1" {
		t.Errorf("%s series of 2,000 rules after decisions by one, want 1 1", got)
	}
	m.bind(loaded(t, rules(3), "cccccccccccc", many))
	if got := count(); got != all {
		t.Errorf("%s series of 3 rules after a plan with more, want %s as at first", got, all)
	}
}

// What is counted stops at the largest number, and does not begin again.
func TestCountsDoNotWrap(t *testing.T) {
	var c count
	for range 3 {
		c.add(math.MaxUint64 - 1)
	}
	if got := c.n.Load(); got != math.MaxUint64 {
		t.Errorf("counted %d, want the largest number", got)
	}
}

// What was counted goes on through a reload, for whoever stays.
func TestCountsGoOnThroughReloads(t *testing.T) {
	first := loaded(t, opus(), "aaaaaaaaaaaa", nil)
	inBubble(t, Options{Loaded: first}, func(t *testing.T, w *world) {
		for i := range 3 {
			w.reserve(call("acme", 100, 10))
			p := w.server.d.metrics.plan.Load()
			said := p.verdicts[seriesKey{"llm", "opus"}].verdicts[limiter.Allowed].n.Load()
			charged := p.units[unitsKey{"opus", limiter.InputTokens}].n.Load()
			if want := uint64(i + 1); said != want || charged != 100*want {
				t.Errorf("after %d reloads: %d decisions and %d input tokens, want %d and %d", i, said, charged, want, 100*want)
			}
			w.server.Apply(loaded(t, opus(), fmt.Sprint(i), first))
		}
	})
}
