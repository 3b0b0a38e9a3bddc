package limiter

import "strings"

// pattern is a text in which each `*` stands for any number of bytes.
type pattern struct {
	prefix, suffix string
	middle         []string // between the stars, in order
	exact          bool     // no star: prefix is the whole text
}

func compilePattern(text string) pattern {
	parts := strings.Split(text, "*")
	if len(parts) == 1 {
		return pattern{prefix: text, exact: true}
	}
	p := pattern{prefix: parts[0], suffix: parts[len(parts)-1]}
	for _, m := range parts[1 : len(parts)-1] {
		if m != "" {
			p.middle = append(p.middle, m)
		}
	}
	return p
}

// matches reports whether s is what the pattern describes. Taking each middle part
// at its first place is enough, since what follows it is only a suffix.
func (p *pattern) matches(s string) bool {
	if p.exact {
		return s == p.prefix
	}
	if len(s) < len(p.prefix)+len(p.suffix) || !strings.HasPrefix(s, p.prefix) || !strings.HasSuffix(s, p.suffix) {
		return false
	}
	s = s[len(p.prefix) : len(s)-len(p.suffix)]
	for _, m := range p.middle {
		i := strings.Index(s, m)
		if i < 0 {
			return false
		}
		s = s[i+len(m):]
	}
	return true
}

// matchesEntry reports whether the key of e, an underscore and its value are together
// what the pattern describes.
func (p *pattern) matchesEntry(e *Entry) bool {
	t := entryText{e.Key, e.Value}
	n := t.len()
	if n < len(p.prefix)+len(p.suffix) || !t.has(0, p.prefix) || !t.has(n-len(p.suffix), p.suffix) {
		return false
	}
	at, end := len(p.prefix), n-len(p.suffix)
	for _, m := range p.middle {
		for at+len(m) <= end && !t.has(at, m) {
			at++
		}
		if at += len(m); at > end {
			return false
		}
	}
	return !p.exact || n == len(p.prefix)
}

// entryText is a key, an underscore and a value as one text, which nobody puts together.
type entryText struct{ key, value string }

func (t *entryText) len() int { return len(t.key) + 1 + len(t.value) }

// has reports whether part is at place i, where there is room for it.
func (t *entryText) has(i int, part string) bool {
	if n := len(t.key); i+len(part) <= n {
		return t.key[i:i+len(part)] == part
	} else if i > n {
		return t.value[i-n-1:i-n-1+len(part)] == part
	} else if part == "" {
		return true
	} else {
		return part[:n-i] == t.key[i:] && part[n-i] == '_' && t.value[:i+len(part)-n-1] == part[n-i+1:]
	}
}

// any reports whether the pattern matches everything.
func (p *pattern) any() bool {
	return !p.exact && p.prefix == "" && p.suffix == "" && len(p.middle) == 0
}
