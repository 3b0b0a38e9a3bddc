package config

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/weir-project/weir/limiter"
)

// seeds are the files of the test data, and a few that go wrong in other ways.
func seeds(t testing.TB) [][]byte {
	names, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no test data", err)
	}
	var all [][]byte
	for _, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			all = append(all, f.Data)
		}
	}
	for _, s := range []string{
		"domain: a\ndomain: b\ndescriptors:\n- {key: \"k*\", quota_mode: true, share_threshold: true, metadata: {a: [1, no]}, rate_limit: {unit: day, replaces: [{name: x}]}}\n---\n{",
		string(starter), "\xef\xbb\xbfdomain: a", "a: &a [*a]", "? ? ?", "- - - -", "%YAML 1.2\n---\ndomain: a", "domain: a\r\n", "domain: |\n  a\n",
		"domain: >-\n a\n\n b", "{domain: a, descriptors: [{key: !!binary aGk=}]}", "quotas:\n- name: a\n  limits: {requests_per_minute: 18446744073709551616}",
		"llm: {keys: {org: unit}}\nquotas: []", "domain: a\ndescriptors:\n- {key: a, value: \"*\"}\n- {key: a, value: \"**\"}",
	} {
		all = append(all, []byte(s))
	}
	return all
}

// FuzzLoad: whatever a file holds, it is read or refused, soon; what is refused says
// where, and what is read compiles.
func FuzzLoad(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, o := range []Options{{}, {Strict: true}} {
			r := &report{}
			s := snapshot{files: []source{{path: "f.yaml", data: data}}}
			l, err := o.build([]string{"f.yaml"}, s, r, nil)
			checkLoaded(t, data, l, err)
		}
	})
}

// checkLoaded checks what became of a file.
func checkLoaded(t *testing.T, data []byte, l *Loaded, err error) {
	var problems *Error
	switch {
	case err == nil && (l == nil || l.Plan == nil || l.Digest == ""):
		t.Fatalf("got %+v and no error", l)
	case err == nil:
		checkSpec(t, l.Spec)
	case !errors.As(err, &problems) || len(problems.Problems) == 0 || len(problems.Problems) > MaxProblems:
		t.Fatalf("an error of another kind: %v", err)
	default:
		for _, p := range problems.Problems {
			checkProblem(t, p, data)
		}
	}
}

// checkSpec checks what Compile takes on trust.
func checkSpec(t *testing.T, s limiter.Spec) {
	rules := 0
	var visit func([]limiter.RuleSpec, int)
	visit = func(level []limiter.RuleSpec, depth int) {
		if depth > MaxDepth {
			t.Fatalf("rules are %d deep", depth)
		}
		for _, r := range level {
			rules++
			if r.Key == "" || (r.ShareValues && !r.KeyPattern && !strings.Contains(r.Value, "*")) || (r.KeyPattern && !strings.Contains(r.Key, "*")) {
				t.Fatalf("rule %+v", r)
			}
			visit(r.Rules, depth+1)
		}
	}
	for _, d := range s.Domains {
		visit(d.Rules, 1)
	}
	for _, q := range s.Quotas {
		if q.Name == "" || len(q.Limits) == 0 && !q.Learn || q.Hold < 0 || q.Hold > maxHold {
			t.Fatalf("quota %+v", q)
		}
		for name, terms := range q.Tenants {
			if terms.Weight < 1 || terms.Floor < 0 || terms.Floor > 1 || terms.Ceiling < 0 || terms.Ceiling > 1 {
				t.Fatalf("quota %q, tenant %q: %+v", q.Name, name, terms)
			}
		}
	}
}

// checkProblem checks that a problem can be shown: its place is in the file, and it
// is one line that fits on a screen.
func checkProblem(t *testing.T, p Problem, data []byte) {
	lines := strings.Split(string(data), "\n")
	switch {
	case p.File != "f.yaml":
		t.Fatalf("no file is named: %q", p.Text)
	case p.Line < 0 || p.Line > len(lines):
		t.Fatalf("line %d of %d: %q", p.Line, len(lines), p.Text)
	case strings.ContainsAny(p.Text, "\n\r\t\x00") || !utf8.ValidString(p.Text) || len(p.Text) > 4000:
		t.Fatalf("a text that cannot be shown: %q", p.Text)
	case p.mark > maxSource || len(p.Source) > maxSource*utf8.UTFMax:
		t.Fatalf("a source line of %d, with the mark at %d", len(p.Source), p.mark)
	}
}

// TestBombs: files made to take long, or much memory, are refused. Each takes less than
// a second; one whose cost grew with the square of its size would run into the time
// limit of the test.
func TestBombs(t *testing.T) {
	const size = MaxFileBytes / 8
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	for name, text := range map[string]string{
		"brackets":       fill("["),
		"braces":         fill("{"),
		"braced keys":    fill("{a:"),
		"dashes":         fill("- "),
		"questions":      fill("? "),
		"colons":         fill(": "),
		"quotes":         fill("\""),
		"commas":         "a: [" + fill(","),
		"one long word":  fill("x"),
		"one long text":  "a: \"" + fill("\\u0041")[:size-100] + "\"",
		"blank lines":    fill("\n"),
		"comments":       fill("#\n"),
		"anchors":        "a:\n" + fill("- &a b\n")[:size-100],
		"aliases":        "a: &a b\nb:\n" + fill("- *a\n")[:size-100],
		"laughs":         "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n",
		"same key":       fill("a: b\n"),
		"keys":           manyKeys(size),
		"quotas":         "quotas:\n" + fill("- {}\n")[:size-100],
		"rules":          "rules:\n" + fill("- {domain: a, match: [{key: a}], unlimited: true}\n")[:size-100],
		"items":          "quotas: [" + fill("a,")[:size-100] + "]",
		"descriptors":    "domain: a\ndescriptors:\n" + fill("- {key: a}\n")[:size-100],
		"literal":        "a: |\n" + fill(" a\n")[:size-100],
		"folded":         "a: >\n" + fill(" a\n\n")[:size-100],
		"indents":        indents(size),
		"long key":       "? " + fill("x")[:size-100] + "\n: y",
		"plain, colons":  "a: " + fill("b:b")[:size-100],
		"documents":      fill("---\n"),
		"directives":     fill("%TAG ! a\n"),
		"flow, newlines": "a: [" + fill("\n")[:size-100],
	} {
		t.Run(name, func(t *testing.T) {
			r := &report{}
			l, err := Options{}.build([]string{"f.yaml"}, snapshot{files: []source{{path: "f.yaml", data: []byte(text)}}}, r, nil)
			if err == nil {
				t.Errorf("loaded %d rules, want an error", l.Rules)
			}
		})
	}
}

// manyKeys returns a mapping of as many keys as fit.
func manyKeys(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size-20; i++ {
		b.WriteString("k")
		b.WriteString(strings.Repeat("x", i%7))
		b.WriteString(string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676%26)) + string(rune('a'+i/17576)) + ":\n")
	}
	return b.String()
}

// indents returns mappings nested by indentation, as deep as fits.
func indents(size int) string {
	var b strings.Builder
	for i := 0; b.Len()+i+4 < size; i++ {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}
