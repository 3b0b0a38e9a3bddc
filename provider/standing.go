package provider

import (
	"strings"
	"time"

	"github.com/weir-project/weir/limiter"
)

// The headers RateLimit and RateLimit-Policy as draft-ietf-httpapi-ratelimit-headers
// describes them: lists of named items with parameters, such as
//
//	RateLimit-Policy: "burst";q=100;w=60,"daily";q=1000;w=86400
//	RateLimit: "burst";r=50;t=30

// maxItems is how many items of such a list are read.
const maxItems = 8

// item is one of a list: a policy, or how a limit stands.
type item struct {
	name                           string
	unit                           string // qu: what is counted; requests if empty
	quota, window, remaining, wait uint64 // q, w, r, t
	hasQuota, hasWindow            bool
	hasRemaining, hasWait          bool
}

// standing reads the two headers. What is about a minute or less is how the requests
// stand; a longer window is not mixed into it. Whatever is used up says when there is
// more of it.
func (h *headers) standing(states *meterStates, r *Reading) {
	if h.policing == "" && h.policies == "" {
		return
	}
	var policies, stands [maxItems]item
	np, oddP := items(h.policies, &policies)
	ns, oddS := items(h.policing, &stands)
	if oddP || oddS {
		r.Odd |= OddHeader
	}
	for i := range np {
		if p := &policies[i]; p.hasQuota && p.hasWindow && p.window > 0 && p.perMinute() {
			s := &states[limiter.Requests]
			if n := p.quota * 60 / p.window; n > 0 && (!s.hasLimit || n < s.limit) {
				s.limit, s.hasLimit = min(n, limiter.MaxAmount), true
			}
		} else {
			r.Aside++
		}
	}
	for i := range ns {
		s := &stands[i]
		if s.hasRemaining && s.remaining == 0 && s.hasWait {
			d := time.Duration(min(float64(s.wait)*float64(time.Second), float64(MaxRetryAfter)))
			h.opening = max(h.opening, d)
		}
		p := find(policies[:np], s.name)
		if p == nil || !p.perMinute() || p.window != 60 || !s.hasRemaining {
			r.Aside++
			continue
		}
		if m := &states[limiter.Requests]; !m.hasRemaining || s.remaining < m.remaining {
			m.remaining, m.hasRemaining = min(s.remaining, limiter.MaxAmount), true
		}
	}
}

// perMinute says whether a policy is about requests in a minute or less.
func (i *item) perMinute() bool {
	return i.window <= 60 && (i.unit == "" || equalFold(i.unit, "requests"))
}

func find(policies []item, name string) *item {
	for i := range policies {
		if policies[i].name == name {
			return &policies[i]
		}
	}
	return nil
}

// items reads a list, and returns how many items it has. odd says that some of it is
// not of that form.
func items(list string, into *[maxItems]item) (n int, odd bool) {
	for len(list) > 0 {
		if n == maxItems {
			return n, true
		}
		one, rest := cutQuoted(list, ',')
		list = rest
		if trimmed(one) == "" {
			continue
		}
		if into[n].parse(one) {
			n++
		} else {
			into[n] = item{}
			odd = true
		}
	}
	return n, odd
}

// parse reads one item.
func (i *item) parse(text string) bool {
	name, rest := cutQuoted(text, ';')
	i.name = strings.Trim(trimmed(name), `"`)
	if i.name == "" || len(i.name) > maxWord {
		return false
	}
	for rest != "" {
		var param string
		param, rest = cutQuoted(rest, ';')
		key, value, _ := strings.Cut(trimmed(param), "=")
		var to *uint64
		var has *bool
		switch key {
		case "q":
			to, has = &i.quota, &i.hasQuota
		case "w":
			to, has = &i.window, &i.hasWindow
		case "r":
			to, has = &i.remaining, &i.hasRemaining
		case "t":
			to, has = &i.wait, &i.hasWait
		case "qu":
			i.unit = strings.Trim(value, `"`)
			continue
		default:
			continue
		}
		n, ok := amount(value)
		if !ok {
			return false
		}
		*to, *has = n, true
	}
	return true
}

// cutQuoted cuts s at the first sep that is not within quotes.
func cutQuoted(s string, sep byte) (before, after string) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
