package config

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/weir-project/weir/proto/weir/config/v1"
)

// validator checks a Config against the rules in its .proto. Making it takes a few
// milliseconds, so it is made once, and only where there is a file to check.
var validator = sync.OnceValues(func() (protovalidate.Validator, error) {
	return protovalidate.New(protovalidate.WithMessages(&configv1.Config{}))
})

// checkRules reports what breaks the rules of the .proto, each at the node at fault.
func (b *binder) checkRules(c *configv1.Config) {
	v, err := validator()
	if err != nil {
		b.report.file(b.doc.path, "cannot be checked: %s", err)
		return
	}
	var broken *protovalidate.ValidationError
	switch err := v.Validate(c); {
	case err == nil:
	case errors.As(err, &broken):
		for _, violation := range broken.Violations {
			b.violation(violation)
		}
	default:
		b.report.file(b.doc.path, "cannot be checked: %s", err)
	}
}

// violation reports one broken rule, unless its node has a problem already.
func (b *binder) violation(v *protovalidate.Violation) {
	path := v.Proto.GetField().GetElements()
	n, found := locate(b.doc.root, path, v.Proto.GetForKey())
	if b.bad[n] {
		return
	}
	if len(path) == 0 {
		b.problem(n, "%s", v.Proto.GetMessage())
		return
	}
	label := labelOf(path[len(path)-1], v.Proto.GetForKey())
	if !found {
		// The node is not at fault for what it lacks: it may lack more.
		b.report.at(b.doc, n, "%s is missing%s", label, expectation(v))
		return
	}
	b.problem(n, "%s", violationText(v, label, n))
}

// labelOf names a field, an item of it, or a key or value in it.
func labelOf(e *validate.FieldPathElement, forKey bool) string {
	switch s := e.GetSubscript().(type) {
	case *validate.FieldPathElement_Index:
		return "an item of " + e.GetFieldName()
	case *validate.FieldPathElement_StringKey:
		if forKey {
			return "a key of " + e.GetFieldName()
		}
		return shorten(s.StringKey)
	}
	return e.GetFieldName()
}

// locate returns the node that a path of fields leads to. If the file does not have
// it, it returns the nearest one above, and false.
func locate(root *yaml.Node, path []*validate.FieldPathElement, forKey bool) (*yaml.Node, bool) {
	n := root
	for i, e := range path {
		next := child(n, e.GetFieldName())
		if next == nil {
			return n, false
		}
		n = next
		switch s := e.GetSubscript().(type) {
		case *validate.FieldPathElement_Index:
			next = item(n, int(s.Index)) //nolint:gosec // an index of a list that fits in memory
		case *validate.FieldPathElement_StringKey:
			next = child(n, s.StringKey)
			if forKey && i == len(path)-1 {
				next = keyNode(n, s.StringKey)
			}
		}
		if next == nil {
			return n, false
		}
		n = next
	}
	return n, true
}

// keyNode returns the node of a mapping's key, or nil.
func keyNode(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i]
		}
	}
	return nil
}

// violationText says what is wrong with a node and what was expected.
func violationText(v *protovalidate.Violation, label string, n *yaml.Node) string {
	rule := v.Proto.GetRuleId()
	bound := ""
	if v.RuleValue.IsValid() {
		bound = fmt.Sprint(v.RuleValue.Interface())
	}
	switch rule {
	case "required", "string.min_len":
		return fmt.Sprintf("%s is empty%s", label, expectation(v))
	case "string.in":
		return fmt.Sprintf("unknown %s %s%s", label, quoteShort(n.Value), expectation(v))
	case "string.pattern":
		return fmt.Sprintf("%s is %s%s", label, quoteShort(n.Value), expectation(v))
	case "string.max_bytes":
		return fmt.Sprintf("%s is too long, expected at most %s bytes", label, bound)
	case "uint64.gte_lte":
		return fmt.Sprintf("%s is %s%s", label, shorten(n.Value), expectation(v))
	case "uint64.lte":
		return fmt.Sprintf("%s is %s, expected at most %s", label, shorten(n.Value), bound)
	case "repeated.max_items", "map.max_pairs":
		return fmt.Sprintf("%s has too many items, expected at most %s", label, bound)
	case "repeated.min_items":
		return fmt.Sprintf("%s is empty, expected at least %s item", label, bound)
	case "repeated.unique":
		return fmt.Sprintf("%s has an item twice, expected each once", label)
	}
	return fmt.Sprintf("%s: %s", label, v.Proto.GetMessage())
}

// expectation returns ", expected …" for what is missing or has a wrong value.
func expectation(v *protovalidate.Violation) string {
	d := v.FieldDescriptor
	path := v.Proto.GetField().GetElements()
	switch {
	case v.Proto.GetRuleId() == "string.in":
		return expectedWords(v)
	case d == nil, path[len(path)-1].GetSubscript() != nil, d.Kind() == protoreflect.StringKind && !isDuration(d) && !isShare(d) && !isHeader(d):
		return ", expected text"
	case isHeader(d):
		return ", expected the name of a header"
	case isDuration(d):
		return ", expected a duration such as 500ms, 10s, 1m, 24h or 7d"
	case isShare(d):
		return ", expected a share such as 50% or 0.5"
	case v.Proto.GetRuleId() == "uint64.gte_lte" && d.ContainingMessage().Name() == "ProviderRule":
		return ", expected a status from 100 to 999"
	case v.Proto.GetRuleId() == "uint64.gte_lte":
		return ", expected a whole number " + bounds(d)
	case d.IsList():
		return ", expected a list of mappings with " + fewNames(d.Message())
	case d.Message() != nil:
		return ", expected a mapping with " + fewNames(d.Message())
	}
	return ", expected a whole number"
}

// bounds says from where to where the rules of the .proto let a number go.
func bounds(d protoreflect.FieldDescriptor) string {
	rules, ok := proto.GetExtension(d.Options(), validate.E_Field).(*validate.FieldRules)
	if !ok {
		return "within its bounds"
	}
	return fmt.Sprintf("from %d to %d", rules.GetUint64().GetGte(), rules.GetUint64().GetLte())
}

// expectedWords lists the words that a field may be, and the one that is near.
func expectedWords(v *protovalidate.Violation) string {
	var words []string
	if list, ok := v.RuleValue.Interface().(protoreflect.List); ok {
		for i := range list.Len() {
			words = append(words, list.Get(i).String())
		}
	}
	text := ", expected " + oneOf(words)
	if s := closest(v.FieldValue.String(), words); s != "" {
		text += "; did you mean " + s + "?"
	}
	return text
}

// oneOf lists words.
func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return "one of " + strings.Join(words, ", ")
}

// isDuration says whether a field holds a length of time.
func isDuration(d protoreflect.FieldDescriptor) bool {
	switch d.FullName() {
	case "weir.config.v1.Limit.per", "weir.config.v1.Quota.hold", "weir.config.v1.Server.drain_delay":
		return true
	}
	return false
}

// isHeader says whether a field holds the name of a header.
func isHeader(d protoreflect.FieldDescriptor) bool {
	return d.ContainingMessage().Name() == "LimitHeaders" || d.FullName() == "weir.config.v1.RetryAfterHeader.header"
}

// isShare says whether a field holds a part of a whole.
func isShare(d protoreflect.FieldDescriptor) bool {
	switch d.FullName() {
	case "weir.config.v1.TenantTerms.floor", "weir.config.v1.TenantTerms.ceiling":
		return true
	}
	return false
}
