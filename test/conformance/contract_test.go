package conformance

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/encoding/protojson"
)

// row is one promise of the contract.
type row struct {
	ID   string `yaml:"id"`
	Text string `yaml:"text"`
}

// TestContract: each row of the contract has a case, and each case a row.
func TestContract(t *testing.T) {
	text, err := os.ReadFile("testdata/contract.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var contract struct {
		Rows []row `yaml:"rows"`
	}
	if err := decodeStrictly(text, &contract); err != nil {
		t.Fatal(err)
	}
	cases := map[string]int{}
	for _, r := range contract.Rows {
		if _, twice := cases[r.ID]; twice || r.ID == "" || r.Text == "" {
			t.Errorf("row %q: it needs an id of its own, and a text", r.ID)
		}
		cases[r.ID] = 0
	}
	count := func(where string, rows []string) {
		for _, id := range rows {
			if _, ok := cases[id]; !ok {
				t.Errorf("%s names row %q, which the contract does not have", where, id)
			}
			cases[id]++
		}
	}
	for _, s := range loadSuites(t) {
		for _, c := range s.Cases {
			count(s.name+": "+c.Name, c.Rows)
		}
	}
	for _, r := range loadRefusals(t) {
		count("refusals: "+r.Name, r.Rows)
	}
	for _, r := range contract.Rows {
		if cases[r.ID] == 0 {
			t.Errorf("no case checks row %s: %s", r.ID, r.Text)
		}
	}
}

// TestStrict: data that would test nothing is refused.
func TestStrict(t *testing.T) {
	const good = `
about: a
files: {a.yaml: "domain: t"}
cases:
- name: n
  origin: o
  rows: [r]
  steps:
  - ask: {domain: t, descriptors: [{entries: [{key: k, value: v}]}]}
    answer: {overallCode: OK, statuses: [{code: OK, durationUntilReset: aligned HOUR}]}
`
	if _, err := parseSuite("good", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"about: a", "abuot: a"},
		{"origin: o", "origin: ''"},
		{"rows: [r]", "rows: []"},
		{"about: a", "about: a\nmodes: [compt]"},
		{"name: n", "name: n\n  modes: [other]"},
		{"about: a\n", "about: a\nmodes: [compat]\n"},
		{"answer:", "anwser:"},
		{"answer:", "status: 200 #"},
		{"answer: {", "default: {} #"},
		{"overallCode: OK, ", ""},
		{"overallCode", "overalCode"},
		{"{code: OK,", "{cod: OK,"},
		{"descriptors:", "descriptor:"},
		{"aligned HOUR", "aligned HUOR"},
		{"aligned HOUR", "aligned hour"},
		{"aligned HOUR", "1h..soon"},
		{"answer:", "times: 2\n    health: ''\n    answer:"},
		{"answer:", "error: {code: Unknown}\n    nothing: #"},
		{"answer: {", "shows: {overallCode: OK, stats: []} # {"},
		{"steps:", "window: fortnight\n  steps:"},
		{"cases:", "---\ncases:"},
	} {
		bad := strings.Replace(good, c[0], c[1], 1)
		if bad == good {
			t.Fatalf("%q is not there", c[0])
		}
		if c[1] == "about: a\nmodes: [compat]\n" {
			bad = strings.Replace(bad, "name: n", "name: n\n  modes: [default]", 1)
		}
		if _, err := parseSuite("bad", []byte(bad)); err == nil {
			t.Errorf("%q instead of %q is accepted", c[1], c[0])
		}
	}
}

// TestFails: an answer that is not as expected is told from one that is.
func TestFails(t *testing.T) {
	const answer = `
overallCode: OK
statuses:
- {code: OK, currentLimit: {requestsPerUnit: 3, unit: HOUR}, limitRemaining: 2, durationUntilReset: aligned HOUR}
responseHeadersToAdd: [{key: RateLimit-Reset, value: aligned HOUR}]
`
	got := parseYAML(t, strings.ReplaceAll(answer, "aligned HOUR", `"1700"`), true)
	when := at(3600*400000 + 1900)
	for _, change := range [][2]string{
		{"", ""},
		{"overallCode: OK", "overallCode: OVER_LIMIT"},
		{"{code: OK,", "{code: OVER_LIMIT,"},
		{"limitRemaining: 2", "limitRemaining: 1"},
		{"limitRemaining: 2, ", ""},
		{"requestsPerUnit: 3", "requestsPerUnit: 3, name: n"},
		{"aligned HOUR}\n", "aligned MINUTE}\n"},
		{"aligned HOUR}\n", "1s..1699s}\n"},
		{"value: aligned HOUR", "value: aligned DAY"},
		{"value: aligned HOUR", "value: '1701'"},
		{"responseHeadersToAdd", "requestHeadersToAdd"},
	} {
		want := parseYAML(t, strings.Replace(answer, change[0], change[1], 1), false)
		for name, e := range map[string]expected{"answer": {Answer: want}, "shows": {Shows: want}} {
			fewer := name == "shows" && change == [2]string{"limitRemaining: 2, ", ""}
			if diff := e.differs(message(t, got), when); (diff != "") == (change[0] == "" || fewer) {
				t.Errorf("%s with %q instead of %q: got %q", name, change[1], change[0], diff)
			}
		}
	}
	e := expected{Shows: map[string]any{"overallCode": "OK", "rawBody": absent}}
	if diff := e.differs(message(t, got), when); diff != "" {
		t.Error(diff)
	}
	e.Shows["statuses"] = absent // which it is not
	if diff := e.differs(message(t, got), when); diff == "" {
		t.Error("what is there counts as absent")
	}
	if !slices.Equal(missing([]any{"a"}, []any{"a", "b"}, "x", when), []string{"x: got [a b], want [a]"}) {
		t.Error("a longer list is as good as a shorter one")
	}
}

// at is an instant, in seconds since 1970.
func at(seconds int64) span {
	return span{time.Unix(seconds, 0), time.Unix(seconds, 0)}
}

// parseYAML reads a tree; with seconds, "1700" as a duration is 1700 s.
func parseYAML(t *testing.T, text string, seconds bool) map[string]any {
	t.Helper()
	if seconds {
		text = strings.Replace(text, `durationUntilReset: "1700"`, "durationUntilReset: 1700s", 1)
	}
	var tree map[string]any
	if err := decodeStrictly([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

// message makes an answer of a tree.
func message(t *testing.T, tree map[string]any) *rlsv3.RateLimitResponse {
	t.Helper()
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	r := &rlsv3.RateLimitResponse{}
	if err := protojson.Unmarshal(text, r); err != nil {
		t.Fatal(err)
	}
	return r
}
