package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxNesting bounds how deep mappings and lists may be nested: a level of
// descriptors takes two, and there are a few more around them.
const maxNesting = 2*MaxDepth + 6

// document is one YAML file as a tree.
type document struct {
	path  string
	data  []byte
	root  *yaml.Node
	lines []string // made when the first problem is shown
	// lenient says that it is of envoyproxy/ratelimit and read as strictly as there:
	// of keys that are given twice the last one counts, and of documents the first.
	lenient bool
	// from is set where there is no text: nodes then have places of its own.
	from *resource
}

// report collects problems.
type report struct {
	problems []Problem
	more     int
	// beside is set where calls are answered while reading goes on.
	beside *Background
}

func (r *report) failed() bool { return len(r.problems) > 0 }

// full counts one more problem if there is no room for it, and then returns true: to
// describe hundreds of thousands, which a file can hold, would take minutes.
func (r *report) full() bool {
	if len(r.problems) < MaxProblems {
		return false
	}
	r.more++
	return true
}

func (r *report) add(p Problem) {
	if !r.full() {
		r.problems = append(r.problems, p)
	}
}

// file reports a problem of a file as a whole.
func (r *report) file(path, format string, args ...any) {
	r.add(Problem{File: path, Text: inLine(fmt.Sprintf(format, args...))})
}

// at reports a problem at a node.
func (r *report) at(d *document, n *yaml.Node, format string, args ...any) {
	r.place(d, n.Line, n.Column, format, args...)
}

// place reports a problem at a line and a column.
func (r *report) place(d *document, line, column int, format string, args ...any) {
	if r.full() {
		return
	}
	p := Problem{File: d.path, Line: line, Column: column, Text: inLine(fmt.Sprintf(format, args...))}
	if d.from != nil {
		p.Line, p.Column, p.Field = 0, 0, d.from.field(line, column)
		r.add(p)
		return
	}
	if d.lines == nil {
		d.lines = strings.Split(string(d.data), "\n")
	}
	if line >= 1 && line <= len(d.lines) {
		p.Source, p.mark = excerpt(strings.TrimSuffix(d.lines[line-1], "\r"), column)
	}
	r.add(p)
}

// inLine makes a text, which may quote what a file holds, fit for one line.
func inLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// err returns what was collected as an error, or nil. Problems are sorted by line
// within each file; files stay in the order in which they were read.
func (r *report) err() error {
	if !r.failed() {
		return nil
	}
	sortByPlace(r.problems)
	return &Error{Problems: r.problems, More: r.more}
}

// sortByPlace sorts problems by line within each file; files stay in their order.
func sortByPlace(problems []Problem) {
	order := map[string]int{}
	for _, p := range problems {
		if _, ok := order[p.File]; !ok {
			order[p.File] = len(order)
		}
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		switch {
		case a.File != b.File:
			return order[a.File] - order[b.File]
		case a.Line != b.Line:
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
}

// parse makes a document of a file of weir's own or of envoyproxy/ratelimit; nil if that
// is not possible, which is reported. What strict says is for the latter.
func parse(f source, r *report, strict bool) *document {
	d := parseTree(f, expectedRoot, r, strict)
	if d != nil && d.root.Kind != yaml.MappingNode {
		r.at(d, d.root, "the file is %s, expected %s", kindOf(d.root), expectedRoot)
		return nil
	}
	return d
}

// parseTree is parse for a file whose root may be of any kind. expected is what the file
// should hold.
func parseTree(f source, expected string, r *report, strict bool) *document {
	d := &document{path: f.path, data: bytes.TrimPrefix(f.data, []byte("\xef\xbb\xbf"))}
	if !checkText(d, r) {
		return nil
	}
	dec := yaml.NewDecoder(resting{bytes.NewReader(d.data), r.beside})
	var root yaml.Node
	switch err := nextDocument(dec, &root); {
	case errors.Is(err, io.EOF):
		r.file(d.path, "empty, expected %s", expected)
		return nil
	case err != nil:
		reportSyntax(d, err, r, strict)
		return nil
	}
	d.root = root.Content[0]
	d.lenient = strict && isRatelimit(d)
	var second yaml.Node
	switch err := nextDocument(dec, &second); {
	case d.lenient:
	case errors.Is(err, io.EOF):
	case err != nil:
		reportSyntax(d, err, r, strict)
		return nil
	default:
		r.at(d, &second, "a second document, expected one in each file")
		return nil
	}
	if d.root.Kind == yaml.ScalarNode && d.root.Tag == "!!null" {
		r.file(d.path, "empty, expected %s", expected)
		return nil
	}
	if !checkTree(d, r) {
		return nil
	}
	return d
}

// expectedRoot says what a file may hold.
const expectedRoot = "quotas, rules or llm; or domain and descriptors, as in a file of envoyproxy/ratelimit"

// nextDocument reads the next document. The parser is other people's code that works with
// panics inside; one that escapes it must not end the process, which has a valid
// plan to serve.
func nextDocument(dec *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: %v", p)
		}
	}()
	if err := dec.Decode(n); err != nil {
		return err
	}
	if len(n.Content) != 1 {
		return io.EOF
	}
	return nil
}

