package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/store/memory"
)

// server is a plan that is served from memory, at times that the test says.
type planServer struct {
	plan  *limiter.Plan
	store *memory.Store
}

func servePlan(t *rapid.T, path string) *planServer {
	loaded, err := config.Load([]string{path}, nil)
	if err != nil {
		text, _ := os.ReadFile(path)
		t.Fatalf("%v\n%s", err, text)
	}
	return &planServer{plan: loaded.Plan, store: memory.New(limiter.Options{Seed: 1, Shards: 4})}
}

// ask decides descriptors of one request.
func (s *planServer) ask(t *rapid.T, now limiter.Instant, domain string, descriptors [][]limiter.Entry, hits uint64) limiter.Decision {
	var a limiter.Ask
	for i, d := range descriptors {
		s.plan.MatchDescriptor(&a, domain, i, d, limiter.Hits{Amount: hits})
	}
	a.DropReplaced()
	var d limiter.Decision
	if a.Len() == 0 {
		return d
	}
	if err := s.store.Decide(context.Background(), now, &a, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// seen is what a caller sees of a check.
type seen struct {
	Descriptor              int
	Name                    string
	Amount, Used, Remaining uint64
	Window                  time.Duration
	Over, Shadow            bool
}

func see(d *limiter.Decision) (all []seen) {
	for _, c := range d.Checks {
		all = append(all, seen{c.Descriptor, c.Limit.Name, c.Amount, c.Used, c.Remaining, c.Limit.Window, c.Over, c.Limit.Shadow})
	}
	return all
}

// convertText converts a text and returns the result's file, beside that of the text.
func convertText(t *rapid.T, dir, text string) (from, to string, out *config.Converted) {
	from, to = filepath.Join(dir, "from.yaml"), filepath.Join(dir, "to.yaml")
	if err := os.WriteFile(from, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := config.Convert([]string{from}, config.AnyFormat)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if err := os.WriteFile(to, out.Text, 0o600); err != nil {
		t.Fatal(err)
	}
	return from, to, out
}

// drawRatelimit writes descriptors of a file of envoyproxy/ratelimit, of which everything can
// be kept, and appends descriptors that lead to them to paths.
func drawRatelimit(t *rapid.T, b *strings.Builder, depth int, above []limiter.Entry, paths *[][]limiter.Entry) {
	indent := strings.Repeat("  ", depth)
	taken := map[string]bool{}
	for range rapid.IntRange(1, 4).Draw(t, "descriptors") {
		key := rapid.SampledFrom([]string{"a", "b", "a_b", "k:"}).Draw(t, "key")
		value := rapid.SampledFrom([]string{"", "x", "xy", "x*", "*y", "*", "x*y*", "42", "true", "'"}).Draw(t, "value")
		if id := key + "_" + value; taken[id] {
			continue
		} else {
			taken[id] = true
		}
		e := limiter.Entry{Key: key, Value: strings.ReplaceAll(cmp.Or(value, "any"), "*", "")}
		path := append(slices.Clip(above), e)
		*paths = append(*paths, path)
		if strings.Contains(value, "*") { // two values of one pattern
			*paths = append(*paths, append(slices.Clip(above), limiter.Entry{Key: key, Value: strings.ReplaceAll(value, "*", "1")}))
		}
		fmt.Fprintf(b, "%s- key: %q\n", indent, key)
		if value != "" {
			fmt.Fprintf(b, "%s  value: %q\n", indent, value)
		}
		if strings.Contains(value, "*") && rapid.Bool().Draw(t, "share") {
			fmt.Fprintf(b, "%s  share_threshold: true\n", indent)
		}
		switch rapid.IntRange(0, 4).Draw(t, "limit") {
		case 0:
		case 1:
			fmt.Fprintf(b, "%s  rate_limit: {unlimited: true, replaces: [{name: n}]}\n", indent)
		default:
			for _, mode := range []string{"shadow_mode", "quota_mode"} {
				if rapid.IntRange(0, 2).Draw(t, mode) == 0 {
					fmt.Fprintf(b, "%s  %s: true\n", indent, mode)
				}
			}
			name := rapid.SampledFrom([]string{"", "n", "2", "a: b"}).Draw(t, "name")
			replaces := rapid.SampledFrom([]string{"", "", "n", "a: b", "other"}).Draw(t, "replaces")
			if replaces != "" && replaces != name {
				replaces = fmt.Sprintf(", replaces: [{name: %q}, {name: %q}]", replaces, replaces)
			} else {
				replaces = ""
			}
			fmt.Fprintf(b, "%s  rate_limit: {unit: %s, requests_per_unit: %d, name: %q%s}\n", indent,
				rapid.SampledFrom([]string{"second", "minute", "HOUR", "day", "week", "month", "year"}).Draw(t, "unit"),
				rapid.IntRange(0, 4).Draw(t, "amount"), name, replaces)
		}
		if depth < 3 && rapid.IntRange(0, 2).Draw(t, "nest") == 0 {
			fmt.Fprintf(b, "%s  descriptors:\n", indent)
			drawRatelimit(t, b, depth+1, path, paths)
		}
	}
}

// drawDescriptors returns those of a request: some of paths, and others.
func drawDescriptors(t *rapid.T, paths [][]limiter.Entry) [][]limiter.Entry {
	other := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) limiter.Entry {
		return limiter.Entry{
			Key:   rapid.SampledFrom([]string{"a", "b", "a_b", "k:", "other"}).Draw(t, "key"),
			Value: rapid.SampledFrom([]string{"x", "xy", "y", "", "42", "true", "'", "z", "x*", "*"}).Draw(t, "value"),
		}
	}), 1, 3)
	return rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(paths), rapid.SampledFrom(paths), other), 1, 4).Draw(t, "descriptors")
}

