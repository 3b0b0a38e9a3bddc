package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// A condition of Limitador is an expression, of which weir's rules can say one kind:
// that entries of the descriptor have certain values. Today's spelling is
// descriptors[0].key == 'value', or descriptors[0]['key']; before version 2 it was
// key == 'value', and before version 1 also key == value.

// equality says that an entry has a value.
type equality struct {
	key, value string
	// bare says that the value was written without quotes.
	bare bool
}

// errNoText is a condition that ends within a text.
var errNoText = errors.New("a text that does not end, expected a closing quote")

// inexpressible is what a rule cannot say. Its text completes "left out: ".
type inexpressible string

func (e inexpressible) Error() string { return string(e) }

const onlyEqualities = inexpressible("rules only say that entries have certain values, as in descriptors[0].key == 'value'")

// token is a word of an expression.
type token struct {
	kind byte // i: a name, s: a text, n: a number, else the operator's first character
	text string
}

var (
	nameToken   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*`)
	numberToken = regexp.MustCompile(`^[0-9]+`)
	operators   = []string{"==", "!=", "&&", "[", "]", "."}
)

// tokensOf splits an expression; its error is errNoText or an inexpressible.
func tokensOf(s string) ([]token, error) {
	var tokens []token
	for s = strings.TrimLeft(s, " \t\r\n"); s != ""; s = strings.TrimLeft(s, " \t\r\n") {
		t, size := token{}, 0
		switch c := s[0]; {
		case c == '\'' || c == '"':
			end := strings.IndexByte(s[1:], c)
			if end < 0 {
				return nil, errNoText
			}
			t, size = token{'s', s[1 : 1+end]}, end+2
			if strings.Contains(t.text, `\`) || size == 2 && len(s) > 2 && s[2] == c {
				return nil, inexpressible("a text with escapes is not read")
			}
		case nameToken.MatchString(s):
			t = token{'i', nameToken.FindString(s)}
			size = len(t.text)
		case numberToken.MatchString(s):
			t = token{'n', numberToken.FindString(s)}
			size = len(t.text)
		default:
			for _, op := range operators {
				if strings.HasPrefix(s, op) {
					t, size = token{op[0], op}, len(op)
					break
				}
			}
			if size == 0 {
				return nil, onlyEqualities
			}
		}
		tokens, s = append(tokens, t), s[size:]
	}
	return tokens, nil
}

// equalitiesOf reads a condition: one equality, or several joined with &&.
func equalitiesOf(condition string) ([]equality, error) {
	tokens, err := tokensOf(condition)
	if err != nil {
		return nil, err
	}
	var all []equality
	for len(tokens) > 0 {
		part := tokens
		for i, t := range tokens {
			if t.kind == '&' {
				part = tokens[:i]
				break
			}
		}
		e, err := equalityOf(part)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
		if len(part) == len(tokens) {
			return all, nil
		}
		tokens = tokens[len(part)+1:]
	}
	return nil, onlyEqualities // it is empty, or ends in &&
}

func equalityOf(tokens []token) (equality, error) {
	for i, t := range tokens {
		switch {
		case t.kind == '!':
			return equality{}, inexpressible("rules say which value an entry has, and not which it has not")
		case t.kind != '=':
			continue
		}
		left, right := tokens[:i], tokens[i+1:]
		if len(left) == 1 && left[0].kind == 's' {
			left, right = right, left
		}
		key, dotted, err := referenceOf(left)
		switch {
		case err != nil:
			return equality{}, err
		case len(right) == 1 && right[0].kind == 's':
			return equality{key: key, value: right[0].text}, nil
		case dotted && len(right) == 1 && right[0].kind != '.':
			return equality{key: key, value: right[0].text, bare: true}, nil
		}
		return equality{}, onlyEqualities
	}
	return equality{}, onlyEqualities
}

// variableOf reads a variable: the key of the entry whose values are counted apart.
func variableOf(variable string) (string, error) {
	tokens, err := tokensOf(variable)
	if err != nil {
		return "", err
	}
	key, _, err := referenceOf(tokens)
	if errors.Is(err, onlyEqualities) {
		err = inexpressible("rules only tell values of entries apart, as in descriptors[0].key")
	}
	return key, err
}

// referenceOf reads what names an entry: descriptors[0].key, descriptors[0]['key'], or
// the older names with dots.
func referenceOf(t []token) (key string, dotted bool, err error) {
	shape := make([]byte, len(t))
	for i := range t {
		shape[i] = t[i].kind
	}
	indexed := len(t) >= 4 && t[0].text == "descriptors" && strings.HasPrefix(string(shape), "i[n]")
	switch {
	case indexed && t[2].text != "0":
		return "", false, inexpressible(fmt.Sprintf("weir looks at each descriptor by itself, and not at descriptors[%s]", t[2].text))
	case indexed && string(shape[4:]) == ".i":
		return t[5].text, false, nil
	case indexed && string(shape[4:]) == "[s]":
		return t[5].text, false, nil
	case len(t) == 0 || strings.Trim(string(shape), ".i") != "" || len(t)%2 == 0 || t[0].text == "limit" || t[0].text == "descriptors":
		return "", false, onlyEqualities
	}
	var b strings.Builder
	for i := range t {
		if (shape[i] == '.') != (i%2 == 1) {
			return "", false, onlyEqualities
		}
		b.WriteString(t[i].text)
	}
	return b.String(), true, nil
}
