package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// Values in files of envoyproxy/ratelimit, which are of YAML 1.1: what is read as which
// type, and what is said of one of another type.

// text reads a text; a whole number, a truth value and a date are text as written.
func (f *ratelimitFile) text(n *yaml.Node, key string) (string, bool) {
	v := child(n, key)
	switch {
	case v == nil || isNull(v):
		return "", true
	case v.Kind == yaml.ScalarNode && v.Tag == "!!float":
		f.report.at(f.doc, v, "error checking config: %s is %s, expected text; put it in quotes", key, kindOf(v))
		return "", false
	case v.Kind != yaml.ScalarNode:
		f.wrongType(v, "string", key, "text")
		return "", false
	}
	return v.Value, true
}

// wrongType reports a value that is not of the type that its key takes.
func (f *ratelimitFile) wrongType(v *yaml.Node, into, key, expected string) {
	value := ""
	switch {
	case v.Kind == yaml.ScalarNode && v.Tag == "!!float":
		f.report.at(f.doc, v, "error checking config: %s is %s, expected %s", key, kindOf(v), expected)
		return
	case v.Kind == yaml.ScalarNode && len(v.Value) > 10:
		value = " `" + strings.ToValidUTF8(v.Value[:7], "") + "...`"
	case v.Kind == yaml.ScalarNode:
		value = " `" + v.Value + "`"
	}
	f.report.at(f.doc, v, "error loading config file: yaml: unmarshal errors: line %d: cannot unmarshal %s%s into %s, expected %s to be %s",
		v.Line, v.Tag, value, into, key, expected)
}

// flag is truth, with false for what is none.
func (f *ratelimitFile) flag(n *yaml.Node, key string) bool {
	v, _ := f.truth(n, key)
	return v
}

// truth reads a truth value, in all the spellings of such files.
func (f *ratelimitFile) truth(n *yaml.Node, key string) (value, ok bool) {
	v := child(n, key)
	if v == nil || isNull(v) {
		return false, true
	}
	if value, ok = truthOf(v); !ok {
		f.wrongType(v, "bool", key, "true or false")
	}
	return value, ok
}

// truthOf is the truth value that is written at n, if one is.
func truthOf(n *yaml.Node) (value, ok bool) {
	if n.Kind != yaml.ScalarNode || n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		return false, false
	}
	switch n.Value {
	case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y":
		return true, true
	case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N":
		return false, true
	}
	return false, false
}

// amount reads requests_per_unit; absent means 0, which admits nothing.
func (f *ratelimitFile) amount(n *yaml.Node) uint64 {
	v := child(n, "requests_per_unit")
	if v == nil || isNull(v) {
		return 0
	}
	if v.Kind == yaml.ScalarNode && v.Tag == "!!int" {
		// Base 0 with underscores and a sign: what such files may write.
		digits := strings.TrimPrefix(strings.ReplaceAll(v.Value, "_", ""), "+")
		if u, err := strconv.ParseUint(digits, 0, 32); err == nil {
			return u
		}
	}
	f.wrongType(v, "uint32", "requests_per_unit", "a whole number from 0 to 4294967295")
	return 0
}

// metadata reads what is to go with answers; nil for none.
func (f *ratelimitFile) metadata(n *yaml.Node) *structpb.Struct {
	m := child(n, "metadata")
	switch {
	case m == nil || isNull(m):
		return nil
	case m.Kind != yaml.MappingNode:
		f.report.at(f.doc, m, "error parsing metadata: it is %s, expected a mapping", kindOf(m))
		return nil
	}
	return valueOf(m).GetStructValue()
}

// valueOf is what a node says, as protobuf has it.
func valueOf(n *yaml.Node) *structpb.Value {
	switch n.Kind {
	case yaml.MappingNode:
		s := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(n.Content)/2)}
		for i := 0; i+1 < len(n.Content); i += 2 {
			s.Fields[n.Content[i].Value] = valueOf(n.Content[i+1])
		}
		return structpb.NewStructValue(s)
	case yaml.SequenceNode:
		l := &structpb.ListValue{}
		for _, c := range n.Content {
			l.Values = append(l.Values, valueOf(c))
		}
		return structpb.NewListValue(l)
	case yaml.ScalarNode, yaml.DocumentNode, yaml.AliasNode:
	}
	if truth, ok := truthOf(n); ok {
		return structpb.NewBoolValue(truth)
	}
	var number float64
	switch {
	case isNull(n):
		return structpb.NewNullValue()
	case slices.Contains([]string{"!!int", "!!float"}, n.Tag) && n.Decode(&number) == nil:
		return structpb.NewNumberValue(number)
	}
	return structpb.NewStringValue(n.Value)
}

// shownAs writes a node as envoyproxy/ratelimit shows it in an error.
func shownAs(n *yaml.Node) string {
	switch {
	case isNull(n):
		return "<nil>"
	case n.Kind == yaml.ScalarNode:
		return shorten(n.Value)
	}
	var parts []string
	for i, c := range n.Content {
		if len(parts) == 8 {
			parts = append(parts, "…")
			break
		}
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			parts[len(parts)-1] += ":" + shownAs(c)
			continue
		}
		parts = append(parts, shownAs(c))
	}
	text := fmt.Sprintf("[%s]", strings.Join(parts, " "))
	if n.Kind == yaml.MappingNode {
		text = "map" + text
	}
	return shorten(text)
}
