// Package upstream is a fake of Anthropic's Messages API for tests and trials: it
// answers with JSON or with a stream of events, states usage, shows rate-limit
// headers, refuses, breaks off and dawdles as it is told, enforces limits that
// only it knows, and remembers what it received.
//
// How a request is answered is chosen by the first of: the request's own
// [BehaviorHeader], the script ([Server.Script]), the default ([Server.SetDefault]).
// It reads the clock only through package time, so it can live inside a
// testing/synctest bubble.
package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// maxBody is the size of request body that Anthropic accepts, in bytes.
const maxBody = 32 << 20

// keepBody is how much of each body is remembered, in bytes.
const keepBody = 4 << 10

// Options configure a Server. The zero value is useful.
type Options struct {
	// Keep is the number of latest requests that are remembered; 0 means 10000.
	Keep int
	// Limits are enforced from the start; see SetLimits.
	Limits []Limit
	// Scope names the allotment that a request belongs to; nil means that all
	// requests of one model share one.
	Scope func(*Request) string
}

// Server is a fake upstream. It is an http.Handler, and safe for concurrent use.
type Server struct {
	options Options
	limits  limits

	mu       sync.Mutex
	fallback Behavior
	script   []Behavior
	kept     []*Request
	totals   Totals
	changed  chan struct{} // closed and replaced whenever a request came or ended
}

// Request is one request to /v1/messages, as it was received and answered.
type Request struct {
	// Seq counts from 1.
	Seq uint64
	// At is when its body had been read, Done when its answer ended. Done is zero
	// while it is being answered.
	At, Done time.Time
	Header   http.Header
	// Body is its beginning, at most 4 KiB; BodyBytes is its whole size.
	Body      []byte
	BodyBytes int
	Model     string
	MaxTokens uint64
	Stream    bool
	// Status is what was answered. RefusedBy is set if a Limit refused.
	Status    int
	RefusedBy *Limit
	// Usage is what the whole answer would state; Sent is the number of output
	// tokens that were produced before it ended.
	Usage Usage
	Sent  uint64
	// Aborted says that the client left before the answer was complete.
	Aborted bool
}

// Totals count over all requests, also those that are no longer remembered.
type Totals struct {
	// Received and Finished count requests; those of status 200 are OK, those
	// that a Limit refused are Refused, those that the client left are Aborted.
	Received, Finished, OK, Refused, Aborted uint64
	// InputTokens and OutputTokens count what was used by requests of status 200.
	InputTokens, OutputTokens uint64
}

// New returns a Server.
func New(o Options) *Server {
	if o.Keep <= 0 {
		o.Keep = 10000
	}
	if o.Scope == nil {
		o.Scope = func(r *Request) string { return r.Model }
	}
	s := &Server{options: o, changed: make(chan struct{})}
	s.limits.set(o.Limits)
	return s
}

// SetDefault chooses the behaviour of requests that nothing else chooses it for.
func (s *Server) SetDefault(b Behavior) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fallback = b
}

// Script queues behaviours: each is used for one request, in the order in which
// requests arrive.
func (s *Server) Script(bs ...Behavior) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = append(s.script, bs...)
}

// SetLimits replaces the limits; all of them start full, or drained.
func (s *Server) SetLimits(ls ...Limit) { s.limits.set(slices.Clone(ls)) }

// Requests returns copies of the requests that are remembered, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Request, len(s.kept))
	for i, r := range s.kept {
		out[i] = *r
	}
	return out
}

// Totals returns the counts so far.
func (s *Server) Totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.totals
}

// WaitReceived waits until n requests have arrived in all, or ctx ends.
func (s *Server) WaitReceived(ctx context.Context, n uint64) error {
	return s.wait(ctx, func() bool { return s.totals.Received >= n }, "%d requests received", n)
}

// WaitFinished waits until n requests have been answered in all, or ctx ends.
func (s *Server) WaitFinished(ctx context.Context, n uint64) error {
	return s.wait(ctx, func() bool { return s.totals.Finished >= n }, "%d requests finished", n)
}