// A file of envoyproxy/ratelimit decides as what is made of it, request by request and
// limit by limit, where nothing was noted but that windows slide.
func TestConvertedRatelimitFilesDecideAlike(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		b.WriteString("domain: edge\ndescriptors:\n")
		var paths [][]limiter.Entry
		drawRatelimit(t, &b, 0, nil, &paths)
		from, to, out := convertText(t, dir, b.String())
		for _, n := range out.Notes {
			if !strings.Contains(n.Text, "in any interval") {
				t.Fatalf("noted: %s\n%s", n, b.String())
			}
		}
		one, two := servePlan(t, from), servePlan(t, to)
		defer one.store.Close()
		defer two.store.Close()
		now := limiter.Instant(time.Hour)
		for range rapid.IntRange(1, 20).Draw(t, "requests") {
			now += limiter.Instant(rapid.SampledFrom([]time.Duration{0, time.Millisecond, time.Second, time.Hour, 40 * 24 * time.Hour}).Draw(t, "pause"))
			descriptors, hits := drawDescriptors(t, paths), rapid.Uint64Range(0, 3).Draw(t, "hits")
			want, got := one.ask(t, now, "edge", descriptors, hits), two.ask(t, now, "edge", descriptors, hits)
			if want.Verdict != got.Verdict || want.RefusedBy != got.RefusedBy || want.RetryAt != got.RetryAt {
				t.Fatalf("%v of %v (%d hits): %v, want %v\n%s", descriptors, now, hits, got.Verdict, want.Verdict, out.Text)
			}
			if diff := gocmp.Diff(see(&want), see(&got), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("%v (%d hits), limits (-file +converted):\n%s\n%s", descriptors, hits, diff, out.Text)
			}
		}
	})
}

// wish is a limit of Limitador as the model knows it.
type wish struct {
	conditions map[string]string
	variables  []string
	amount     uint64
	seconds    int
}

// applies says whether a limit applies to attributes, and by what it counts them.
func (w *wish) applies(attributes map[string]string) (counter string, ok bool) {
	for k, v := range w.conditions {
		if have, ok := attributes[k]; !ok || have != v {
			return "", false
		}
	}
	for _, k := range w.variables {
		v, ok := attributes[k]
		if !ok {
			return "", false
		}
		counter += fmt.Sprintf("%q=%q ", k, v)
	}
	return counter, true
}

