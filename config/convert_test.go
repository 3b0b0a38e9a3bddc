package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/weir-project/weir/config"
)

// TestConvertedFiles: each archive in testdata/convert becomes exactly the file and the
// notes that it says, or is refused with exactly the error. Run with -update to write them,
// and read them.
func TestConvertedFiles(t *testing.T) {
	names, err := filepath.Glob("testdata/convert/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no cases", err)
	}
	for _, name := range names {
		path, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			given := &txtar.Archive{Comment: archive.Comment}
			want := map[string]string{}
			for _, f := range archive.Files {
				if slices.Contains([]string{"weir.yaml.want", "notes", "error"}, f.Name) {
					want[f.Name] = string(f.Data)
				} else {
					given.Files = append(given.Files, f)
				}
			}
			files := unpack(t, given)
			if from, ok := files["from"]; ok {
				if err := os.Remove("from"); err != nil {
					t.Fatal(err, from)
				}
			}
			got := converted(t, pathsOf(files), config.Format(strings.TrimSpace(files["from"])))
			if *update {
				for _, name := range []string{"weir.yaml.want", "notes", "error"} {
					if text, ok := got[name]; ok {
						given.Files = append(given.Files, txtar.File{Name: name, Data: []byte(text)})
					}
				}
				if err := os.WriteFile(path, txtar.Format(given), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// converted returns what became of files, by the names that an archive has for it.
func converted(t *testing.T, paths []string, from config.Format) map[string]string {
	t.Helper()
	got := map[string]string{}
	out, err := config.Convert(paths, from)
	if err != nil {
		var problems *config.Error
		if out != nil || !errors.As(err, &problems) {
			t.Fatalf("got %v, %v, want an *Error", out, err)
		}
		got["error"] = err.Error() + "\n"
		return got
	}
	got["weir.yaml.want"] = string(out.Text)
	var notes strings.Builder
	for _, n := range out.Notes {
		fmt.Fprintln(&notes, n.String())
	}
	got["notes"] = notes.String()
	return got
}

// A configuration of more than the notes that are kept says how many there are more.
func TestNotesAreBounded(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "a.yaml", "domain: a\ndescriptors:\n"+numbered("- {key: \"k%d*\"}\n", 1500)+"- {key: a}\n")
	out, err := config.Convert([]string{"a.yaml"}, config.AnyFormat)
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Notes) != config.MaxNotes || out.More != 500 || out.Rules != 1 {
		t.Errorf("%d notes and %d more, want %d and 500", len(out.Notes), out.More, config.MaxNotes)
	}
}

// What becomes too large for one file is refused, and soon.
func TestConvertedFilesAreBounded(t *testing.T) {
	for name, text := range map[string]string{
		"too many rules to convert":  "domain: a\ndescriptors:\n" + numbered("- {key: k%d}\n", 10_001),
		"too much to convert":        "domain: a\ndescriptors:\n" + numbered("- {key: k%d, value: "+strings.Repeat("v", 200)+"}\n", 4_400),
		"too many limits to convert": numbered("- {namespace: n, max_value: 1, seconds: 1, variables: [k%d]}\n", 10_001),
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			write(t, "a.yaml", text)
			out, err := config.Convert([]string{"a.yaml"}, config.AnyFormat)
			if out != nil || err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v, %v", out, err)
			}
		})
	}
}

func numbered(line string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, line, i)
	}
	return b.String()
}
