package config_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/weir-project/weir/config"
)

// schemaNode is the part of JSON Schema that the generated schema uses.
type schemaNode struct {
	Ref                  string                 `json:"$ref"`
	Defs                 map[string]*schemaNode `json:"$defs"`
	Type                 string                 `json:"type"`
	Properties           map[string]*schemaNode `json:"properties"`
	AdditionalProperties json.RawMessage        `json:"additionalProperties"`
	Required             []string               `json:"required"`
	Items                *schemaNode            `json:"items"`
	Enum                 []any                  `json:"enum"`
	Pattern              string                 `json:"pattern"`
	MinLength            int                    `json:"minLength"`
	MaxLength            *int                   `json:"maxLength"`
	MinItems             int                    `json:"minItems"`
}

// check returns what is wrong with v, a value decoded from YAML.
func (s *schemaNode) check(root *schemaNode, path string, v any) []string {
	if s.Ref != "" {
		name := strings.TrimPrefix(s.Ref, "#/$defs/")
		if root.Defs[name] == nil {
			return []string{path + ": no definition " + s.Ref}
		}
		return root.Defs[name].check(root, path, v)
	}
	switch s.Type {
	case "object":
		return s.checkObject(root, path, v)
	case "array":
		list, ok := v.([]any)
		if !ok || len(list) < s.MinItems {
			return []string{fmt.Sprintf("%s: %v is no array", path, v)}
		}
		var wrong []string
		for i, item := range list {
			wrong = append(wrong, s.Items.check(root, fmt.Sprintf("%s[%d]", path, i), item)...)
		}
		return wrong
	case "string":
		return s.checkString(path, v)
	case "integer":
		if _, ok := v.(int); !ok {
			return []string{fmt.Sprintf("%s: %v is no integer", path, v)}
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return []string{fmt.Sprintf("%s: %v is no boolean", path, v)}
		}
	default:
		return []string{path + ": the schema has the type " + s.Type}
	}
	return nil
}

func (s *schemaNode) checkObject(root *schemaNode, path string, v any) []string {
	object, ok := v.(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("%s: %v is no object", path, v)}
	}
	var wrong []string
	for _, name := range s.Required {
		if _, ok := object[name]; !ok {
			wrong = append(wrong, path+"."+name+" is missing")
		}
	}
	for name, value := range object {
		of := s.Properties[name]
		if of == nil && string(s.AdditionalProperties) != "false" {
			of = &schemaNode{}
			if err := json.Unmarshal(s.AdditionalProperties, of); err != nil {
				wrong = append(wrong, err.Error())
				continue
			}
		}
		if of == nil {
			wrong = append(wrong, path+"."+name+" is not known")
			continue
		}
		wrong = append(wrong, of.check(root, path+"."+name, value)...)
	}
	return wrong
}

func (s *schemaNode) checkString(path string, v any) []string {
	text, ok := v.(string)
	switch {
	case !ok:
		return []string{fmt.Sprintf("%s: %v is no string", path, v)}
	case s.Enum != nil && !slices.Contains(s.Enum, v):
		return []string{fmt.Sprintf("%s: %q is none of %v", path, text, s.Enum)}
	case s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(text):
		return []string{fmt.Sprintf("%s: %q does not match %s", path, text, s.Pattern)}
	case utf8.RuneCountInString(text) < s.MinLength, s.MaxLength != nil && utf8.RuneCountInString(text) > *s.MaxLength:
		return []string{fmt.Sprintf("%s: %q has a wrong length", path, text)}
	}
	return nil
}

// checkAgainstSchema returns what the schema has against a YAML text.
func checkAgainstSchema(t *testing.T, text string) []string {
	t.Helper()
	root := &schemaNode{}
	if err := json.Unmarshal(config.Schema(), root); err != nil {
		t.Fatal(err)
	}
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return root.check(root, "", v)
}

// TestSchema: the schema that editors use and the parser agree.
func TestSchema(t *testing.T) {
	for name, text := range map[string]string{
		"starter":    string(config.Starter()),
		"everything": strings.NewReplacer("value: 5", `value: "5"`, "floor: 0.25", `floor: "0.25"`, "plain:", "plain: {}").Replace(everything),
		"names":      "llm: {domains: [ai], keys: {org: team}, metadata_namespaces: [mine]}",
	} {
		if wrong := checkAgainstSchema(t, text); len(wrong) > 0 {
			t.Errorf("%s: the schema refuses it: %s", name, strings.Join(wrong, "; "))
		}
	}
	for text, want := range map[string]string{
		"quota: []":                                                               ".quota is not known",
		"quotas: [{limits: {}}]":                                                  ".quotas[0].name is missing",
		"quotas: [{name: a, limits: {rpm: 1}}]":                                   ".quotas[0].limits.rpm is not known",
		"quotas: [{name: a, limits: {}, control: taught}]":                        `.quotas[0].control: "taught" is none of [learn fixed]`,
		"quotas: [{name: a, tenants: {named: {b: {floor: x%}}}}]":                 `.quotas[0].tenants.named.b.floor: "x%" does not match`,
		"rules: [{domain: a, match: [{key: a}], limits: [{amount: 1, per: 1w}]}]": `.rules[0].limits[0].per: "1w" does not match`,
		"rules: [{domain: a, match: [{}]}]":                                       ".rules[0].match[0].key is missing",
	} {
		if wrong := checkAgainstSchema(t, text); len(wrong) != 1 || !strings.HasPrefix(wrong[0], want) {
			t.Errorf("%s: got %q, want %q", text, wrong, want)
		}
	}
}

// TestExamplesNameTheSchema: by a path that leads there from the example.
func TestExamplesNameTheSchema(t *testing.T) {
	for _, name := range []string{"../examples/envoy/quotas.yaml", "../docs/tutorial.yaml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		schema, ok := strings.CutPrefix(first, "# yaml-language-server: $schema=")
		if _, err := os.Stat(filepath.Join(filepath.Dir(name), schema)); !ok || err != nil {
			t.Errorf("%s: the first line is %q: %v", name, first, err)
		}
	}
}

// TestStarterNamesTheSchema: the first line is the one that editors look for.
func TestStarterNamesTheSchema(t *testing.T) {
	first, _, _ := strings.Cut(string(config.Starter()), "\n")
	if first != "# yaml-language-server: $schema=weir.schema.json" {
		t.Errorf("the first line is %q", first)
	}
}
