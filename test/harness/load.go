package harness

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"
)

// Load is what many callers of the SDK send at the same time: each sends one message
// after the other, with the SDK's retries as they are by default.
type Load struct {
	BaseURL string `json:"base_url"`
	// Seconds is how long callers begin new calls. Those under way are finished.
	Seconds float64 `json:"seconds"`
	Org     string  `json:"org"`
	// Tenants is the number of callers of each tenant.
	Tenants   map[string]int `json:"tenants"`
	Model     string         `json:"model"`
	MaxTokens int            `json:"max_tokens"`
	Text      string         `json:"text"`
}

// Calls is what became of the calls of one tenant. A call counts once, however often
// the SDK tried it.
type Calls struct {
	// Calls ended, Failed of them with an exception.
	Calls  int `json:"calls"`
	Failed int `json:"failed"`
	// Retries is how often calls that succeeded were tried again.
	Retries int `json:"retries"`
	// Longest is how long the longest call took, in seconds.
	Longest float64 `json:"longest"`
	// Errors counts the exceptions, by class and status.
	Errors map[string]int `json:"errors"`
}

// Callers is a program that sends a Load.
type Callers struct {
	*Process
	load   Load
	counts *bytes.Buffer // read when the process has ended
}

// StartLoad starts the program.
func StartLoad(t testing.TB, l Load) *Callers {
	t.Helper()
	text, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	c := &Callers{load: l, counts: &bytes.Buffer{}}
	c.Process = start(t, program{
		path: Tool(t, "venv/bin/python"), args: []string{filepath.Join(Root(t), "test", "harness", "load.py"), string(text)},
		stdout: c.counts,
	})
	return c
}

// Wait waits until all callers are done, and returns what became of their calls, by
// tenant.
func (c *Callers) Wait(t testing.TB) map[string]Calls {
	t.Helper()
	if err := c.Process.Wait(time.Duration(c.load.Seconds*float64(time.Second)) + 2*time.Minute); err != nil {
		t.Fatalf("the callers: %v\n%s", err, c.Output())
	}
	var counts map[string]Calls
	if err := json.Unmarshal(c.counts.Bytes(), &counts); err != nil {
		t.Fatalf("the callers wrote %q: %v", c.counts, err)
	}
	return counts
}
