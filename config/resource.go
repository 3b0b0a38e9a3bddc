package config

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// A resource of a control plane becomes the tree of nodes that a file of
// envoyproxy/ratelimit with the same contents would be, and is read like one: so both
// mean the same, and what is wrong with either is said in the same words. It is not
// written out as text on the way: that would cost many times as much, and an error would
// show lines that nobody wrote. Errors name the field instead.

// ResourcePrefix begins the names of resources in [Loaded.Sources] and in problems.
const ResourcePrefix = "xds:"

// resource is where the nodes of a document come from that was no file.
type resource struct {
	config *ratelimitv3.RateLimitConfig
	// nodes are allocated many at a time.
	nodes []yaml.Node
	// descriptors counts those that have a node. A node's line is the number of its
	// descriptor, 0 for the resource itself, and its column an index of resourceFields.
	descriptors int
	// deep is the first node of metadata that is nested deeper than MaxDepth.
	deep *yaml.Node
}

// The places that an error can name in a resource or a descriptor.
const (
	atItself = iota
	atDomain
	atDescriptors
	atKey
	atValue
	atRateLimit
	atUnit
	atRequestsPerUnit
	atUnlimited
	atName
	atReplaces
	atShadowMode
	atDetailedMetric
	atQuotaMode
	atMetadata
)

// resourceFields are their names.
var resourceFields = [...]string{
	"", "domain", "descriptors", "key", "value", "rate_limit", "rate_limit.unit", "rate_limit.requests_per_unit",
	"rate_limit.unlimited", "rate_limit.name", "rate_limit.replaces", "shadow_mode", "detailed_metric", "quota_mode", "metadata",
}

// resourceKeys are the nodes of the keys. All resources share them: they have no place.
var resourceKeys = func() (keys [len(resourceFields)]*yaml.Node) {
	for i, f := range resourceFields {
		keys[i] = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: f[strings.LastIndexByte(f, '.')+1:]}
	}
	return keys
}()

// sortResources returns the resources by name: control planes give them in any order,
// and the same ones are to decide alike.
func sortResources(list []*ratelimitv3.RateLimitConfig) []*ratelimitv3.RateLimitConfig {
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b *ratelimitv3.RateLimitConfig) int {
		return cmp.Or(strings.Compare(a.GetName(), b.GetName()), strings.Compare(a.GetDomain(), b.GetDomain()))
	})
	return sorted
}

// resourcePath names a resource as files are named.
func resourcePath(c *ratelimitv3.RateLimitConfig) string {
	name := c.GetName()
	if name == "" {
		name = c.GetDomain()
	}
	return ResourcePrefix + strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, shorten(name))
}

// resourceDocument makes a document of a resource.
func resourceDocument(c *ratelimitv3.RateLimitConfig, r *report) *document {
	from := &resource{config: c}
	d := &document{path: resourcePath(c), from: from}
	d.root = from.mapping(atItself)
	from.text(d.root, atDomain, c.GetDomain())
	from.list(d.root, c.GetDescriptors(), 1)
	if from.deep != nil {
		r.at(d, from.deep, "metadata is nested too deep, expected at most %d levels", MaxDepth)
	}
	return d
}

// field names the place of a node: that of a descriptor, and what is in it.
func (s *resource) field(line, column int) string {
	field := resourceFields[column]
	if line == 0 {
		return field
	}
	n := line
	return strings.TrimSuffix(descriptorPath(s.config.GetDescriptors(), &n, 1)+"."+field, ".")
}

// descriptorPath returns the path to the descriptor number *n, counting each before
// those below it; empty if there are not so many, which *n is then less by.
func descriptorPath(list []*ratelimitv3.RateLimitDescriptor, n *int, depth int) string {
	if depth > MaxDepth {
		return ""
	}
	for i, d := range list {
		at := "descriptors[" + strconv.Itoa(i) + "]"
		if *n--; *n == 0 {
			return at
		}
		if below := descriptorPath(d.GetDescriptors(), n, depth+1); below != "" {
			return at + "." + below
		}
	}
	return ""
}

// node returns a new node at a field of the descriptor that is being made.
func (s *resource) node(kind yaml.Kind, tag, value string, column int) *yaml.Node {
	const slab = 256
	if len(s.nodes) == cap(s.nodes) {
		s.nodes = make([]yaml.Node, 0, slab)
	}
	s.nodes = append(s.nodes, yaml.Node{Kind: kind, Tag: tag, Value: value, Line: s.descriptors, Column: column})
	return &s.nodes[len(s.nodes)-1]
}

// quoted returns a text that is one whatever it looks like.
func (s *resource) quoted(value string, field int) *yaml.Node {
	n := s.node(yaml.ScalarNode, "!!str", value, field)
	n.Style = yaml.DoubleQuotedStyle
	return n
}

func (s *resource) mapping(column int) *yaml.Node {
	n := s.node(yaml.MappingNode, "!!map", "", column)
	n.Content = make([]*yaml.Node, 0, 6)
	return n
}

// add adds a field to a mapping.
func (s *resource) add(n *yaml.Node, field int, value *yaml.Node) {
	n.Content = append(n.Content, resourceKeys[field], value)
}

