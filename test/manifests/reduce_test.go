package manifests_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/weir-project/weir/test/manifests"
)

var update = flag.String("update", "", "directory of CustomResourceDefinitions to make schemas.json of")

// TestReduceSchemas writes schemas.json anew, of what -update names; see README.md.
func TestReduceSchemas(t *testing.T) {
	if *update == "" {
		t.Skip("only with -update=DIR")
	}
	full := definitions(t, *update)
	reduced := map[string]*manifests.Schema{}
	for _, o := range examples(t) {
		s := full[o.Kind()]
		if s == nil {
			t.Fatalf("%s:%d: no definition of %s", o.File, o.Line, o.Kind())
		}
		if reduced[o.Kind()] == nil {
			reduced[o.Kind()] = bare(s)
		}
		keep(reduced[o.Kind()], s, o.Value)
	}
	text, err := json.MarshalIndent(reduced, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("schemas.json", append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// definition is a CustomResourceDefinition.
type definition struct {
	Spec struct {
		Group string
		Names struct{ Kind string }
		// Versions have their schemas as they are, to be read as JSON.
		Versions []struct {
			Name   string
			Schema struct {
				OpenAPI any `yaml:"openAPIV3Schema"`
			}
		}
	}
}

// definitions returns the schemas in a directory, by apiVersion/kind.
func definitions(t *testing.T, dir string) map[string]*manifests.Schema {
	t.Helper()
	all := map[string]*manifests.Schema{}
	names, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(names) == 0 {
		t.Fatal("no definitions", err)
	}
	names = append(names, filepath.Join("definitions", "config.yaml"))
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var def definition
			if err := d.Decode(&def); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, v := range def.Spec.Versions {
				b, err := json.Marshal(v.Schema.OpenAPI)
				if err != nil {
					t.Fatal(err)
				}
				s := new(manifests.Schema)
				if err := json.Unmarshal(b, s); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				all[strings.TrimPrefix(fmt.Sprintf("%s/%s/%s", def.Spec.Group, v.Name, def.Spec.Names.Kind), "/")] = s
			}
		}
	}
	for _, s := range all {
		copied(t, all, s)
	}
	return all
}

// copied puts in place what a schema has from another.
func copied(t *testing.T, all map[string]*manifests.Schema, s *manifests.Schema) {
	t.Helper()
	for name, p := range s.Properties {
		if p.From != "" {
			kind, path, _ := strings.Cut(p.From, ".")
			from := all["gateway.envoyproxy.io/v1alpha1/"+kind]
			for step := range strings.SplitSeq(path, ".") {
				from = from.Properties[step]
			}
			s.Properties[name] = from
		}
		copied(t, all, p)
	}
}

// bare is a schema without properties.
func bare(s *manifests.Schema) *manifests.Schema {
	b := *s
	b.Properties = map[string]*manifests.Schema{}
	if !scalar(s.Default) {
		b.Default = nil
	}
	b.Rules = slices.DeleteFunc(slices.Clone(s.Rules), func(r manifests.Rule) bool {
		return strings.Contains(r.Rule, "oldSelf") // is about changes
	})
	if s.Items != nil {
		b.Items = bare(s.Items)
	}
	b.Free = s.Free || len(s.Properties) == 0 && s.Additional == nil
	return &b
}

// scalar says whether a default can be filled in: objects and lists take part in no rule.
func scalar(v any) bool {
	switch v.(type) {
	case string, float64, bool:
		return true
	}
	return false
}

// keep adds to a reduced schema the properties of the full one that a value has, or that
// have a default.
func keep(reduced, full *manifests.Schema, value any) {
	switch v := value.(type) {
	case map[string]any:
		for name, p := range full.Properties {
			_, used := v[name]
			if used || scalar(p.Default) {
				if reduced.Properties[name] == nil {
					reduced.Properties[name] = bare(p)
				}
				keep(reduced.Properties[name], p, v[name])
			}
		}
	case []any:
		for _, item := range v {
			keep(reduced.Items, full.Items, item)
		}
	}
}
