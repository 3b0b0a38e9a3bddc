package ratelimitstats

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/statsd_exporter/pkg/mapper"
	"go.yaml.in/yaml/v3"
)

//go:embed mapping.yaml
var defaultMapping []byte

// Mapping makes metrics of Prometheus, with labels, of the names of statsd: a mapping
// file of statsd_exporter, read and applied by its own code. It is safe for concurrent
// use.
type Mapping struct {
	mapper *mapper.MetricMapper
	// Unused lists what the file says and what has no effect here, each with its line:
	// metrics last as long as what they count, and histograms are classic ones.
	Unused []string
}

// DefaultMapping returns the mapping of envoyproxy/ratelimit. With milliseconds, response
// times are not turned into seconds.
func DefaultMapping(milliseconds bool) *Mapping {
	m, err := NewMapping(defaultMapping)
	if err != nil {
		panic(fmt.Sprintf("ratelimitstats: the default mapping is invalid: %v", err))
	}
	if milliseconds {
		for i := range m.mapper.Mappings {
			m.mapper.Mappings[i].Scale = mapper.MaybeFloat64{}
		}
	}
	return m
}

// NewMapping reads a mapping file. Words of earlier versions of statsd_exporter, which
// files written for envoyproxy/ratelimit have, mean what they did.
func NewMapping(file []byte) (*Mapping, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(file, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("the file holds no mapping, expected one with the key mappings")
	}
	m := &Mapping{mapper: new(mapper.MetricMapper)}
	root := doc.Content[0]
	m.modernise(valueOf(root, "defaults"))
	if list := valueOf(root, "mappings"); list != nil {
		for _, n := range list.Content {
			m.modernise(n)
		}
	}
	var text bytes.Buffer
	if err := yaml.NewEncoder(&text).Encode(&doc); err != nil {
		return nil, err
	}
	if err := m.mapper.InitFromYAMLString(text.String()); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return m, nil
}

// check refuses what Prometheus would: labels that mean something to it, and ages that do
// not go by.
func (m *Mapping) check() error {
	if m.mapper.Defaults.SummaryOptions.MaxAge < 0 {
		return errors.New("defaults: max_age is negative, expected a time such as 10m")
	}
	for i := range m.mapper.Mappings {
		rule := &m.mapper.Mappings[i]
		for label := range rule.Labels {
			if strings.HasPrefix(label, "__") || label == "le" || label == "quantile" {
				return fmt.Errorf("mapping of %q: the label %s is Prometheus' own, expected another name", rule.Match, label)
			}
		}
		if o := rule.SummaryOptions; o != nil && o.MaxAge < 0 {
			return fmt.Errorf("mapping of %q: max_age is negative, expected a time such as 10m", rule.Match)
		}
	}
	return nil
}

// modernise writes what a mapping says in the words of today, and notes what has no effect.
func (m *Mapping) modernise(n *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}
	renameKey(n, "timer_type", "observer_type")
	nestKey(n, "buckets", "histogram_options")
	nestKey(n, "quantiles", "summary_options")
	if v := valueOf(n, "match_metric_type"); v != nil && v.Value == "timer" {
		v.Value = "observer"
	}
	m.unused(n, "ttl")
	if options := valueOf(n, "histogram_options"); options != nil {
		m.unused(options, "native_histogram_bucket_factor")
		m.unused(options, "native_histogram_max_buckets")
	}
}

func (m *Mapping) unused(n *yaml.Node, key string) {
	if i := indexOf(n, key); i >= 0 {
		m.Unused = append(m.Unused, fmt.Sprintf("line %d: %s", n.Content[i].Line, key))
	}
}

// indexOf returns where in n.Content a key is, or -1.
func indexOf(n *yaml.Node, key string) int {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return i
			}
		}
	}
	return -1
}

// valueOf returns the value of a key, or nil.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	if i := indexOf(n, key); i >= 0 {
		return n.Content[i+1]
	}
	return nil
}

// renameKey gives a key its new name, unless that is there: the new one wins.
func renameKey(n *yaml.Node, old, name string) {
	i := indexOf(n, old)
	switch {
	case i < 0:
	case indexOf(n, name) >= 0:
		n.Content = append(n.Content[:i:i], n.Content[i+2:]...)
	default:
		n.Content[i].Value = name
	}
}

// nestKey moves a key and its value into a mapping, unless that is there already.
func nestKey(n *yaml.Node, key, parent string) {
	i := indexOf(n, key)
	if i < 0 {
		return
	}
	pair := []*yaml.Node{n.Content[i], n.Content[i+1]}
	n.Content = append(n.Content[:i:i], n.Content[i+2:]...)
	if indexOf(n, parent) < 0 {
		n.Content = append(n.Content,
			&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: parent},
			&yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: pair})
	}
}
