package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// The data is read strictly: a field that nobody knows, a case without an origin, and a
// step that expects nothing are errors. A misspelt expectation must not pass as none.

// Modes are the two ways in which weir decides.
const (
	compat    = "compat"  // the reference's windows and charging
	byDefault = "default" // sliding windows; what is refused is not charged
)

// Starts are the ways of starting weir.
const (
	asServe     = "serve"     // weir serve DIR
	asRatelimit = "ratelimit" // the binary under the name ratelimit, told by variables
	asVerb      = "verb"      // weir ratelimit, told by variables
)

// suite is one file: a configuration, and what it is asked.
type suite struct {
	About string `yaml:"about"`
	// Files are written to the directory of the configuration, by name.
	Files map[string]string `yaml:"files"`
	Start string            `yaml:"start"`
	Modes []string          `yaml:"modes"`
	Env   map[string]string `yaml:"env"`
	Cases []testCase        `yaml:"cases"`

	name string
}

// testCase is a timeline. The cases of a suite share a weir, so that each speaks of
// values of its own.
type testCase struct {
	Name string `yaml:"name"`
	// Origin says where the expectation comes from: what was recorded or read of the
	// reference, its own tests or manual, or weir's promise.
	Origin string `yaml:"origin"`
	// Rows are the rows of contract.yaml that the case checks.
	Rows  []string `yaml:"rows"`
	Modes []string `yaml:"modes"`
	// Window is the shortest window that must not end during the case.
	Window string `yaml:"window"`
	Steps  []step `yaml:"steps"`
}

// step is one action and what is expected of it.
type step struct {
	Note string `yaml:"note"`

	Ask      map[string]any    `yaml:"ask"`      // a RateLimitRequest over gRPC
	HTTP     *httpCall         `yaml:"http"`     // a call of the HTTP port
	Health   *string           `yaml:"health"`   // a service of grpc.health.v1.Health
	Together *together         `yaml:"together"` // many requests at the same time
	Wait     *wait             `yaml:"wait"`     // move within the window
	Write    map[string]string `yaml:"write"`    // change files of the configuration
	Log      string            `yaml:"log"`      // wait until weir has written this
	Stop     bool              `yaml:"stop"`     // tell weir to stop, which it does when it has drained

	// Times repeats an ask; each has the same answer.
	Times int `yaml:"times"`
	// Eventually repeats an ask or a call until it is answered as expected.
	Eventually bool `yaml:"eventually"`

	expected `yaml:",inline"`
	// By mode, where the two differ.
	Compat  *expected `yaml:"compat"`
	Default *expected `yaml:"default"`
}

// expected is what is expected of a step.
type expected struct {
	// Answer is the whole RateLimitResponse.
	Answer map[string]any `yaml:"answer"`
	// Shows is a part of the RateLimitResponse: what is not named may be anything.
	Shows map[string]any `yaml:"shows"`
	Error *grpcError     `yaml:"error"`
	// Status, Type and Body are of HTTP.
	Status int     `yaml:"status"`
	Type   string  `yaml:"type"`
	Body   *string `yaml:"body"`
	// BodyHas is a part of a body.
	BodyHas string `yaml:"body_has"`
	// Serving is the status of a health service.
	Serving string `yaml:"serving"`
	// Admitted is how many of many are admitted.
	Admitted *int `yaml:"admitted"`
}

// grpcError is a gRPC status other than OK. Text is the whole of it, Has a part.
type grpcError struct {
	Code string `yaml:"code"`
	Text string `yaml:"text"`
	Has  string `yaml:"has"`
}

type httpCall struct {
	Method string `yaml:"method"`
	Path   string `yaml:"path"`
	Body   string `yaml:"body"`
}

// together asks Count times at once, over several connections. Where a request has the
// text $i somewhere, each has its own number there.
type together struct {
	Ask   map[string]any `yaml:"ask"`
	Count int            `yaml:"count"`
}

// wait waits until the clock stands between From and To of a window of Unit; with Next
// of the window after this one.
type wait struct {
	Unit string        `yaml:"unit"`
	From time.Duration `yaml:"from"`
	To   time.Duration `yaml:"to"`
	Next int           `yaml:"next"`
}

// refusal is a configuration, and what is said of it.
type refusal struct {
	Name   string            `yaml:"name"`
	Origin string            `yaml:"origin"`
	Rows   []string          `yaml:"rows"`
	Files  map[string]string `yaml:"files"`
	// Text is how the first problem begins. Empty: the configuration is valid.
	Text string `yaml:"text"`
	// At is its place, file:line. Empty: anywhere.
	At string `yaml:"at"`
	// Compat says that it is so with --compat=ratelimit alone, and Env with which of the
	// reference's variables.
	Compat bool              `yaml:"compat"`
	Env    map[string]string `yaml:"env"`
}

// in returns what is expected in a mode.
func (s *step) in(mode string) expected {
	switch {
	case mode == compat && s.Compat != nil:
		return *s.Compat
	case mode == byDefault && s.Default != nil:
		return *s.Default
	}
	return s.expected
}

// runs says whether the case is for a mode.
func (c *testCase) runs(mode string) bool {
	return len(c.Modes) == 0 || slices.Contains(c.Modes, mode)
}