// checkText reports bytes that a YAML file cannot or should not have. Lines must end
// as everybody sees them end: YAML also knows a few rare line ends, with which the
// positions in errors would be wrong, and text could look like a comment and be none.
func checkText(d *document, r *report) bool {
	line, column := 1, 1
	for i := 0; i < len(d.data); {
		c, size := utf8.DecodeRune(d.data[i:])
		switch {
		case c == utf8.RuneError && size == 1:
			r.place(d, line, column, "byte 0x%02x is not UTF-8, expected a text file in UTF-8", d.data[i])
			return false
		case c == '\n':
			line, column = line+1, 0
		case c == '\r' && i+1 < len(d.data) && d.data[i+1] == '\n', c == '\t':
		case c < ' ', c >= 0x7f && c < 0xa0, c == 0x2028, c == 0x2029, c == 0xfeff, c == 0xfffe, c == 0xffff:
			r.place(d, line, column, "character U+%04X is not allowed, expected printable text; write it as an escape in double quotes", c)
			return false
		}
		i += size
		column++
	}
	return true
}

var (
	yamlLine   = regexp.MustCompile(`^yaml: line (\d+): (.*)$`)
	yamlAnchor = regexp.MustCompile(`^yaml: unknown anchor '(.*)' referenced$`)
)

// reportSyntax reports what the YAML parser said. It gives lines, not columns. strict
// begins with the words of envoyproxy/ratelimit.
func reportSyntax(d *document, err error, r *report, strict bool) {
	text, prefix := strings.ReplaceAll(err.Error(), "\n", " "), ""
	if strict {
		prefix = "error loading config file: "
	}
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		if line, convErr := strconv.Atoi(m[1]); convErr == nil {
			line = min(line, bytes.Count(d.data, []byte("\n"))+1)
			r.place(d, line, indentOf(d, line)+1, "%snot valid YAML, here or below: %s", prefix, m[2])
			return
		}
	}
	if m := yamlAnchor.FindStringSubmatch(text); m != nil {
		if i := bytes.Index(d.data, []byte("*"+m[1])); i >= 0 {
			start := bytes.LastIndexByte(d.data[:i], '\n') + 1
			r.place(d, bytes.Count(d.data[:i], []byte("\n"))+1, utf8.RuneCount(d.data[start:i])+1, "%s", aliasText)
			return
		}
	}
	r.file(d.path, "%snot valid YAML: %s", prefix, strings.TrimPrefix(text, "yaml: "))
}

// indentOf returns the number of blanks at the start of a line.
func indentOf(d *document, line int) int {
	lines := bytes.SplitN(d.data, []byte("\n"), line+1)
	l := lines[line-1]
	return len(l) - len(bytes.TrimLeft(l, " \t"))
}

const aliasText = "an alias (*name) is not supported, expected the text itself; quote a value that begins with *"

// checkTree reports what weir's files may not use of YAML: anchors, aliases, merge
// keys, tags, keys that are not text, keys given twice, and deep nesting.
func checkTree(d *document, r *report) bool {
	before := len(r.problems) + r.more
	checkNode(d, d.root, 0, r)
	return len(r.problems)+r.more == before
}

func checkNode(d *document, n *yaml.Node, depth int, r *report) {
	switch {
	case n.Kind == yaml.AliasNode:
		r.at(d, n, "%s", aliasText)
		return
	case n.Anchor != "":
		r.at(d, n, "an anchor (&%s) is not supported, expected the text itself", n.Anchor)
	case n.Style&yaml.TaggedStyle != 0:
		r.at(d, n, "a tag (%s) is not supported, expected plain YAML", n.Tag)
	}
	if len(n.Content) > 0 && depth == maxNesting {
		r.at(d, n, "nested too deep, expected at most %d levels", maxNesting)
		return
	}
	if n.Kind == yaml.MappingNode {
		r.beside.Rest()
		checkKeys(d, n, r)
	}
	for _, c := range n.Content {
		checkNode(d, c, depth+1, r)
	}
}

// checkKeys checks the keys of a mapping.
func checkKeys(d *document, n *yaml.Node, r *report) {
	if d.lenient {
		lastOfEach(n)
	}
	first := make(map[string]*yaml.Node, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		switch {
		case k.Kind == yaml.AliasNode: // reported as an alias
		case k.Kind != yaml.ScalarNode:
			r.at(d, k, "config error, key is not of type string: %s, expected a word", kindOf(k))
		case k.Tag == "!!merge":
			r.at(d, k, "a merge key (<<) is not supported, expected the fields themselves")
		case first[k.Value] != nil:
			r.at(d, k, "%q is given twice, expected once; it is also on line %d", k.Value, first[k.Value].Line)
		default:
			first[k.Value] = k
		}
	}
}

// lastOfEach keeps of the keys that a mapping has twice the last one.
func lastOfEach(n *yaml.Node) {
	last := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		last[n.Content[i].Value] = i
	}
	if len(last) == len(n.Content)/2 {
		return
	}
	kept := n.Content[:0]
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := n.Content[i]; k.Kind != yaml.ScalarNode || last[k.Value] == i {
			kept = append(kept, k, n.Content[i+1])
		}
	}
	n.Content = kept
}

// kindOf describes a node for an error.
func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	case n.Tag == "!!str":
		return fmt.Sprintf("the text %s", quoteShort(n.Value))
	}
	return shorten(n.Value)
}

// quoteShort quotes s, shortened if it is long.
func quoteShort(s string) string { return strconv.Quote(shorten(s)) }

// shorten cuts s so that an error stays readable.
func shorten(s string) string {
	const limit = 60
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	return string([]rune(s)[:limit]) + "…"
}

// child returns the value of a key of a mapping, or nil.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// item returns an item of a list, or nil.
func item(n *yaml.Node, i int) *yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode || i >= len(n.Content) {
		return nil
	}
	return n.Content[i]
}
