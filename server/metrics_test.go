package server

import (
	"fmt"
	"log/slog"
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
		for want, got := range map[string]float64{
			"1 allowed":       testutil.ToFloat64(m.decisions.WithLabelValues("llm", "opus", "allowed")),
			"1 denied":        testutil.ToFloat64(m.decisions.WithLabelValues("llm", "opus", "denied")),
			"1 infeasible":    testutil.ToFloat64(m.decisions.WithLabelValues("llm", "opus", "infeasible")),
			"1 of nobody":     testutil.ToFloat64(m.decisions.WithLabelValues("llm", none, "allowed")),
			"1 elsewhere":     testutil.ToFloat64(m.decisions.WithLabelValues(other, none, "allowed")),
			"600 input":       testutil.ToFloat64(m.charged.WithLabelValues("opus", "input_tokens")),
			"100 output":      testutil.ToFloat64(m.charged.WithLabelValues("opus", "output_tokens")),
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
		series := func() int { return testutil.CollectAndCount(w.server.d.metrics.decisions) }
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
