package provider

import (
	"strings"
	"time"

	"github.com/weir-project/weir/limiter"
)

// lowered returns s with its ASCII letters in lower case.
func lowered(s string) string {
	i := 0
	for i < len(s) && (s[i] < 'A' || s[i] > 'Z') {
		i++
	}
	if i == len(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	b.WriteString(s[:i])
	for ; i < len(s); i++ {
		b.WriteByte(lower(s[i]))
	}
	return b.String()
}

// equalFold says whether s is word, which is in lower case, in any case of ASCII
// letters.
func equalFold(s, word string) bool {
	if len(s) != len(word) {
		return false
	}
	for i := range len(s) {
		if lower(s[i]) != word[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func digits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}

// trimmed returns s without blanks around it.
func trimmed(s string) string {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// leadingNumber reads the digits that s begins with. What is more than can be meant
// comes out as more than limiter.MaxAmount.
func leadingNumber(s string) (n uint64, rest string) {
	i := 0
	for ; i < len(s) && isDigit(s[i]); i++ {
		n = min(n*10+uint64(s[i]-'0'), limiter.MaxAmount+1)
	}
	return n, s[i:]
}

// decimal reads a number that may have a fraction, and no sign and no exponent.
func decimal(s string) (float64, bool) {
	f, rest := leadingDecimal(s)
	return f, f >= 0 && rest == ""
}

// leadingDecimal reads the number that s begins with; -1 if it does not begin with one.
// A point that no digit follows ends it.
func leadingDecimal(s string) (f float64, rest string) {
	if s == "" || !isDigit(s[0]) && (s[0] != '.' || len(s) < 2 || !isDigit(s[1])) {
		return -1, s
	}
	i := 0
	for ; i < len(s) && isDigit(s[i]); i++ {
		f = f*10 + float64(s[i]-'0')
	}
	if i+1 < len(s) && s[i] == '.' && isDigit(s[i+1]) {
		scale := 1.0
		for i++; i < len(s) && isDigit(s[i]); i++ {
			if scale < 1e12 { // finer than anybody means
				f = f*10 + float64(s[i]-'0')
				scale *= 10
			}
		}
		f /= scale
	}
	return f, s[i:]
}

// maxTries is how often a text is looked for, where what should follow it does not.
const maxTries = 8

// numberAfter returns the number after the first place of word in text that a number
// follows, with thousands apart by commas or not; 0 if there is none that can be meant.
func numberAfter(text, word string) uint64 {
	for range maxTries {
		i := strings.Index(text, word)
		if i < 0 || word == "" {
			return 0
		}
		text = text[i+len(word):]
		n, rest := leadingNumber(text)
		if rest == text {
			continue
		}
		for len(rest) > 3 && rest[0] == ',' && digits(rest[1:4]) {
			var more uint64
			more, _ = leadingNumber(rest[1:4])
			n = min(n*1000+more, limiter.MaxAmount+1)
			rest = rest[4:]
		}
		if n > limiter.MaxAmount {
			return 0
		}
		return n
	}
	return 0
}

// spanAfter returns the duration, in nanoseconds, after the first place of word in text
// that one follows; 0 if there is none.
func spanAfter(text, word string) float64 {
	for range maxTries {
		i := strings.Index(text, word)
		if i < 0 || word == "" {
			return 0
		}
		text = text[i+len(word):]
		at := text
		for skip := 0; skip < 8 && at != "" && strings.IndexByte("\\\"': =", at[0]) >= 0; skip++ {
			at = at[1:]
		}
		if ns, _ := span(at); ns > 0 {
			return ns
		}
	}
	return 0
}

// unitsTable are the units of durations in texts, with longer names before what they
// begin with.
var unitsTable = [...]struct {
	name string
	unit time.Duration
}{
	{"milliseconds", time.Millisecond},
	{"millisecond", time.Millisecond},
	{"minutes", time.Minute},
	{"minute", time.Minute},
	{"seconds", time.Second},
	{"second", time.Second},
	{"hours", time.Hour},
	{"hour", time.Hour},
	{"days", 24 * time.Hour},
	{"day", 24 * time.Hour},
	{"mins", time.Minute},
	{"min", time.Minute},
	{"secs", time.Second},
	{"sec", time.Second},
	{"ms", time.Millisecond},
	{"us", time.Microsecond},
	{"µs", time.Microsecond},
	{"ns", time.Nanosecond},
	{"s", time.Second},
	{"m", time.Minute},
	{"h", time.Hour},
	{"d", 24 * time.Hour},
}

// span reads the duration that s begins with, in nanoseconds: 1.2s, 6m0s, 7h12m0s, 26
// seconds; -1 if it does not begin with one.
func span(s string) (ns float64, rest string) {
	ns = -1
	for rest = s; ; {
		f, after := leadingDecimal(rest)
		if f < 0 {
			return ns, rest
		}
		unit, end := leadingUnit(trimmedLeft(after))
		if unit == 0 {
			return ns, rest
		}
		ns = max(ns, 0) + f*float64(unit)
		rest = end
	}
}

func trimmedLeft(s string) string {
	if s != "" && s[0] == ' ' {
		return s[1:]
	}
	return s
}

// leadingUnit reads the unit that s begins with, if no other letter follows it.
func leadingUnit(s string) (time.Duration, string) {
	for i := range unitsTable {
		u := &unitsTable[i]
		if rest, ok := strings.CutPrefix(s, u.name); ok && (rest == "" || rest[0] < 'a' || rest[0] > 'z') {
			return u.unit, rest
		}
	}
	return 0, s
}

// untilLayoutsTable are how dates stand in texts, in lower case.
var untilLayoutsTable = [...]string{
	"2006-01-02 at 15:04:05 utc", "2006-01-02 at 15:04 utc", "2006-01-02t15:04:05z", "2006-01-02 15:04 utc", "2006-01-02",
}

// dateAfter returns the date after word in text. One without a time is its midnight, in
// UTC.
func dateAfter(text, word string) (time.Time, bool) {
	i := strings.Index(text, word)
	if i < 0 || word == "" {
		return time.Time{}, false
	}
	text = text[i+len(word):]
	for _, layout := range untilLayoutsTable {
		if len(text) < len(layout) {
			continue
		}
		if t, err := time.Parse(layout, text[:len(layout)]); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
