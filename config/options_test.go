package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// put writes files below a new directory and returns it.
func put(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func descriptor(key string) string {
	return "domain: edge\ndescriptors:\n- key: " + key + "\n  rate_limit: {unit: minute, requests_per_unit: 3}\n"
}

func TestReading(t *testing.T) {
	broken := "domain: ''\n"
	cases := []struct {
		name    string
		options Options
		files   map[string]string
		rules   int
		wrong   string
	}{
		{"no files", Options{}, nil, 0, "no *.yaml or *.yml file in this directory"},
		{"no files is fine", Options{MayBeEmpty: true}, nil, 0, ""},
		{"other names are not read", Options{MayBeEmpty: true}, map[string]string{"README.txt": broken}, 0, ""},
		{"dot files are left out", Options{}, map[string]string{"a.yaml": descriptor("a"), ".b.yaml": broken}, 1, ""},
		{"dot files", Options{DotFiles: true}, map[string]string{"a.yaml": descriptor("a"), ".b.yaml": broken}, 0, "empty domain"},
		{"dot directories are never read", Options{DotFiles: true}, map[string]string{"a.yaml": descriptor("a"), "..data/b.yaml": broken}, 1, ""},
		{"one domain, two files", Options{}, map[string]string{"a.yaml": descriptor("a"), "b.yaml": descriptor("b")}, 0, "duplicate domain 'edge'"},
		{"merged", Options{MergeDomains: true}, map[string]string{"a.yaml": descriptor("a"), "b.yaml": descriptor("b")}, 2, ""},
		{
			"merged, the same twice",
			Options{MergeDomains: true},
			map[string]string{"a.yaml": descriptor("a"), "b.yaml": descriptor("a")},
			0,
			"duplicate descriptor composite key 'edge.a'",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l, err := c.options.Load([]string{put(t, c.files)}, nil)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Fatalf("error %v, want one with %q", err, c.wrong)
				}
				return
			}
			if err != nil || l.Rules != c.rules || l.Missing {
				t.Fatalf("got %+v, %v; want %d rules", l, err, c.rules)
			}
		})
	}
}

// A directory that is not there yet holds no file; what is wrong with the first
// configuration is told with one that stands for none.
func TestLoadFirst(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "later")
	if l, err := (Options{MayBeEmpty: true}).LoadFirst([]string{absent}); err != nil || l.Missing || len(l.Spec.Quotas) > 0 {
		t.Errorf("absent directory: %+v, %v; want a configuration of nothing", l, err)
	}
	dir := put(t, map[string]string{"a.yaml": "domain: ''\n"})
	l, err := Options{}.LoadFirst([]string{dir})
	if err == nil || l == nil || !l.Missing || l.Plan == nil {
		t.Errorf("invalid file: %+v, %v; want an error and a missing configuration", l, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(descriptor("a")), 0o644); err != nil {
		t.Fatal(err)
	}
	if l, err := (Options{}).LoadFirst([]string{dir}); err != nil || l.Missing || l.Rules != 1 {
		t.Errorf("valid file: %+v, %v", l, err)
	}
}
