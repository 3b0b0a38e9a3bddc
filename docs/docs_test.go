// Package docs holds the guides and reference pages, and nothing but tests that they
// are true.
package docs

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/weir-project/weir/config"
	configv1 "github.com/weir-project/weir/proto/weir/config/v1"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// section returns what stands between a heading of level 2 and the next one.
func section(page, heading string) (string, bool) {
	_, rest, ok := strings.Cut(page, "\n## "+heading+"\n")
	text, _, _ := strings.Cut(rest, "\n## ")
	return text, ok
}

var firstCell = regexp.MustCompile("(?m)^\\| `([^`]+)`")

// rows returns the words in the first column of a section's tables.
func rows(text string) []string {
	var words []string
	for _, m := range firstCell.FindAllStringSubmatch(text, -1) {
		words = append(words, m[1])
	}
	return words
}

// Each message of the configuration has a section, each field a row, in the order of
// the .proto.
func TestConfigurationPageListsEveryField(t *testing.T) {
	page := read(t, "reference/configuration.md")
	seen := map[protoreflect.FullName]bool{}
	var walk func(protoreflect.MessageDescriptor)
	walk = func(m protoreflect.MessageDescriptor) {
		if seen[m.FullName()] || m.IsMapEntry() {
			return
		}
		seen[m.FullName()] = true
		text, ok := section(page, string(m.Name()))
		if !ok {
			t.Errorf("no section %q", m.Name())
		}
		var want []string
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			want = append(want, string(f.Name()))
			if f.Message() != nil {
				walk(f.Message())
			}
		}
		if diff := cmp.Diff(want, rows(text)); diff != "" {
			t.Errorf("section %s (-proto +page):\n%s", m.Name(), diff)
		}
	}
	walk((&configv1.Config{}).ProtoReflect().Descriptor())
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// Every configuration that a page shows is valid.
func TestConfigurationsOfPagesAreValid(t *testing.T) {
	for _, page := range pages(t) {
		for i, m := range yamlBlock.FindAllStringSubmatch(read(t, page), -1) {
			if !strings.Contains(m[1], "quotas:") && !strings.Contains(m[1], "rules:") && !strings.Contains(m[1], "descriptors:\n- key") {
				continue // of Envoy or of Kubernetes
			}
			file := filepath.Join(t.TempDir(), "weir.yaml")
			if err := os.WriteFile(file, []byte(m[1]), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load([]string{file}, nil); err != nil {
				t.Errorf("%s, configuration %d: %v", page, i+1, err)
			}
		}
	}
}

// Each word of the vocabulary has a row.
func TestVocabularyPageListsEveryKey(t *testing.T) {
	listed := rows(read(t, "reference/vocabulary.md"))
	v := reflect.ValueOf(config.DefaultVocabulary())
	for i := range v.NumField() {
		if v.Field(i).Kind() != reflect.String {
			continue
		}
		if name := v.Field(i).String(); !slices.Contains(listed, name) {
			t.Errorf("no row for `%s` (%s)", name, v.Type().Field(i).Name)
		}
	}
}

// Each method of weir's services has a row.
func TestAPIPageListsEveryMethod(t *testing.T) {
	page := read(t, "reference/api.md")
	for _, file := range []protoreflect.FileDescriptor{weirv1.File_weir_v1_quota_proto, weirv1.File_weir_v1_admin_proto} {
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			text, ok := section(page, string(s.FullName()))
			if !ok {
				t.Errorf("no section %q", s.FullName())
				continue
			}
			var want []string
			for j := range s.Methods().Len() {
				want = append(want, string(s.Methods().Get(j).Name()))
			}
			if diff := cmp.Diff(want, rows(text)); diff != "" {
				t.Errorf("section %s (-proto +page):\n%s", s.FullName(), diff)
			}
		}
	}
}

// pages returns the pages of the repository that people read.
func pages(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"../*.md", "../examples/*/*.md", "../bench/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, names...)
	}
	err := filepath.WalkDir(".", func(name string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(name, ".md") {
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	unlinked = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	fenced   = regexp.MustCompile("(?s)\n```.*?\n```")
)

// anchors returns the names by which the headings of a page can be linked.
func anchors(page string) map[string]bool {
	names := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		name := unlinked.ReplaceAllString(strings.ToLower(m[1]), "")
		names[strings.ReplaceAll(strings.TrimSpace(name), " ", "-")] = true
	}
	return names
}

// Links within the repository lead somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	for _, page := range pages(t) {
		text := read(t, page)
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := text
			if path != "" {
				file := filepath.Join(filepath.Dir(page), path)
				info, err := os.Stat(file)
				if err != nil {
					t.Errorf("%s: the link %s leads nowhere", page, m[1])
					continue
				}
				if info.IsDir() {
					continue
				}
				target = read(t, file)
			}
			if names := anchors(target); anchor != "" && !names[anchor] {
				t.Errorf("%s: the link %s names no heading; there are %v", page, m[1], slices.Sorted(maps.Keys(names)))
			}
		}
	}
}

// The index of decisions lists each.
func TestEveryDecisionIsInTheIndex(t *testing.T) {
	index := read(t, "decisions/README.md")
	records, err := filepath.Glob("decisions/0*.md")
	if err != nil || len(records) == 0 {
		t.Fatal("no decisions", err)
	}
	for _, r := range records {
		title, _, _ := strings.Cut(strings.TrimPrefix(read(t, r), "# "), "\n")
		number, text, _ := strings.Cut(title, ": ")
		if want := "| [" + number + "](" + filepath.Base(r) + ") | " + text + " |"; !strings.Contains(index, want) {
			t.Errorf("decisions/README.md lacks\n%s", want)
		}
	}
}
