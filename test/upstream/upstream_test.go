package upstream_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-project/weir/test/upstream"
)

func serve(t *testing.T, o upstream.Options) (*upstream.Server, string) {
	t.Helper()
	s := upstream.New(o)
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return s, h.URL + "/v1/messages"
}

// post sends one message and returns the answer, whose body the test closes.
func post(t *testing.T, url, body string, b *upstream.Behavior) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if b != nil {
		req.Header.Set(upstream.BehaviorHeader, b.Header())
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

// read returns the whole body, and how it ended.
func read(t *testing.T, res *http.Response) (string, error) {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

// events returns the names of the events of a stream.
func events(body string) []string {
	var names []string
	for s := bufio.NewScanner(strings.NewReader(body)); s.Scan(); {
		if name, ok := strings.CutPrefix(s.Text(), "event: "); ok {
			names = append(names, name)
		}
	}
	return names
}

func finished(t *testing.T, s *upstream.Server, n uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.WaitFinished(ctx, n); err != nil {
		t.Fatal(err)
	}
}

const hello = `{"model":"claude-test","max_tokens":1000,"messages":[]}` // 55 bytes

func TestJSONAnswerStatesUsage(t *testing.T) {
	s, url := serve(t, upstream.Options{})
	res := post(t, url, hello, nil)
	body, _ := read(t, res)
	var got struct {
		Type, Model string
		Usage       upstream.Usage
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if want := (upstream.Usage{InputTokens: 14, OutputTokens: 17}); got.Usage != want || got.Type != "message" {
		t.Errorf("got %+v, want a message with usage %+v", got, want)
	}
	finished(t, s, 1)
	if got, want := s.Totals(), (upstream.Totals{Received: 1, Finished: 1, OK: 1, InputTokens: 14, OutputTokens: 17}); got != want {
		t.Errorf("totals %+v, want %+v", got, want)
	}
	r := s.Requests()[0]
	if r.Model != "claude-test" || r.MaxTokens != 1000 || r.BodyBytes != 55 || string(r.Body) != hello {
		t.Errorf("recorded %+v", r)
	}
}

func TestStreamHasTheEventsOfTheRealAPI(t *testing.T) {
	_, url := serve(t, upstream.Options{})
	usage := upstream.Usage{InputTokens: 25, CacheCreationInputTokens: 7, CacheReadInputTokens: 100, OutputTokens: 42}
	res := post(t, url, `{"model":"m","stream":true}`, &upstream.Behavior{Usage: &usage, Events: 2})
	body, err := read(t, res)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"message_start", "content_block_start", "ping", "content_block_delta", "content_block_delta",
		"content_block_stop", "message_delta", "message_stop",
	}
	if diff := cmp.Diff(want, events(body)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	for _, part := range []string{
		`"usage":{"input_tokens":25,"cache_creation_input_tokens":7,"cache_read_input_tokens":100,"output_tokens":1}`,
		`"usage":{"input_tokens":25,"cache_creation_input_tokens":7,"cache_read_input_tokens":100,"output_tokens":42}`,
	} {
		if !strings.Contains(body, part) {
			t.Errorf("the stream lacks %s:\n%s", part, body)
		}
	}
}

func TestRefusalCarriesWhatItIsTold(t *testing.T) {
	s, url := serve(t, upstream.Options{})
	reset := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s.Script(upstream.Behavior{Status: 429, RetryAfter: "7", RateLimits: []upstream.RateLimit{
		{Meter: "requests", Limit: 50, Remaining: 0, Reset: reset},
		{Meter: "input-tokens", Limit: 1000, Remaining: 400, Reset: reset},
		{Meter: "output-tokens", Limit: 500, Remaining: 500, Reset: reset},
	}})
	s.SetDefault(upstream.Behavior{Status: upstream.StatusOverloaded})

	res := post(t, url, hello, nil)
	body, _ := read(t, res)
	got := map[string]string{}
	for k := range res.Header {
		if name := strings.ToLower(k); strings.HasPrefix(name, "anthropic-") || name == "retry-after" {
			got[name] = res.Header.Get(k)
		}
	}
	want := map[string]string{
		"retry-after":                                 "7",
		"anthropic-ratelimit-requests-limit":          "50",
		"anthropic-ratelimit-requests-reset":          "2026-01-02T03:04:05Z",
		"anthropic-ratelimit-requests-remaining":      "0",
		"anthropic-ratelimit-input-tokens-limit":      "1000",
		"anthropic-ratelimit-input-tokens-remaining":  "400",
		"anthropic-ratelimit-input-tokens-reset":      "2026-01-02T03:04:05Z",
		"anthropic-ratelimit-output-tokens-limit":     "500",
		"anthropic-ratelimit-output-tokens-remaining": "500",
		"anthropic-ratelimit-output-tokens-reset":     "2026-01-02T03:04:05Z",
	}
	if diff := cmp.Diff(want, got); diff != "" || res.StatusCode != 429 || !strings.Contains(body, `"rate_limit_error"`) {
		t.Errorf("status %d, body %s, headers (-want +got):\n%s", res.StatusCode, body, diff)
	}

	res = post(t, url, hello, nil)
	body, _ = read(t, res)
	if res.StatusCode != 529 || !strings.Contains(body, `"overloaded_error"`) {
		t.Errorf("after the script the default answers: status %d, body %s", res.StatusCode, body)
	}
}

func TestStreamsBreakOff(t *testing.T) {
	s, url := serve(t, upstream.Options{})
	usage := &upstream.Usage{InputTokens: 9, OutputTokens: 40}

	res := post(t, url, `{"model":"m","stream":true}`, &upstream.Behavior{Usage: usage, Events: 4, Ending: upstream.Error, EndAfter: 1})
	body, err := read(t, res)
	names := events(body)
	if err != nil || names[len(names)-1] != "error" || len(names) != 5 {
		t.Errorf("an error event ends the stream: %v, %v", names, err)
	}

	res = post(t, url, `{"model":"m","stream":true}`, &upstream.Behavior{Usage: usage, Events: 4, Ending: upstream.Cut, EndAfter: 2})
	body, err = read(t, res)
	if err == nil || len(events(body)) != 5 {
		t.Errorf("a cut stream ends with an error after two pieces: %v, %v", events(body), err)
	}
	finished(t, s, 2)
	if got := s.Requests(); got[0].Sent != 10 || got[1].Sent != 20 {
		t.Errorf("produced %d and %d tokens, want 10 and 20", got[0].Sent, got[1].Sent)
	}
}

func TestClientThatLeavesIsSeen(t *testing.T) {
	s, url := serve(t, upstream.Options{})
	s.SetDefault(upstream.Behavior{Events: 1000, EventGap: upstream.Duration(10 * time.Millisecond)})
	res := post(t, url, `{"model":"m","stream":true}`, nil)
	if _, err := io.ReadFull(res.Body, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	finished(t, s, 1)
	if r := s.Requests()[0]; !r.Aborted || r.Sent >= r.Usage.OutputTokens {
		t.Errorf("recorded %+v, want it aborted before the end", r)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	_, url := serve(t, upstream.Options{})
	if res := post(t, url, `{"model":`, nil); res.StatusCode != 400 {
		t.Errorf("broken JSON: status %d, want 400", res.StatusCode)
	}
	if res := post(t, url, hello, &upstream.Behavior{Status: 42}); res.StatusCode != 400 {
		t.Errorf("a behaviour that cannot be: status %d, want 400", res.StatusCode)
	}
	if res := post(t, url+"/nowhere", hello, nil); res.StatusCode != 404 {
		t.Errorf("unknown path: status %d, want 404", res.StatusCode)
	}
}

// At 0s the bucket of 60 requests and 1000 input tokens a minute is full; what a
// limit refuses is charged to none; the wait that a refusal states is enough.
func TestLimitsAreEnforcedAllOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := upstream.New(upstream.Options{Limits: []upstream.Limit{
			{Meter: "requests", Amount: 4, Window: time.Minute},
			{Meter: "input-tokens", Amount: 1000, Window: time.Minute},
			{Meter: "requests", Amount: 2, Window: time.Second, Hidden: true},
		}})
		send := func(input uint64) *httptest.ResponseRecorder {
			b := upstream.Behavior{Usage: &upstream.Usage{InputTokens: input, CacheReadInputTokens: 5000, OutputTokens: 1}}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/messages", strings.NewReader(hello))
			r.Header.Set(upstream.BehaviorHeader, b.Header())
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			return w
		}
		steps := []struct {
			after      time.Duration
			input      uint64
			status     int
			retryAfter string
			remaining  string // requests
			text       string
		}{
			{0, 600, 200, "", "3", ""},
			{0, 600, 429, "12", "3", "rate limit of 1,000 input tokens per minute"},
			{0, 400, 200, "", "2", ""},
			{0, 0, 429, "1", "2", "rate limit of 2 requests per 1s"},
			{12 * time.Second, 200, 200, "", "1", ""},
			{time.Second, 1, 200, "", "0", ""},
			{0, 0, 429, "2", "0", "rate limit of 4 requests per minute"},
			{2 * time.Second, 0, 200, "", "0", ""},
		}
		for i, step := range steps {
			time.Sleep(step.after)
			w := send(step.input)
			h := w.Header()
			if w.Code != step.status || h.Get("retry-after") != step.retryAfter || !strings.Contains(w.Body.String(), step.text) {
				t.Errorf("step %d: status %d, retry-after %q, want %d, %q: %s", i, w.Code, h.Get("retry-after"), step.status, step.retryAfter, w.Body)
			}
			if got := h.Get("anthropic-ratelimit-requests-remaining"); got != step.remaining {
				t.Errorf("step %d: %s requests remaining, want %s", i, got, step.remaining)
			}
		}
		if got := s.Totals(); got.Refused != 3 || got.OK != 5 {
			t.Errorf("totals %+v, want 3 refused and 5 answered", got)
		}
	})
}

// A drained bucket of 60 a minute has room for one request after a second.
func TestDrainedLimitsStartEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := upstream.New(upstream.Options{Limits: []upstream.Limit{
			{Meter: "requests", Amount: 60, Window: time.Minute, Drained: true},
		}})
		for i, want := range []int{429, 200, 429} {
			if i == 1 {
				time.Sleep(time.Second)
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/messages", strings.NewReader(hello)))
			if w.Code != want {
				t.Errorf("request %d: status %d, want %d", i, w.Code, want)
			}
		}
	})
}
