package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/test/upstream"
)

// Ask is one request to /v1/messages of a client without retries.
type Ask struct {
	Org, Tenant string
	// Model is claude-test if empty.
	Model string
	// MaxTokens is left out if zero.
	MaxTokens int
	Stream    bool
	// Text makes the body larger.
	Text string
	// Behavior chooses what the upstream does.
	Behavior *upstream.Behavior
	// Headers are further ones.
	Headers map[string]string
}

// Answer is what came back.
type Answer struct {
	Status  int
	Header  http.Header
	Body    string
	Elapsed time.Duration
}

// Send sends a request and reads the whole answer. Its error says that there was no
// answer, or only a part of one.
func Send(ctx context.Context, baseURL string, a Ask) (Answer, error) {
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	res, err := Open(ctx, baseURL, a)
	if err != nil {
		return Answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return Answer{Status: res.StatusCode, Header: res.Header, Body: string(body), Elapsed: time.Since(started)}, err
}

// Open sends a request and returns when the answer's headers have come. The caller
// closes the body.
func Open(ctx context.Context, baseURL string, a Ask) (*http.Response, error) {
	req, err := a.request(ctx, baseURL)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

// MustSend is Send, for answers that must be whole and have the given status.
func MustSend(t testing.TB, baseURL string, a Ask, status int) Answer {
	t.Helper()
	got, err := Send(t.Context(), baseURL, a)
	if err != nil || got.Status != status {
		t.Fatalf("%+v: got status %d, %v, want %d: %s", a, got.Status, err, status, got.Body)
	}
	return got
}

// client opens a connection for each request, so that one which is broken off
// is seen to be, and no test meets the connections of another.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}

func (a Ask) request(ctx context.Context, baseURL string) (*http.Request, error) {
	body := map[string]any{
		"model": "claude-test", "stream": a.Stream,
		"messages": []any{map[string]any{"role": "user", "content": a.Text}},
	}
	if a.Model != "" {
		body["model"] = a.Model
	}
	if a.MaxTokens != 0 {
		body["max_tokens"] = a.MaxTokens
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, baseURL+"/v1/messages", strings.NewReader(string(text)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("content-type", "application/json")
	req.Header.Set("x-api-key", "test-key-of-nobody-1234")
	set := func(name, value string) {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	set("x-llm-org", a.Org)
	set("x-llm-tenant", a.Tenant)
	if a.Behavior != nil {
		set(upstream.BehaviorHeader, a.Behavior.Header())
	}
	for name, value := range a.Headers {
		set(name, value)
	}
	return req, nil
}

// ErrorBody is an error as Anthropic writes it.
type ErrorBody struct {
	Type  string `json:"type"`
	Error struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"error"`
}

// ParseError reads an error body. Its error says that it is none.
func ParseError(body string) (ErrorBody, error) {
	var e ErrorBody
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		return e, fmt.Errorf("%w: %s", err, body)
	}
	if e.Type != "error" || e.Error.Type == "" || e.Error.Message == "" {
		return e, fmt.Errorf("not an error as Anthropic writes it: %s", body)
	}
	return e, nil
}