// text adds a text, unless it is empty: then a message does not have it.
func (s *resource) text(n *yaml.Node, field int, value string) {
	if value != "" {
		s.add(n, field, s.quoted(value, field))
	}
}

// flag adds a truth value, unless it is false.
func (s *resource) flag(n *yaml.Node, field int, value bool) {
	if value {
		s.add(n, field, s.node(yaml.ScalarNode, "!!bool", "true", field))
	}
}

// list adds descriptors. One level more than the reader takes is enough for it to
// refuse them.
func (s *resource) list(n *yaml.Node, list []*ratelimitv3.RateLimitDescriptor, depth int) {
	if len(list) == 0 {
		return
	}
	items := s.node(yaml.SequenceNode, "!!seq", "", atDescriptors)
	s.add(n, atDescriptors, items)
	if depth > MaxDepth {
		return
	}
	items.Content = make([]*yaml.Node, len(list))
	for i, d := range list {
		s.descriptors++
		items.Content[i] = s.descriptor(d, depth)
	}
}

func (s *resource) descriptor(d *ratelimitv3.RateLimitDescriptor, depth int) *yaml.Node {
	n := s.mapping(atItself)
	s.text(n, atKey, d.GetKey())
	s.text(n, atValue, d.GetValue())
	if l := d.GetRateLimit(); l != nil {
		s.limit(n, l)
	}
	s.flag(n, atShadowMode, d.GetShadowMode())
	s.flag(n, atDetailedMetric, d.GetDetailedMetric())
	s.flag(n, atQuotaMode, d.GetQuotaMode())
	if m := d.GetMetadata(); m != nil {
		s.add(n, atMetadata, s.structure(m, 1))
	}
	s.list(n, d.GetDescriptors(), depth+1)
	return n
}

func (s *resource) limit(n *yaml.Node, l *ratelimitv3.RateLimitPolicy) {
	limit := s.mapping(atRateLimit)
	s.add(n, atRateLimit, limit)
	// UNKNOWN is what is meant by none, and is no unit.
	s.text(limit, atUnit, l.GetUnit().String())
	amount := s.node(yaml.ScalarNode, "!!int", strconv.FormatUint(uint64(l.GetRequestsPerUnit()), 10), atRequestsPerUnit)
	s.add(limit, atRequestsPerUnit, amount)
	s.flag(limit, atUnlimited, l.GetUnlimited())
	s.text(limit, atName, l.GetName())
	if len(l.GetReplaces()) == 0 {
		return
	}
	list := s.node(yaml.SequenceNode, "!!seq", "", atReplaces)
	s.add(limit, atReplaces, list)
	for _, r := range l.GetReplaces() {
		item := s.mapping(list.Column)
		s.add(item, atName, s.quoted(r.GetName(), list.Column))
		list.Content = append(list.Content, item)
	}
}

// structure makes a mapping of metadata, as deep as a file may have it.
func (s *resource) structure(m *structpb.Struct, depth int) *yaml.Node {
	n := s.mapping(atMetadata)
	if s.tooDeep(n, depth) {
		return n
	}
	for _, key := range slices.Sorted(maps.Keys(m.GetFields())) {
		n.Content = append(n.Content, s.quoted(key, n.Column), s.value(m.GetFields()[key], depth+1))
	}
	return n
}

// tooDeep notes the first mapping or list of metadata that is nested too deep.
func (s *resource) tooDeep(n *yaml.Node, depth int) bool {
	if depth > MaxDepth && s.deep == nil {
		s.deep = n
	}
	return depth > MaxDepth
}

func (s *resource) value(v *structpb.Value, depth int) *yaml.Node {
	const at = atMetadata
	switch v := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return s.quoted(v.StringValue, at)
	case *structpb.Value_BoolValue:
		return s.node(yaml.ScalarNode, "!!bool", strconv.FormatBool(v.BoolValue), at)
	case *structpb.Value_NumberValue:
		return s.number(v.NumberValue, at)
	case *structpb.Value_StructValue:
		return s.structure(v.StructValue, depth)
	case *structpb.Value_ListValue:
		n := s.node(yaml.SequenceNode, "!!seq", "", at)
		if !s.tooDeep(n, depth) {
			for _, item := range v.ListValue.GetValues() {
				n.Content = append(n.Content, s.value(item, depth+1))
			}
		}
		return n
	}
	return s.node(yaml.ScalarNode, "!!null", "null", at)
}

// number writes a number as YAML does.
func (s *resource) number(v float64, field int) *yaml.Node {
	const exact = 1 << 53 // up to here, a whole number is itself
	switch {
	case math.IsNaN(v):
		return s.node(yaml.ScalarNode, "!!float", ".nan", field)
	case math.IsInf(v, 0):
		return s.node(yaml.ScalarNode, "!!float", map[bool]string{true: ".inf", false: "-.inf"}[v > 0], field)
	case v == math.Trunc(v) && math.Abs(v) <= exact:
		return s.node(yaml.ScalarNode, "!!int", strconv.FormatFloat(v, 'f', -1, 64), field)
	}
	return s.node(yaml.ScalarNode, "!!float", strconv.FormatFloat(v, 'g', -1, 64), field)
}
