package xds

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

var metricRow = regexp.MustCompile("(?m)^\\| `(weir_[a-z_]+)` \\| ([a-z]+) \\|([^|]*)\\|")

// TestTheDocumentedMetricsAreThoseThatAreShown: docs/xds.md lists each with its labels.
func TestTheDocumentedMetricsAreThoseThatAreShown(t *testing.T) {
	page, err := os.ReadFile("../../docs/xds.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented, shown []string
	for _, row := range metricRow.FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, row[1]+" "+row[2]+" "+strings.Trim(row[3], "` "))
	}
	c, err := New(Options{}, newForce())
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		label := ""
		if pairs := f.GetMetric()[0].GetLabel(); len(pairs) > 0 {
			label = pairs[0].GetName()
		}
		shown = append(shown, f.GetName()+" "+strings.ToLower(f.GetType().String())+" "+label)
		for _, m := range f.GetMetric() {
			for _, pair := range m.GetLabel() {
				if !strings.Contains(string(page), "`"+pair.GetValue()+"`") {
					t.Errorf("docs/xds.md does not say what %s=%q means", pair.GetName(), pair.GetValue())
				}
			}
		}
	}
	slices.Sort(documented)
	slices.Sort(shown)
	if diff := cmp.Diff(documented, shown); diff != "" {
		t.Errorf("docs/xds.md says otherwise (-page +client):\n%s", diff)
	}
}
