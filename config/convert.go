package config

import (
	"bytes"
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/weir-project/weir/limiter"
	configv1 "github.com/weir-project/weir/proto/weir/config/v1"
)

// Format is a kind of file that [Convert] reads.
type Format string

// The formats.
const (
	// AnyFormat leaves it to the files, which tell it by their first level.
	AnyFormat Format = ""
	// FromRatelimit are the files of envoyproxy/ratelimit.
	FromRatelimit Format = "ratelimit"
	// FromLimitador are the limits files of Limitador.
	FromLimitador Format = "limitador"
)

// Converted is what [Convert] made of files.
type Converted struct {
	// Text is one of weir's own files, with where each rule comes from as comments.
	Text []byte
	// Notes say what Text does not keep of the files, or keeps in another way, in the
	// order of files and lines.
	Notes []Problem
	// More counts the notes beyond MaxNotes that were left out.
	More int
	// Format is what the files were.
	Format Format
	// Rules and Files count what was written and what was read.
	Rules, Files int
}

// MaxNotes bounds the notes of a [Converted].
const MaxNotes = 1000

// Convert reads files of another service, and of directories every *.yaml and *.yml, as
// [Load] does, and writes what they limit as rules of weir's own. What it could not keep it
// notes. All files are of one format. The error is an [*Error] if the files are not valid,
// or if nothing of them can be kept. Convert may be called from any goroutine.
func Convert(paths []string, from Format) (*Converted, error) {
	r := &report{}
	s := Options{}.gather(paths, r)
	if s.partial {
		return nil, r.err()
	}
	return convert(s.files, from, r)
}

func convert(files []source, from Format, r *report) (*Converted, error) {
	c := &converter{report: r, format: from}
	var docs []*document
	for _, f := range files {
		if d := parseTree(f, expectedForeign, r, false); d != nil && c.recognise(d) {
			docs = append(docs, d)
		}
	}
	if c.format == FromLimitador {
		c.limitador(docs)
	} else {
		c.ratelimit(docs)
	}
	if !r.failed() && c.rules == 0 {
		for _, n := range c.notes {
			r.add(n)
		}
		r.file(files[0].path, "nothing to convert, expected at least one limit that weir can keep")
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	out := &Converted{Text: c.text(), Notes: c.notes, More: c.more, Format: c.format, Rules: c.rules, Files: len(files)}
	sortByPlace(out.Notes)
	if err := readsBack(out.Text); err != nil {
		return nil, err
	}
	return out, nil
}

// readsBack makes sure that weir takes what it wrote.
func readsBack(text []byte) error {
	r := &report{}
	b := newBuilder(r)
	if d := parse(source{path: "(what was written)", data: text}, r, false); d != nil {
		readNative(d, r).translate(b)
	}
	err := r.err()
	if err == nil {
		_, err = limiter.Compile(b.spec(), nil)
	}
	if err != nil {
		// It is not wrapped: an *Error is about the files that were given.
		return errors.New("config: what was converted is not valid, which is a bug: " + err.Error())
	}
	return nil
}

// What a file to convert may hold.
const (
	expectedForeign   = "domain and descriptors, as in a file of envoyproxy/ratelimit, or a list of limits, as in one of Limitador"
	expectedRatelimit = "domain and descriptors, as in a file of envoyproxy/ratelimit"
	expectedLimitador = "a list of limits, as in a file of Limitador"
)

// converter puts a file together.
type converter struct {
	report *report
	format Format
	first  *document // that told the format
	notes  []Problem
	more   int
	rules  int
	out    bytes.Buffer // the rules
}

// recognise says whether d is of the format that is converted, and reports it if not.
func (c *converter) recognise(d *document) bool {
	format, said := c.formatOf(d), c.format != AnyFormat
	switch {
	case format != AnyFormat && (format == c.format || !said):
		c.format = format
		if c.first == nil {
			c.first = d
		}
		return true
	case format != AnyFormat && c.first != nil:
		c.report.at(d, d.root, "a file of another format than %s, expected files of one format", c.first.path)
	case d.root.Kind == yaml.MappingNode && !said:
		c.report.at(d, d.root, "the file has neither domain nor descriptors, expected %s", expectedForeign)
	default:
		expected := map[Format]string{AnyFormat: expectedForeign, FromRatelimit: expectedRatelimit, FromLimitador: expectedLimitador}
		c.report.at(d, d.root, "the file is %s, expected %s", kindOf(d.root), expected[c.format])
	}
	return false
}

// formatOf returns the format that the first level of d tells, or AnyFormat.
func (c *converter) formatOf(d *document) Format {
	switch {
	case d.root.Kind == yaml.SequenceNode:
		return FromLimitador
	case d.root.Kind == yaml.MappingNode && (isRatelimit(d) || c.format == FromRatelimit):
		return FromRatelimit
	}
	return AnyFormat
}

// note says what is not kept of a node, or in another way.
func (c *converter) note(at place, format string, args ...any) {
	if len(c.notes) == MaxNotes {
		c.more++
		return
	}
	one := &report{}
	one.at(at.doc, at.node, format, args...)
	c.notes = append(c.notes, one.problems...)
}

// noteLLM notes that descriptors of a domain mean something else to weir.
func (c *converter) noteLLM(at place, domain string) {
	v := DefaultVocabulary()
	if v.IsLLM(domain) {
		c.note(at, "weir takes descriptors of the domain %s for LLM calls, whose keys have meanings of their own; "+
			"give the domain another name, here and in the proxy, or name others under llm.domains", quoteShort(domain))
	}
}

// full says whether there is room for no more rules, which it reports.
func (c *converter) full(at place) bool {
	switch {
	case c.report.failed():
		return true
	case c.rules == MaxRules:
		c.report.at(at.doc, at.node, "too many rules to convert, expected at most %d", MaxRules)
		return true
	case c.out.Len() > MaxFileBytes-4096: // the head, and a little more
		c.report.at(at.doc, at.node, "too much to convert into one file of at most %d bytes; convert fewer files at a time", MaxFileBytes)
		return true
	}
	return false
}

// rule appends a rule that comes from some places.
func (c *converter) rule(r *configv1.Rule, from []place) {
	if c.full(from[0]) {
		return
	}
	c.rules++
	item := mappingOf(r.ProtoReflect())
	for _, key := range []string{"match", "limits"} {
		if n := child(item, key); n != nil {
			n.Style = yaml.FlowStyle
		}
	}
	text, err := yaml.Marshal(&yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{item}})
	if err != nil {
		c.report.at(from[0].doc, from[0].node, "cannot be written: %s", err)
		return
	}
	for i, p := range from[:min(len(from), maxPlaces)] {
		if i == 0 {
			c.out.WriteString("#")
		}
		fmt.Fprintf(&c.out, " %s:%d", inLine(p.doc.path), p.node.Line)
	}
	c.out.WriteString("\n")
	c.out.Write(text)
}

// text is the whole file.
func (c *converter) text() []byte {
	name := map[Format]string{FromRatelimit: "envoyproxy/ratelimit", FromLimitador: "Limitador"}[c.format]
	var b bytes.Buffer
	fmt.Fprintf(&b, "# yaml-language-server: $schema=weir.schema.json\n#\n"+
		"# Rules that `weir convert` made of files of %s; above each is where it comes from.\nrules:\n", name)
	b.Write(c.out.Bytes())
	return b.Bytes()
}

// maxPlaces is how many places are written above a rule; one that has more is found without.
const maxPlaces = 8

// The bounds of weir's own files on texts, in bytes.
const (
	maxWord  = 256 // of a domain, a key and a value
	maxShown = 128 // of a name
)
