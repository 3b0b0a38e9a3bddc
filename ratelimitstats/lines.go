package ratelimitstats

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// lines writes metrics in the words of statsd: `name:value|type`, a line each.
type lines struct {
	inName     string // the tags, as a part of each name
	tags       string // the tags, after each value; for agents that understand them
	dog        bool
	mogrifiers []*Mogrifier
}

// plainLines are for servers that know no tags.
func plainLines(tags []Tag) *lines {
	l := new(lines)
	for _, t := range tags {
		l.inName += ".__" + t.Key + "=" + t.Value
	}
	return l
}

// dogLines are for agents that know them.
func dogLines(tags []Tag, mogrifiers []*Mogrifier) *lines {
	l := &lines{dog: true, mogrifiers: mogrifiers}
	for _, t := range tags {
		l.tags = joinTag(l.tags, t.Key, t.Value)
	}
	return l
}

func joinTag(tags, key, value string) string {
	if tags != "" {
		tags += ","
	}
	return tags + key + ":" + value
}

// name appends the name of a metric, and returns the tags that follow its value.
func (l *lines) name(b []byte, base, name string) ([]byte, string) {
	from := len(b)
	b = append(append(append(b, base...), '.'), name...)
	if len(l.mogrifiers) > 0 {
		for _, m := range l.mogrifiers {
			if whole, tags, ok := m.apply(string(b[from:]), l.tags); ok {
				return append(b[:from], whole...), tags
			}
		}
	}
	return append(b, l.inName...), l.tags
}

// end ends a line after its value and type.
func (l *lines) end(b []byte, tags string) []byte {
	if l.dog && tags != "" {
		b = append(append(b, "|#"...), tags...)
	}
	return append(b, '\n')
}

// number appends the line of a counter (kind c) or of a gauge (g).
func (l *lines) number(b []byte, base, name string, n uint64, kind string) []byte {
	b, tags := l.name(b, base, name)
	b = strconv.AppendUint(append(b, ':'), n, 10)
	return l.end(append(append(b, '|'), kind...), tags)
}

// reading appends the line of a counter, or the lines of a slot of the timings. A time
// that n calls took is said in as many lines as the digits of n add up to: one for each
// 1, and one with the rate 0.1, 0.01 and so on for each 10, 100 and so on. So servers
// that multiply up get exactly n.
func (l *lines) reading(b []byte, r reading) []byte {
	if r.series != nil {
		return l.number(b, r.series.base, r.series.names[r.at], r.n, "c")
	}
	for power := 1.0; r.n > 0; power, r.n = power*10, r.n/10 {
		for range r.n % 10 {
			var tags string
			b, tags = l.name(b, serverRoot, responseTime)
			b = append(appendMillis(append(b, ':'), r.at), "|ms"...)
			if power > 1 {
				b = strconv.AppendFloat(append(b, "|@"...), rateOf(power), 'f', -1, 64)
			}
			b = l.end(b, tags)
		}
	}
	return b
}

// rateOf returns the rate that stands for times calls. Servers divide one by it, and may
// cut what is behind the point.
func rateOf(times float64) float64 {
	rate := 1 / times
	if 1/rate < times {
		rate = math.Nextafter(rate, 0)
	}
	return rate
}

// Mogrifier makes another name, and tags, of names that match a pattern.
type Mogrifier struct {
	pattern *regexp.Regexp
	name    string
	tags    []Tag
}

// group is where a part of what the pattern matched goes.
var group = regexp.MustCompile(`\$\d+`)

// NewMogrifier returns a mogrifier. In name, and in the values of tags, $1 stands for
// what the first group of pattern matched, $2 for the second, and $0 for all. The error
// says which of the three is wrong, and what was expected.
func NewMogrifier(pattern, name string, tags map[string]string) (*Mogrifier, error) {
	if pattern == "" {
		return nil, errors.New("the pattern is empty, expected a regular expression")
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("the pattern %q is no regular expression: %w", pattern, err)
	}
	if name == "" {
		return nil, errors.New("the name is empty, expected the name for what the pattern matches")
	}
	m := &Mogrifier{pattern: re, name: name, tags: sortTags(tags)}
	for key, value := range tags {
		if key == "" || value == "" {
			return nil, fmt.Errorf("the tag %q has the value %q, expected a key and a value", key, value)
		}
	}
	for i := range m.tags {
		m.tags[i].Value = tags[m.tags[i].Key] // as it is: it is filled in, and cleaned then
	}
	for _, text := range append([]string{name}, tagValues(m.tags)...) {
		for _, ref := range group.FindAllString(text, -1) {
			if n, err := strconv.Atoi(ref[1:]); err != nil || n > re.NumSubexp() {
				return nil, fmt.Errorf("%q refers to %s, expected at most $%d: the pattern has no more groups", text, ref, re.NumSubexp())
			}
		}
	}
	return m, nil
}

func tagValues(tags []Tag) []string {
	var values []string
	for _, t := range tags {
		values = append(values, t.Value)
	}
	return values
}

// apply returns the other name and all tags, if the pattern matches.
func (m *Mogrifier) apply(name, tags string) (string, string, bool) {
	matched := m.pattern.FindStringSubmatch(name)
	if matched == nil {
		return "", "", false
	}
	fill := func(text string) string {
		return group.ReplaceAllStringFunc(text, func(ref string) string {
			n, _ := strconv.Atoi(ref[1:])
			return matched[n]
		})
	}
	for _, t := range m.tags {
		tags = joinTag(tags, t.Key, cleanTag(fill(t.Value)))
	}
	return cleanName(fill(m.name)), tags, true
}

var (
	tagCleaner  = strings.NewReplacer(",", "_", "|", "_", "\n", "_")
	nameCleaner = strings.NewReplacer(":", "_", "|", "_", "\n", "_")
)

func cleanTag(s string) string  { return tagCleaner.Replace(s) }
func cleanName(s string) string { return nameCleaner.Replace(s) }
