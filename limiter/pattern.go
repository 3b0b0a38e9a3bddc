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

// any reports whether the pattern matches everything.
func (p *pattern) any() bool {
	return !p.exact && p.prefix == "" && p.suffix == "" && len(p.middle) == 0
}
