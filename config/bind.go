package config

import (
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/weir-project/weir/limiter"
)

// binder fills a message from a document. It is driven by the message's descriptor,
// so that a new field of the format needs no code here. It is stricter than the
// protobuf mapping of JSON: a field has one spelling, a number is written as a
// number, and nothing may be given twice.
type binder struct {
	doc    *document
	report *report
	// bad holds the nodes that have a problem, so that it is not reported again.
	bad map[*yaml.Node]bool
}

func (b *binder) problem(n *yaml.Node, format string, args ...any) {
	b.bad[n] = true
	b.report.at(b.doc, n, format, args...)
}

// message fills m from n. Nothing (a key without a value) is an empty message.
func (b *binder) message(n *yaml.Node, m protoreflect.Message) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		b.problem(n, "%s, expected a mapping with %s", kindOf(n), fewNames(m.Descriptor()))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		f := m.Descriptor().Fields().ByName(protoreflect.Name(k.Value))
		if f == nil {
			b.unknown(k, m.Descriptor())
			continue
		}
		b.field(v, f, m)
	}
}

// unknown reports a key that no field has.
func (b *binder) unknown(k *yaml.Node, desc protoreflect.MessageDescriptor) {
	b.bad[k] = true
	if b.report.full() {
		return
	}
	hint := ""
	if s := suggest(k.Value, desc); s != "" {
		hint = "; did you mean " + s + "?"
	}
	b.problem(k, "unknown field %s, expected one of %s%s", quoteShort(k.Value), fieldNames(desc), hint)
}

// field fills one field. Nothing leaves a list, a map and a message as they are.
func (b *binder) field(n *yaml.Node, f protoreflect.FieldDescriptor, m protoreflect.Message) {
	switch {
	case f.IsList():
		b.list(n, f, m)
	case f.IsMap():
		b.pairs(n, f, m)
	case f.Message() != nil:
		b.message(n, m.Mutable(f).Message())
	default:
		if v, ok := b.scalar(n, f.Kind(), f.Name()); ok {
			m.Set(f, v)
		}
	}
}

func (b *binder) list(n *yaml.Node, f protoreflect.FieldDescriptor, m protoreflect.Message) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		b.problem(n, "%s is %s, expected a list", f.Name(), kindOf(n))
		return
	}
	if len(n.Content) > MaxRules {
		b.problem(n, "%s has too many items, expected at most %d", f.Name(), MaxRules)
		return
	}
	list := m.Mutable(f).List()
	for _, c := range n.Content {
		// An item that is wrong still takes its place: positions in the list are
		// how later checks find the node.
		v := list.NewElement()
		if f.Message() != nil {
			if isNull(c) {
				b.problem(c, "an empty item, expected a mapping with %s", fieldNames(f.Message()))
			}
			b.message(c, v.Message())
		} else if s, ok := b.scalar(c, f.Kind(), "an item of "+f.Name()); ok {
			v = s
		}
		list.Append(v)
	}
}

func (b *binder) pairs(n *yaml.Node, f protoreflect.FieldDescriptor, m protoreflect.Message) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		b.problem(n, "%s is %s, expected a mapping", f.Name(), kindOf(n))
		return
	}
	pairs := m.Mutable(f).Map()
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		k, kOK := b.scalar(key, f.MapKey().Kind(), "a key of "+f.Name())
		v, vOK := pairs.NewValue(), true
		if f.MapValue().Message() != nil {
			b.message(n.Content[i+1], v.Message())
		} else {
			v, vOK = b.scalar(n.Content[i+1], f.MapValue().Kind(), protoreflect.Name(shorten(key.Value)))
		}
		if kOK && vOK {
			pairs.Set(k.MapKey(), v)
		}
	}
}

