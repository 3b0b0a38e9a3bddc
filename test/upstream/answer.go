package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// answer is one request being answered.
type answer struct {
	server   *Server
	request  *Request
	behavior Behavior
	scope    string
	w        http.ResponseWriter
	ctx      context.Context
}

// write answers, whatever the behaviour and the limits make of it.
func (a *answer) write() {
	if !a.pause(a.behavior.Delay) {
		return
	}
	a.scope = a.server.options.Scope(a.request)
	b := a.behavior
	if b.Status != 0 && b.Status != http.StatusOK {
		a.refuse(b.Status, b.ErrorType, b.ErrorMessage, b.RetryAfter)
		return
	}
	if no := a.server.limits.admit(a.scope, time.Now(), a.request.Usage.CountedInput()); no != nil {
		a.server.update(func() { a.request.RefusedBy = &no.limit })
		seconds := strconv.FormatFloat(math.Ceil(no.wait.Seconds()), 'f', 0, 64)
		a.refuse(http.StatusTooManyRequests, "", no.message(a.request.Model), seconds)
		return
	}
	a.server.update(func() { a.request.Status = http.StatusOK })
	if a.request.Stream {
		a.stream()
		return
	}
	a.json()
}

// headers sets what every answer carries.
func (a *answer) headers() {
	h := a.w.Header()
	h.Set("request-id", requestID(a.request))
	shown := a.behavior.RateLimits
	if shown == nil {
		shown = a.server.limits.show(a.scope, time.Now())
	}
	for _, l := range shown {
		h.Set("anthropic-ratelimit-"+l.Meter+"-limit", strconv.FormatUint(l.Limit, 10))
		h.Set("anthropic-ratelimit-"+l.Meter+"-remaining", strconv.FormatUint(l.Remaining, 10))
		h.Set("anthropic-ratelimit-"+l.Meter+"-reset", l.Reset.UTC().Format(time.RFC3339))
	}
	for k, v := range a.behavior.Headers {
		h.Set(k, v)
	}
}

func (a *answer) refuse(status int, errType, message, retryAfter string) {
	a.server.update(func() { a.request.Status = status })
	if retryAfter != "" {
		a.w.Header().Set("retry-after", retryAfter)
	}
	a.headers()
	writeError(a.w, requestID(a.request), status, errType, message)
}

// pause waits, and says whether the client is still there.
func (a *answer) pause(d Duration) bool {
	if d <= 0 {
		return a.ctx.Err() == nil
	}
	t := time.NewTimer(time.Duration(d))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-a.ctx.Done():
		a.left()
		return false
	}
}

func (a *answer) left() {
	a.server.update(func() { a.request.Aborted = true })
}

// produce counts output tokens as they are made.
func (a *answer) produce(n uint64) {
	a.server.limits.produced(a.scope, time.Now(), n)
	a.server.update(func() { a.request.Sent += n })
}

// message is the Message object, without content and output.
func (a *answer) message() map[string]any {
	return map[string]any{
		"id": "msg_" + strconv.FormatUint(a.request.Seq, 10), "type": "message", "role": "assistant",
		"model": a.request.Model, "content": []any{}, "stop_reason": nil, "stop_sequence": nil,
	}
}

func (a *answer) json() {
	u := a.request.Usage
	a.produce(u.OutputTokens)
	m := a.message()
	m["content"] = []any{map[string]any{"type": "text", "text": textOf(a.behavior)}}
	m["stop_reason"] = "end_turn"
	m["usage"] = u
	a.headers()
	if a.behavior.Ending != Cut {
		writeJSON(a.w, http.StatusOK, m)
		return
	}
	body := marshal(m)
	a.w.Header().Set("content-type", "application/json")
	a.w.Header().Set("content-length", strconv.Itoa(len(body)))
	a.w.WriteHeader(http.StatusOK)
	_, _ = a.w.Write(body[:len(body)/2])
	a.flush()
	panic(http.ErrAbortHandler)
}

// stream sends the events of a streamed answer, in the order of the real API.
func (a *answer) stream() {
	a.headers()
	a.w.Header().Set("content-type", "text/event-stream; charset=utf-8")
	a.w.Header().Set("cache-control", "no-cache")
	a.w.WriteHeader(http.StatusOK)

	u := a.request.Usage
	first := u
	first.OutputTokens = min(1, u.OutputTokens) // as seen from the real API
	m := a.message()
	m["usage"] = first
	a.event("message_start", map[string]any{"message": m})
	a.event("content_block_start", map[string]any{"index": 0, "content_block": map[string]any{"type": "text", "text": ""}})
	a.event("ping", map[string]any{})
	if !a.pieces() {
		return
	}
	a.event("content_block_stop", map[string]any{"index": 0})
	a.event("message_delta", map[string]any{
		"delta": map[string]any{"stop_reason": "end_turn", "stop_sequence": nil}, "usage": u,
	})
	a.event("message_stop", map[string]any{})
	if a.ctx.Err() != nil {
		a.left()
	}
}

// pieces sends the text, and says whether the answer goes on after it.
func (a *answer) pieces() bool {
	b := a.behavior
	n := b.Events
	if n <= 0 {
		n = 3
	}
	text, total := textOf(b), a.request.Usage.OutputTokens
	for i := range n {
		if b.Ending != Complete && i == b.EndAfter {
			a.breakOff()
			return false
		}
		if !a.pause(b.EventGap) {
			a.left()
			return false
		}
		a.produce(share(total, i, n))
		from, to := len(text)*i/n, len(text)*(i+1)/n
		a.event("content_block_delta", map[string]any{
			"index": 0, "delta": map[string]any{"type": "text_delta", "text": text[from:to]},
		})
	}
	if b.Ending != Complete {
		a.breakOff()
		return false
	}
	return true
}

// share is the i-th of n parts of total; they add up to total.
func share(total uint64, i, n int) uint64 {
	k, m := uint64(i), uint64(n)
	return total*(k+1)/m - total*k/m
}

// breakOff ends a stream before its time.
func (a *answer) breakOff() {
	if a.behavior.Ending == Cut {
		panic(http.ErrAbortHandler)
	}
	kind, message := a.behavior.ErrorType, a.behavior.ErrorMessage
	if kind == "" {
		kind, message = "overloaded_error", "Overloaded"
	}
	a.event("error", map[string]any{
		"error": map[string]any{"details": nil, "type": kind, "message": message}, "request_id": requestID(a.request),
	})
}

// event sends one event at once. Errors show in the context.
func (a *answer) event(name string, data map[string]any) {
	data["type"] = name
	_, _ = fmt.Fprintf(a.w, "event: %s\ndata: %s\n\n", name, marshal(data))
	a.flush()
}

func (a *answer) flush() { _ = http.NewResponseController(a.w).Flush() }

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(marshal(v), '\n'))
}

func writeError(w http.ResponseWriter, requestID string, status int, kind, message string) {
	if kind == "" {
		kind = errorType(status)
	}
	if message == "" {
		message = map[int]string{StatusOverloaded: "Overloaded"}[status]
	}
	if message == "" {
		message = fmt.Sprintf("answered with status %d, as was asked for", status)
	}
	writeJSON(w, status, map[string]any{
		"type": "error", "error": map[string]any{"type": kind, "message": message}, "request_id": requestID,
	})
}

func marshal(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		// Not reachable: maps of plain values.
		panic(fmt.Sprintf("upstream: %v", err))
	}
	return text
}