// decodeStrictly reads one document and refuses what it does not know.
func decodeStrictly(text []byte, into any) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		return err
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return errors.New("there is a second document")
	}
	return nil
}

// parseSuite reads and checks a suite.
func parseSuite(name string, text []byte) (*suite, error) {
	s := &suite{name: name, Start: asServe, Modes: []string{compat, byDefault}}
	if err := decodeStrictly(text, s); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{asServe, asRatelimit, asVerb}, s.Start) {
		return nil, fmt.Errorf("start is %q", s.Start)
	}
	if err := checkModes(s.Modes); err != nil {
		return nil, err
	}
	if s.About == "" || len(s.Cases) == 0 {
		return nil, errors.New("a suite needs about and cases")
	}
	var problems []error
	seen := map[string]bool{}
	for i := range s.Cases {
		c := &s.Cases[i]
		if seen[c.Name] {
			problems = append(problems, fmt.Errorf("case %q: there is another one", c.Name))
		}
		seen[c.Name] = true
		if err := c.check(s.Modes); err != nil {
			problems = append(problems, fmt.Errorf("case %q: %w", c.Name, err))
		}
	}
	return s, errors.Join(problems...)
}

func checkModes(modes []string) error {
	for _, m := range modes {
		if m != compat && m != byDefault {
			return fmt.Errorf("mode %q", m)
		}
	}
	return nil
}

func (c *testCase) check(suiteModes []string) error {
	switch {
	case c.Name == "" || c.Origin == "" || len(c.Rows) == 0 || len(c.Steps) == 0:
		return errors.New("a case needs name, origin, rows and steps")
	case c.Window != "" && windows[c.Window] == 0:
		return fmt.Errorf("window %q", c.Window)
	}
	if err := checkModes(c.Modes); err != nil {
		return err
	}
	ran := 0
	for _, mode := range suiteModes {
		if !c.runs(mode) {
			continue
		}
		ran++
		for i := range c.Steps {
			if err := c.Steps[i].check(mode); err != nil {
				return fmt.Errorf("step %d in mode %s: %w", i+1, mode, err)
			}
		}
	}
	if ran == 0 {
		return errors.New("it runs in no mode of its suite")
	}
	return nil
}

// check checks that the step does one thing and that it can fail.
func (s *step) check(mode string) error {
	e := s.in(mode)
	if s.Times > 0 && s.Ask == nil || s.Eventually && s.Ask == nil && s.HTTP == nil && s.Health == nil {
		return errors.New("nothing to repeat")
	}
	actions, sees := 0, false
	add := func(is, expects bool) {
		if is {
			actions++
			sees = expects
		}
	}
	add(s.Ask != nil, one(e.Answer != nil, e.Shows != nil, e.Error != nil))
	add(s.HTTP != nil, s.HTTP != nil && e.Status != 0 && s.HTTP.Path != "" && s.HTTP.Method != "")
	add(s.Health != nil, e.Serving != "")
	add(s.Together != nil, s.Together != nil && e.Admitted != nil && s.Together.Count > 1)
	add(s.Wait != nil, s.Wait != nil && windows[s.Wait.Unit] > 0 && s.Wait.To > s.Wait.From)
	add(len(s.Write) > 0, true)
	add(s.Log != "", true)
	add(s.Stop, true)
	switch {
	case actions != 1:
		return fmt.Errorf("%d actions, want one", actions)
	case !sees:
		return errors.New("it expects nothing, or not what its action gives")
	case e.Error != nil && (e.Error.Code == "" || e.Error.Text == "" && e.Error.Has == ""):
		return errors.New("an error needs its code and its text")
	case e.Answer != nil && e.Answer["overallCode"] == nil || e.Shows != nil && e.Shows["overallCode"] == nil:
		return errors.New("an answer needs its overallCode")
	}
	if s.Ask != nil {
		if _, err := parseRequest(s.Ask); err != nil {
			return err
		}
	}
	if e.Answer != nil {
		_, _, err := parseAnswer(e.Answer)
		return err
	}
	return checkShown(e.Shows)
}

// one says whether exactly one of them is true.
func one(all ...bool) bool {
	n := 0
	for _, is := range all {
		if is {
			n++
		}
	}
	return n == 1
}

// loadSuites reads all suites.
func loadSuites(t *testing.T) []*suite {
	t.Helper()
	paths, err := filepath.Glob("testdata/suites/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no suites: %v", err)
	}
	var all []*suite
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseSuite(strings.TrimSuffix(filepath.Base(path), ".yaml"), text)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, s)
	}
	return all
}

// loadRefusals reads the configurations that are refused.
func loadRefusals(t *testing.T) []refusal {
	t.Helper()
	text, err := os.ReadFile("testdata/refusals.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Refusals []refusal `yaml:"refusals"`
	}
	if err := decodeStrictly(text, &all); err != nil {
		t.Fatalf("refusals.yaml: %v", err)
	}
	seen := map[string]bool{}
	for _, r := range all.Refusals {
		if r.Name == "" || r.Origin == "" || len(r.Rows) == 0 || len(r.Files) == 0 || seen[r.Name] {
			t.Fatalf("refusal %q: it needs a name of its own, an origin, rows and files", r.Name)
		}
		seen[r.Name] = true
	}
	return all.Refusals
}