func drawWishes(t *rapid.T) (wishes []wish, text string) {
	keys := []string{"a", "b", "c"}
	taken := map[string]bool{}
	var b strings.Builder
	for range rapid.IntRange(1, 6).Draw(t, "limits") {
		w := wish{conditions: map[string]string{}, amount: rapid.Uint64Range(0, 4).Draw(t, "amount"), seconds: rapid.SampledFrom([]int{60, 3600}).Draw(t, "seconds")}
		fmt.Fprintf(&b, "- namespace: edge\n  max_value: %d\n  seconds: %d\n  conditions:\n", w.amount, w.seconds)
		for _, k := range rapid.Permutation(keys).Draw(t, "order") {
			if rapid.IntRange(0, 2).Draw(t, "condition") == 0 {
				w.conditions[k] = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "value")
				fmt.Fprintf(&b, "  - \"descriptors[0]['%s'] == '%s'\"\n", k, w.conditions[k])
			}
		}
		b.WriteString("  variables:\n")
		for _, k := range rapid.Permutation(keys).Draw(t, "order") {
			if rapid.IntRange(0, 2).Draw(t, "variable") == 0 {
				w.variables = append(w.variables, k)
				fmt.Fprintf(&b, "  - descriptors[0].%s\n", k)
			}
		}
		slices.Sort(w.variables)
		id := fmt.Sprint(w.conditions, w.variables, w.seconds)
		if taken[id] {
			return drawWishes(t) // Limitador keeps one of two that are alike
		}
		taken[id] = true
		wishes = append(wishes, w)
	}
	return wishes, b.String()
}

// A proxy that sends, of each request, the descriptors that the notes ask for is answered
// as Limitador would answer: every limit applies whose entries the request has.
func TestConvertedLimitadorFilesDecideAlike(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		wishes, text := drawWishes(t)
		_, to, out := convertText(t, dir, text)
		forms := formsOf(out.Notes)
		s := servePlan(t, to)
		defer s.store.Close()
		used := map[string]uint64{}
		for range rapid.IntRange(1, 25).Draw(t, "requests") {
			attributes := map[string]string{}
			for _, k := range []string{"a", "b", "c"} {
				if v := rapid.SampledFrom([]string{"", "x", "y", "z"}).Draw(t, k); v != "" {
					attributes[k] = v
				}
			}
			hits := rapid.Uint64Range(1, 3).Draw(t, "hits")
			var counters []string
			want := limiter.Allowed
			for i := range wishes {
				if c, ok := wishes[i].applies(attributes); ok {
					c = fmt.Sprint(i, " ", c)
					counters = append(counters, c)
					if used[c]+hits > wishes[i].amount {
						want = limiter.Denied
					}
				}
			}
			if want == limiter.Allowed {
				for _, c := range counters {
					used[c] += hits
				}
			}
			d := s.ask(t, limiter.Instant(time.Hour), "edge", send(forms, attributes), hits)
			if refused := d.Verdict != limiter.Allowed; refused != (want == limiter.Denied) {
				t.Fatalf("%v (%d hits): %v, want %v; checks %+v\n%s\n%s", attributes, hits, d.Verdict, want, see(&d), text, out.Text)
			}
		}
	})
}

// formsOf reads from the notes which descriptors the proxy is to send: their keys.
func formsOf(notes []config.Problem) (forms [][]string) {
	for _, n := range notes {
		if _, rest, ok := strings.Cut(n.Text, "in this order: "); ok {
			keys, _, _ := strings.Cut(rest, ";")
			forms = append(forms, strings.Split(keys, ", "))
		} else if strings.Contains(n.Text, "exactly generic_key=edge") {
			forms = append(forms, []string{"generic_key"})
		}
	}
	return forms
}

// send makes the descriptors of a request, as Envoy does: one that lacks an entry is not sent.
func send(forms [][]string, attributes map[string]string) (descriptors [][]limiter.Entry) {
	for _, keys := range forms {
		var d []limiter.Entry
		for _, k := range keys {
			if k == "generic_key" {
				d = append(d, limiter.Entry{Key: k, Value: "edge"})
			} else if v, ok := attributes[k]; ok {
				d = append(d, limiter.Entry{Key: k, Value: v})
			}
		}
		if len(d) == len(keys) {
			descriptors = append(descriptors, d)
		}
	}
	return descriptors
}
