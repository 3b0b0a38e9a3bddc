package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// refEnv is what the environment says in the variables of envoyproxy/ratelimit. An empty
// variable is as good as none.
type refEnv struct {
	known  map[string]*refVariable
	values map[string]string // those that are set, by name
	// mogrify are those whose names are made of what USE_DOG_STATSD_MOGRIFIERS says.
	mogrify map[string]string
	// strange are the variables that nobody knows, and the known one most like each.
	strange []stranger
	// problems say what is wrong with values, one line each, in the order of names.
	problems []string
}

// readRefEnv reads the variables and checks each by itself.
func readRefEnv(environ []string) *refEnv {
	e := &refEnv{known: make(map[string]*refVariable), values: make(map[string]string), mogrify: make(map[string]string)}
	for _, g := range refVariables {
		for i := range g.variables {
			e.known[g.variables[i].name] = &g.variables[i]
		}
	}
	families := e.families()
	others := map[string]string{}
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		switch {
		case value == "":
		case e.known[name] != nil:
			e.values[name] = value
		case strings.HasPrefix(name, mogrifierPrefix):
			e.mogrify[name] = value
		case families[family(name)]:
			others[name] = value
		}
	}
	names := slices.Sorted(maps.Keys(e.known))
	for _, name := range slices.Sorted(maps.Keys(others)) {
		if near := nearest(name, names); near != "" {
			e.strange = append(e.strange, stranger{name, near})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.values)) {
		if v := e.known[name]; v.by == readHere {
			if expected := v.wrong(e.values[name]); expected != "" {
				e.wrong(name, expected)
			}
		}
	}
	return e
}

// families are the first words of the names that have several.
func (e *refEnv) families() map[string]bool {
	all := make(map[string]bool)
	for name := range e.known {
		if f := family(name); f != "" {
			all[f] = true
		}
	}
	return all
}

func family(name string) string {
	first, _, several := strings.Cut(name, "_")
	if !several {
		return ""
	}
	return first
}

// wrong notes that the value of a variable is not what was expected.
func (e *refEnv) wrong(name, expected string) {
	e.problems = append(e.problems, fmt.Sprintf("%s=%q: expected %s", name, e.values[name], expected))
}

// wrong returns what was expected where a text is not that; else nothing.
func (v *refVariable) wrong(text string) (expected string) {
	switch v.is {
	case asText:
	case asTruth:
		if _, err := strconv.ParseBool(text); err != nil {
			return "true or false"
		}
	case asNumber:
		if n, err := strconv.ParseInt(text, 0, 64); err != nil || n < 0 {
			return "a whole number, 0 or more"
		}
	case asPort:
		if _, err := strconv.ParseUint(text, 0, 16); err != nil {
			return "a port, from 0 to 65535"
		}
	case asDuration:
		if d, err := time.ParseDuration(text); err != nil || d < 0 {
			return "a duration of 0s or more, such as 500ms, 10s or 24h"
		}
	case asFraction:
		if f, err := strconv.ParseFloat(text, 64); err != nil || !(f >= 0 && f <= 1) {
			return "a number from 0 to 1"
		}
	case asWord:
		if !slices.ContainsFunc(v.words, func(w string) bool { return strings.EqualFold(w, text) }) {
			return "one of " + strings.Join(v.words, ", ") + didYouMean(text, v.words)
		}
	}
	return ""
}

// isSet says whether any of the variables is set.
func (e *refEnv) isSet(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return e.values[name] != "" })
}

// text returns the value of a variable, or its default.
func (e *refEnv) text(name string) string {
	v := e.known[name]
	if v == nil {
		panic("no variable is called " + name)
	}
	if value := e.values[name]; value != "" {
		return value
	}
	return v.def
}

// truth returns the value of a variable that is true or false; false if it is neither,
// which has been noted as a problem.
func (e *refEnv) truth(name string) bool {
	b, err := strconv.ParseBool(e.text(name))
	return err == nil && b
}

// duration returns the value of a variable that is a duration; 0 if it is none, which
// has been noted as a problem.
func (e *refEnv) duration(name string) time.Duration {
	d, err := time.ParseDuration(e.text(name))
	if err != nil {
		return 0
	}
	return d
}

// fraction returns the value of a variable that is a number from 0 to 1; 0 if it is none,
// which has been noted as a problem.
func (e *refEnv) fraction(name string) float64 {
	f, err := strconv.ParseFloat(e.text(name), 64)
	if err != nil {
		return 0
	}
	return f
}

// port returns the value of a variable that is a port, without the spellings that only
// Go's numbers have.
func (e *refEnv) port(name string) string {
	n, err := strconv.ParseUint(e.text(name), 0, 16)
	if err != nil {
		return e.text(name)
	}
	return strconv.FormatUint(n, 10)
}

// environmentError says everything that is wrong with the environment.
type environmentError struct{ problems []string }

func (e *environmentError) Error() string { return strings.Join(e.problems, "\n") }

// err returns the problems, if there are any.
func (e *refEnv) err() error {
	if len(e.problems) == 0 {
		return nil
	}
	return &environmentError{problems: e.problems}
}
