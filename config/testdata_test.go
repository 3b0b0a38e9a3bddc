package config_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/weir-project/weir/config"
)

var update = flag.Bool("update", false, "rewrite the expected errors in testdata/bad")

// unpack writes the files of an archive into a new directory, makes it the working
// directory, and returns them. Files named error and paths are not written.
func unpack(t *testing.T, a *txtar.Archive) (files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	files = map[string]string{}
	for _, f := range a.Files {
		files[f.Name] = string(f.Data)
		if f.Name == "error" || f.Name == "paths" {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(f.Name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Name, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// pathsOf returns the paths that an archive wants to be loaded: the working
// directory, if it does not say.
func pathsOf(files map[string]string) []string {
	if p := strings.Fields(files["paths"]); len(p) > 0 {
		return p
	}
	return []string{"."}
}

// TestBadFiles: each archive in testdata/bad is refused with exactly the error that
// it says. Run with -update to write the errors, and read them.
func TestBadFiles(t *testing.T) {
	names, err := filepath.Glob("testdata/bad/*.txtar")
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
			files := unpack(t, archive)
			loaded, err := config.Load(pathsOf(files), nil)
			var problems *config.Error
			if loaded != nil || !errors.As(err, &problems) {
				t.Fatalf("got %v, %v, want an *Error", loaded, err)
			}
			got := err.Error() + "\n"
			if *update {
				writeError(t, path, archive, got)
				return
			}
			if diff := cmp.Diff(files["error"], got); diff != "" {
				t.Errorf("another error (-want +got):\n%s", diff)
			}
			for _, p := range problems.Problems {
				if p.File == "" {
					t.Errorf("no file is named by %q", p.Text)
				}
			}
		})
	}
}

// writeError sets the error in an archive.
func writeError(t *testing.T, path string, a *txtar.Archive, text string) {
	t.Helper()
	kept := a.Files[:0]
	for _, f := range a.Files {
		if f.Name != "error" {
			kept = append(kept, f)
		}
	}
	a.Files = append(kept, txtar.File{Name: "error", Data: []byte(text)})
	if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}
