package manifests

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
)

//go:embed schemas.json
var schemas []byte

// Schema is the part of a structural schema of Kubernetes that the resources use.
type Schema struct {
	Type       string             `json:"type,omitempty"`
	Properties map[string]*Schema `json:"properties,omitempty"`
	Additional *Schema            `json:"additionalProperties,omitempty"`
	Required   []string           `json:"required,omitempty"`
	Items      *Schema            `json:"items,omitempty"`
	Enum       []any              `json:"enum,omitempty"`
	Default    any                `json:"default,omitempty"`
	Pattern    string             `json:"pattern,omitempty"`
	MinLength  int                `json:"minLength,omitempty"`
	MaxLength  *int               `json:"maxLength,omitempty"`
	MinItems   int                `json:"minItems,omitempty"`
	MaxItems   *int               `json:"maxItems,omitempty"`
	Minimum    *float64           `json:"minimum,omitempty"`
	Maximum    *float64           `json:"maximum,omitempty"`
	Rules      []Rule             `json:"x-kubernetes-validations,omitempty"`
	// Free lets an object have other properties.
	Free bool `json:"x-kubernetes-preserve-unknown-fields,omitempty"`
	// From is where this schema is copied from, in what schemas.json is made of.
	From string `json:"x-from,omitempty"`
}

// Rule is a condition in CEL.
type Rule struct {
	Message string `json:"message,omitempty"`
	Rule    string `json:"rule"`
}

// Schemas returns the schemas by apiVersion/kind.
func Schemas() (map[string]*Schema, error) {
	var all map[string]*Schema
	return all, json.Unmarshal(schemas, &all)
}

// Check returns what is wrong with v, which is at path. It fills in defaults.
func (s *Schema) Check(path string, v any) []string {
	var wrong []string
	switch x := v.(type) {
	case map[string]any:
		wrong = s.object(path, x)
	case []any:
		wrong = s.list(path, x)
	case string:
		wrong = s.text(path, x)
	case int:
		wrong = s.number(path, x)
	case bool:
		if s.Type != "boolean" {
			wrong = append(wrong, fmt.Sprintf("%s is %v, expected %s", path, x, s.Type))
		}
	default:
		return []string{fmt.Sprintf("%s is %v, expected %s", path, v, s.Type)}
	}
	if len(wrong) > 0 {
		return wrong // rules are about values of the right type
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		return []string{fmt.Sprintf("%s is %v, expected one of %v", path, v, s.Enum)}
	}
	for _, r := range s.Rules {
		if ok, err := r.holds(v); err != nil || !ok {
			wrong = append(wrong, fmt.Sprintf("%s: %s (%v)", path, r.Message, err))
		}
	}
	return wrong
}

func (s *Schema) object(path string, v map[string]any) (wrong []string) {
	if s.Type != "object" {
		return []string{fmt.Sprintf("%s is an object, expected %s", path, s.Type)}
	}
	for name, p := range s.Properties {
		if _, ok := v[name]; !ok && p.Default != nil {
			v[name] = p.Default
			if f, ok := p.Default.(float64); ok {
				v[name] = int(f)
			}
		}
	}
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s.%s is missing", path, name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		switch p := s.Properties[name]; {
		case p != nil:
			wrong = append(wrong, p.Check(path+"."+name, v[name])...)
		case s.Additional != nil:
			wrong = append(wrong, s.Additional.Check(path+"."+name, v[name])...)
		case !s.Free:
			wrong = append(wrong, fmt.Sprintf("%s.%s is not known", path, name))
		}
	}
	return wrong
}

func (s *Schema) list(path string, v []any) (wrong []string) {
	switch {
	case s.Type != "array":
		return []string{fmt.Sprintf("%s is a list, expected %s", path, s.Type)}
	case len(v) < s.MinItems || s.MaxItems != nil && len(v) > *s.MaxItems:
		wrong = append(wrong, fmt.Sprintf("%s has %d items", path, len(v)))
	}
	for i, item := range v {
		wrong = append(wrong, s.Items.Check(fmt.Sprintf("%s[%d]", path, i), item)...)
	}
	return wrong
}

func (s *Schema) text(path, v string) []string {
	n := utf8.RuneCountInString(v)
	switch {
	case s.Type != "string":
		return []string{fmt.Sprintf("%s is the text %q, expected %s", path, v, s.Type)}
	case n < s.MinLength || s.MaxLength != nil && n > *s.MaxLength:
		return []string{fmt.Sprintf("%s has %d characters", path, n)}
	case s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v):
		return []string{fmt.Sprintf("%s is %q, which does not match %s", path, v, s.Pattern)}
	}
	return nil
}

func (s *Schema) number(path string, v int) []string {
	switch {
	case s.Type != "integer":
		return []string{fmt.Sprintf("%s is %d, expected %s", path, v, s.Type)}
	case s.Minimum != nil && float64(v) < *s.Minimum, s.Maximum != nil && float64(v) > *s.Maximum:
		return []string{fmt.Sprintf("%s is %d, which is out of bounds", path, v)}
	}
	return nil
}

// holds evaluates the rule on a value.
func (r *Rule) holds(self any) (bool, error) {
	env, err := cel.NewEnv(cel.Variable("self", cel.DynType))
	if err != nil {
		return false, err
	}
	ast, issues := env.Compile(r.Rule)
	if issues.Err() != nil {
		return false, issues.Err()
	}
	program, err := env.Program(ast)
	if err != nil {
		return false, err
	}
	out, _, err := program.Eval(map[string]any{"self": self})
	if err != nil {
		return false, err
	}
	return out.Value() == true, nil
}
