package manifests_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/test/manifests"
)

// examples returns the manifests of the examples.
func examples(t *testing.T) []manifests.Object {
	t.Helper()
	var all []manifests.Object
	for _, dir := range []string{"envoy-gateway", "ai-gateway"} {
		names, err := filepath.Glob(filepath.Join("..", "..", "examples", dir, "*.yaml"))
		if err != nil || len(names) < 3 {
			t.Fatalf("%s: %v, %v", dir, names, err)
		}
		for _, name := range names {
			if filepath.Base(name) == "envoy.yaml" {
				continue
			}
			objects, err := manifests.Read(name)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, objects...)
		}
	}
	return all
}

// Every manifest is what its kind's schema says, with the rules in it.
func TestManifestsAreValid(t *testing.T) {
	schemas, err := manifests.Schemas()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, o := range examples(t) {
		kinds[o.Kind()]++
		s := schemas[o.Kind()]
		if s == nil {
			t.Errorf("%s:%d: no schema of %s", o.File, o.Line, o.Kind())
			continue
		}
		for _, wrong := range s.Check("", o.Value) {
			t.Errorf("%s:%d: %s", o.File, o.Line, wrong)
		}
	}
	for kind := range schemas {
		if kinds[kind] == 0 {
			t.Errorf("there is a schema of %s, and no manifest", kind)
		}
	}
}

// The schemas find what is wrong: each of these changes makes one manifest invalid.
func TestSchemasFindMistakes(t *testing.T) {
	schemas, err := manifests.Schemas()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, by, want string }{
		{`"requests":1000000`, `"request":1000000`, "limit.requests is missing"},
		{`"unit":"Hour"`, `"unit":"hour"`, "limit.unit is hour, expected one of"},
		{`"requests":100,`, `"requests":-1,`, "requests is -1"},
		{`"from":"Metadata"`, `"from":"Header"`, "from is Header, expected one of"},
		{`"type":"Distinct"`, `"type":"distinct"`, "type is distinct, expected one of"},
		{`"type":"ALS"`, `"type":"GRPC"`, "type is GRPC, expected one of"},
		{`"backendRefs":[{"name":"envoy-ratelimit","port":8081}]`, `"backendRefs":[{"name":"envoy-ratelimit","port":80810}]`, "port is 80810"},
		{`"image":"registry.example.com/weir-ratelimit:1.0.0"`, `"image":"registry.example.com/weir ratelimit"`, "must include a tag"},
		{`"url":"none.invalid:6379"`, `"uri":"none.invalid:6379"`, "redis.uri is not known"},
		{`"timeout":"2s"`, `"timeout":"2 s"`, "does not match"},
		{`"type":"OutputToken"`, `"type":"CachedWriteInputToken"`, "type is CachedWriteInputToken, expected one of"},
		{`"kind":"AIServiceBackend","name":"anthropic"}]`, `"kind":"Backend","name":"anthropic"}]`, "targetRefs must reference AIServiceBackend"},
		{`"anthropicAPIKey":`, `"apiKey":`, "apiKey is not known"},
		{`"wellKnownCACertificates":"System"`, `"wellKnownCACertificates":"system"`, "wellKnownCACertificates is "},
	} {
		t.Run(c.by, func(t *testing.T) {
			found := false
			for _, o := range examples(t) {
				b, err := json.Marshal(o.Value)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(string(b), c.old) || found {
					continue
				}
				found = true
				changed := decode(t, strings.Replace(string(b), c.old, c.by, 1))
				got := fmt.Sprint(schemas[o.Kind()].Check("", changed))
				if !strings.Contains(got, c.want) {
					t.Errorf("got %s, want %q", got, c.want)
				}
			}
			if !found {
				t.Errorf("no manifest has %s", c.old)
			}
		})
	}
}

// decode reads JSON with whole numbers as YAML has them.
func decode(t *testing.T, text string) any {
	t.Helper()
	file := filepath.Join(t.TempDir(), "changed.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	objects, err := manifests.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return objects[0].Value
}

// What a ConfigMap holds for weir is valid.
func TestConfigurationsInManifestsAreValid(t *testing.T) {
	n := 0
	for _, o := range examples(t) {
		for name, text := range o.ConfigMap() {
			n++
			file := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load([]string{file}, nil); err != nil {
				t.Errorf("%s:%d: %v", o.File, o.Line, err)
			}
		}
	}
	if n == 0 {
		t.Error("no ConfigMap has a configuration")
	}
}
