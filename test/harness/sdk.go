package harness

import (
	"encoding/json"
	"io"
	"path/filepath"
	"testing"
	"time"
)

// Call is one message that the SDK is to send.
type Call struct {
	Model     string            `json:"model"`
	MaxTokens int               `json:"max_tokens"`
	Text      string            `json:"text"`
	Stream    bool              `json:"stream"`
	Headers   map[string]string `json:"headers"`
	// MaxRetries is how often the SDK may try again; its own default is 2.
	MaxRetries int `json:"max_retries"`
	// AbortAfter is the number of events after which a stream is closed, as a program
	// does whose user has left. Zero: never.
	AbortAfter int `json:"abort_after"`
	// Timeout is how long the SDK waits, in seconds, before it gives a call up. Zero:
	// its own default.
	Timeout float64 `json:"timeout"`
}

// Outcome is what the SDK made of a call: an answer, or an error.
type Outcome struct {
	// Retries is how often the SDK tried again before it had an answer.
	Retries int    `json:"retries"`
	Status  int    `json:"status"`
	Text    string `json:"text"`
	// Usage is what the answer stated.
	Usage map[string]any `json:"usage"`
	// Events are the types of a stream's events.
	Events []string `json:"events"`
	// Error is the exception's class, empty if there was none, and Message its text
	// where the API did not answer.
	Error   string `json:"error"`
	Message string `json:"message"`
	// Body is an error's body, as the SDK parsed it.
	Body any `json:"body"`
	// Headers are an error's.
	Headers map[string]string `json:"headers"`
	// Seconds is how long the call took, retries and waits included.
	Seconds float64 `json:"seconds"`
}

// SDK is a program that calls through Anthropic's Python SDK. It is not safe for
// concurrent use.
type SDK struct {
	*Process
	calls    *json.Encoder
	outcomes chan Outcome
}

// StartSDK starts the program, for as long as the test runs.
func StartSDK(t testing.TB, baseURL string) *SDK {
	t.Helper()
	calls, write := io.Pipe()
	read, outcomes := io.Pipe()
	s := &SDK{calls: json.NewEncoder(write), outcomes: make(chan Outcome)}
	s.Process = start(t, program{
		path: Tool(t, "venv/bin/python"), args: []string{filepath.Join(Root(t), "test", "harness", "sdk.py"), baseURL},
		stdin: calls, stdout: outcomes,
	})
	go func() {
		defer close(s.outcomes)
		for lines := json.NewDecoder(read); ; {
			var o Outcome
			if lines.Decode(&o) != nil {
				return
			}
			s.outcomes <- o
		}
	}()
	t.Cleanup(func() {
		_ = write.Close()
		_ = read.Close()
	})
	return s
}

// Send sends a call and returns what the SDK made of it.
func (s *SDK) Send(t testing.TB, c Call) Outcome {
	t.Helper()
	s.Begin(t, c)
	return s.End(t)
}

// Begin sends a call and returns while it runs. Each is followed by an End before
// the next.
func (s *SDK) Begin(t testing.TB, c Call) {
	t.Helper()
	if err := s.calls.Encode(c); err != nil {
		t.Fatalf("asking the SDK: %v", err)
	}
}

// End waits for the call that was begun, and returns what the SDK made of it.
func (s *SDK) End(t testing.TB) Outcome {
	t.Helper()
	select {
	case o, ok := <-s.outcomes:
		if !ok {
			t.Fatalf("the SDK wrote what is no outcome, or has ended: %v\n%s", s.exited(), s.Output())
		}
		return o
	case <-s.Done():
		t.Fatalf("the SDK has ended\n%s", s.Output())
	case <-time.After(2 * time.Minute):
		t.Fatal("the SDK has not answered within two minutes")
	}
	return Outcome{}
}