func (s *Server) wait(ctx context.Context, met func() bool, what string, args ...any) error {
	for {
		s.mu.Lock()
		ok, changed, totals := met(), s.changed, s.totals
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s, have %+v: %w", fmt.Sprintf(what, args...), totals, ctx.Err())
		}
	}
}

// ServeHTTP answers POST /v1/messages, GET /v1/models and GET /healthz.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/v1/messages":
		s.serveMessages(w, r)
	case r.Method == http.MethodGet && r.URL.Path == "/v1/models":
		writeJSON(w, http.StatusOK, map[string]any{"data": []any{}, "has_more": false, "first_id": nil, "last_id": nil})
	case r.Method == http.MethodGet && r.URL.Path == "/healthz":
		writeJSON(w, http.StatusOK, map[string]any{"ok": true})
	default:
		writeError(w, "req_none", http.StatusNotFound, "not_found_error",
			fmt.Sprintf("%s %s is not known; expected POST /v1/messages", r.Method, r.URL.Path))
	}
}

func (s *Server) serveMessages(w http.ResponseWriter, r *http.Request) {
	req, err := read(w, r)
	if err != nil {
		writeError(w, "req_none", http.StatusBadRequest, "", err.Error())
		return
	}
	b, err := s.begin(req)
	defer s.end(req)
	if err != nil {
		s.update(func() { req.Status = http.StatusBadRequest })
		writeError(w, requestID(req), http.StatusBadRequest, "", err.Error())
		return
	}
	a := answer{server: s, request: req, behavior: b, w: w, ctx: r.Context()}
	a.write()
}

// read takes a request in, without having decided anything about it.
func read(w http.ResponseWriter, r *http.Request) (*Request, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	var wanted struct {
		Model     string `json:"model"`
		MaxTokens uint64 `json:"max_tokens"`
		Stream    bool   `json:"stream"`
	}
	if err := json.Unmarshal(body, &wanted); err != nil {
		return nil, fmt.Errorf("the body is not what Messages expects: %w", err)
	}
	return &Request{
		At:        time.Now(),
		Header:    r.Header.Clone(),
		Body:      slices.Clone(body[:min(len(body), keepBody)]),
		BodyBytes: len(body),
		Model:     wanted.Model,
		MaxTokens: wanted.MaxTokens,
		Stream:    wanted.Stream,
	}, nil
}

// begin records req and chooses its behaviour.
func (s *Server) begin(req *Request) (Behavior, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.totals.Received++
	req.Seq = s.totals.Received
	s.kept = append(s.kept, req)
	if len(s.kept) > s.options.Keep {
		s.kept = slices.Delete(s.kept, 0, len(s.kept)-s.options.Keep)
	}
	s.announce()
	b := s.fallback
	switch text := req.Header.Get(BehaviorHeader); {
	case text != "":
		var err error
		if b, err = parseBehavior(text); err != nil {
			return b, err
		}
	case len(s.script) > 0:
		b, s.script = s.script[0], s.script[1:]
	}
	req.Usage = usageOf(req, b)
	return b, nil
}

// update changes req, which others may be reading.
func (s *Server) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *Server) end(req *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	req.Done = time.Now()
	t := &s.totals
	t.Finished++
	if req.Status == http.StatusOK {
		t.OK++
		t.InputTokens += req.Usage.CountedInput()
		t.OutputTokens += req.Sent
	}
	if req.RefusedBy != nil {
		t.Refused++
	}
	if req.Aborted {
		t.Aborted++
	}
	s.announce()
}

// announce wakes whoever waits. Called with the lock held.
func (s *Server) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// usageOf is what the behaviour states, or else follows from the request: a token
// for each four bytes of body, and an answer as long as the text.
func usageOf(req *Request, b Behavior) Usage {
	if b.Usage != nil {
		return *b.Usage
	}
	output := (uint64(len(textOf(b))) + 3) / 4
	if req.MaxTokens > 0 {
		output = min(output, req.MaxTokens)
	}
	return Usage{InputTokens: (uint64(req.BodyBytes) + 3) / 4, OutputTokens: output}
}

func textOf(b Behavior) string {
	if b.Text != "" {
		return b.Text
	}
	return "All the world's a stage, and all the men and women merely players."
}

func requestID(req *Request) string { return "req_" + strconv.FormatUint(req.Seq, 10) }
