package config

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzConvert: whatever a file holds, it is converted or refused, soon; what is converted is
// valid and says where each rule comes from, what is noted or refused says where.
func FuzzConvert(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Add([]byte("\"0\\t0\": domain\ndomain: a"))
	names, err := filepath.Glob("testdata/convert/*.txtar")
	if err != nil || len(names) == 0 {
		f.Fatal("no test data", err)
	}
	for _, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			f.Add(file.Data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, from := range []Format{AnyFormat, FromRatelimit, FromLimitador} {
			out, err := convert([]source{{path: "f.yaml", data: data}}, from, &report{})
			var problems *Error
			switch {
			case err == nil && (out.Rules == 0 || strings.Count(string(out.Text), "\n# f.yaml:") != out.Rules):
				t.Fatalf("%d rules in\n%s", out.Rules, out.Text)
			case err == nil:
				for _, n := range out.Notes {
					checkProblem(t, n, data)
				}
			case !errors.As(err, &problems) || len(problems.Problems) == 0:
				t.Fatalf("an error of another kind: %v", err)
			default:
				for _, p := range problems.Problems {
					checkProblem(t, p, data)
				}
			}
		}
	})
}

// FuzzCondition: whatever a condition is, it is read or not, and what was read reads the
// same when it is written in the one way that all versions know.
func FuzzCondition(f *testing.F) {
	for _, s := range []string{
		"descriptors[0].a == 'b'", "descriptors[0]['a'] == \"b\"", "'b' == descriptors[0].a", "a == b", "a.b == 7", "a == 'b' && c == 'd'",
		"descriptors[1].a == 'b'", "a != 'b'", "a == 'b", "&&", "a == ", "== 'b'", "descriptors[0].a.b == 'c'", "descriptors[00].a == 'c'", "''=='a'", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, condition string) {
		read, err := equalitiesOf(condition)
		if err != nil {
			var cannot inexpressible
			if !errors.Is(err, errNoText) && !errors.As(err, &cannot) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		if len(read) == 0 {
			t.Fatal("nothing, and no error")
		}
		for _, e := range read {
			if strings.ContainsAny(e.key+e.value, `'"`) {
				continue
			}
			again, err := equalitiesOf("descriptors[0]['" + e.key + "'] == '" + e.value + "'")
			if err != nil || len(again) != 1 || again[0].key != e.key || again[0].value != e.value {
				t.Fatalf("%+v reads back as %+v, %v", e, again, err)
			}
		}
	})
}