// scalar reads one value, which errors call label. Text is what is written, also where
// YAML would take it for a number or a truth value.
func (b *binder) scalar(n *yaml.Node, kind protoreflect.Kind, label protoreflect.Name) (protoreflect.Value, bool) {
	switch kind { //nolint:exhaustive // the format has no other kinds; TestEveryKindIsRead keeps it so
	case protoreflect.StringKind:
		if n.Kind != yaml.ScalarNode || isNull(n) {
			b.problem(n, "%s is %s, expected text", label, kindOf(n))
			return protoreflect.Value{}, false
		}
		return protoreflect.ValueOfString(n.Value), true
	case protoreflect.BoolKind:
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
			b.problem(n, "%s is %s, expected true or false", label, kindOf(n))
			return protoreflect.Value{}, false
		}
		return protoreflect.ValueOfBool(strings.EqualFold(n.Value, "true")), true
	case protoreflect.Uint64Kind:
		v, ok := b.number(n, label)
		return protoreflect.ValueOfUint64(v), ok
	}
	b.problem(n, "%s cannot be read, being of kind %s", label, kind)
	return protoreflect.Value{}, false
}

var digits = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

// number reads an amount.
func (b *binder) number(n *yaml.Node, label protoreflect.Name) (uint64, bool) {
	switch {
	case n.Kind != yaml.ScalarNode || isNull(n):
		b.problem(n, "%s is %s, expected a whole number", label, kindOf(n))
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		b.problem(n, "%s is %s, expected a whole number, without quotes", label, kindOf(n))
	case strings.HasPrefix(n.Value, "-") && digits.MatchString(n.Value[1:]):
		b.problem(n, "%s is %s, expected a whole number from 0 to %d", label, shorten(n.Value), limiter.MaxAmount)
	case !digits.MatchString(n.Value):
		b.problem(n, "%s is %s, expected a whole number in plain digits, such as 2000000", label, kindOf(n))
	default:
		v, err := strconv.ParseUint(n.Value, 10, 64)
		if err != nil {
			b.problem(n, "%s is %s, expected at most %d", label, shorten(n.Value), limiter.MaxAmount)
			return 0, false
		}
		return v, true
	}
	return 0, false
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// fieldNames lists the fields of a message in the order of their declaration.
func fieldNames(desc protoreflect.MessageDescriptor) string {
	names := make([]string, 0, desc.Fields().Len())
	for i := range desc.Fields().Len() {
		names = append(names, string(desc.Fields().Get(i).Name()))
	}
	return strings.Join(names, ", ")
}

// fewNames is fieldNames, cut where a message has so many fields that nobody would
// read them.
func fewNames(desc protoreflect.MessageDescriptor) string {
	if n := desc.Fields().Len(); n > 11 {
		return string(desc.Fields().Get(0).Name()) + ", " + string(desc.Fields().Get(1).Name()) + " and so on"
	}
	return fieldNames(desc)
}

// abbreviations are what people call the meters of providers.
var abbreviations = map[string]protoreflect.Name{
	"rpm": "requests_per_minute", "rps": "requests_per_second", "rpd": "requests_per_day",
	"tpm": "tokens_per_minute", "tpd": "tokens_per_day",
	"itpm": "input_tokens_per_minute", "otpm": "output_tokens_per_minute",
}

// suggest returns the field that was probably meant by key, or "".
func suggest(key string, desc protoreflect.MessageDescriptor) string {
	if name, ok := abbreviations[strings.ToLower(key)]; ok && desc.Fields().ByName(name) != nil {
		return string(name)
	}
	names := make([]string, 0, desc.Fields().Len())
	for i := range desc.Fields().Len() {
		names = append(names, string(desc.Fields().Get(i).Name()))
	}
	return closest(key, names)
}

// closest returns the name that is nearest to key, or "" if none is near: where only
// case, "-" and "_" differ, or at most a third of the letters, or one begins with the
// other.
func closest(key string, names []string) string {
	if len(key) > 64 {
		return ""
	}
	best, bestDistance := "", max(1, len(key)/3)+1
	for _, name := range names {
		if d := distance(squash(key), squash(name)); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	for _, name := range names {
		if best == "" && min(len(key), len(name)) >= 3 && (strings.HasPrefix(name, key) || strings.HasPrefix(key, name)) {
			best = name
		}
	}
	return best
}

func squash(s string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s))
}

// distance counts the letters to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
