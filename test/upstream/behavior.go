package upstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// BehaviorHeader is the request header that chooses the behaviour of one request:
// a JSON object with the fields of [Behavior].
const BehaviorHeader = "X-Upstream-Behavior"

// Behavior says how one request is answered. The zero value is a complete answer
// of status 200 whose usage follows from the request.
type Behavior struct {
	// Status is the HTTP status; 0 means 200. Anything else is answered with an
	// error body, at once, whatever the request asked for.
	Status int `json:"status,omitempty"`
	// ErrorType is the `type` of an error; empty means the one that belongs to
	// Status, or to a broken stream.
	ErrorType string `json:"error_type,omitempty"`
	// ErrorMessage is the error's text; empty means a usual one.
	ErrorMessage string `json:"error_message,omitempty"`
	// RetryAfter is sent as retry-after if not empty, as it is.
	RetryAfter string `json:"retry_after,omitempty"`
	// Headers are added to the answer, and replace what is there.
	Headers map[string]string `json:"headers,omitempty"`
	// RateLimits are sent as the rate-limit headers, three for each meter.
	RateLimits []RateLimit `json:"rate_limits,omitempty"`
	// Usage is what the answer states; nil means what follows from the request.
	Usage *Usage `json:"usage,omitempty"`
	// Text is what the model says; empty means a usual answer.
	Text string `json:"text,omitempty"`

	// Delay passes before the answer's headers are sent.
	Delay Duration `json:"delay,omitempty"`
	// Events is the number of pieces in which a streamed answer comes; 0 means 3.
	Events int `json:"events,omitempty"`
	// EventGap passes before each of these pieces.
	EventGap Duration `json:"event_gap,omitempty"`
	// Ending says how a streamed answer ends.
	Ending Ending `json:"ending,omitempty"`
	// EndAfter is the number of pieces after which a stream that does not complete
	// ends.
	EndAfter int `json:"end_after,omitempty"`
}

// Ending says how a streamed answer ends.
type Ending string

// The endings.
const (
	// Complete streams end with message_delta and message_stop.
	Complete Ending = ""
	// Error ends a stream with an error event.
	Error Ending = "error"
	// Cut closes the connection in the middle. It cuts an answer that is not
	// streamed, too: after its headers.
	Cut Ending = "cut"
)

// RateLimit is the state that an upstream shows of one of its limits.
type RateLimit struct {
	// Meter is "requests", "input-tokens", "output-tokens" or "tokens", as in the
	// names of the headers.
	Meter string `json:"meter"`
	// Limit and Remaining are in units of the meter.
	Limit     uint64 `json:"limit"`
	Remaining uint64 `json:"remaining"`
	// Reset is when the limit is full again.
	Reset time.Time `json:"reset"`
}

// Usage is what an answer states that it used, in tokens.
type Usage struct {
	InputTokens              uint64 `json:"input_tokens"`
	CacheCreationInputTokens uint64 `json:"cache_creation_input_tokens"`
	CacheReadInputTokens     uint64 `json:"cache_read_input_tokens"`
	OutputTokens             uint64 `json:"output_tokens"`
}

// CountedInput is the number of input tokens that count against a limit: those
// that were not read from the prompt cache.
func (u Usage) CountedInput() uint64 { return u.InputTokens + u.CacheCreationInputTokens }

// Duration is a time.Duration that JSON spells as text, such as "250ms".
type Duration time.Duration

// MarshalText writes the duration as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// Header returns the behaviour as the value of [BehaviorHeader].
func (b Behavior) Header() string {
	text, err := json.Marshal(b)
	if err != nil {
		// Not reachable: every field marshals.
		panic(fmt.Sprintf("upstream: behaviour %+v: %v", b, err))
	}
	return string(text)
}

func parseBehavior(text string) (Behavior, error) {
	var b Behavior
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		return Behavior{}, fmt.Errorf("header %s: %w", BehaviorHeader, err)
	}
	if b.Status != 0 && (b.Status < 200 || b.Status > 599) {
		return Behavior{}, fmt.Errorf("header %s: status %d, expected 200 to 599", BehaviorHeader, b.Status)
	}
	return b, nil
}

// errorType is the type that Anthropic gives to errors of a status.
func errorType(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "invalid_request_error"
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusPaymentRequired:
		return "billing_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case http.StatusGatewayTimeout:
		return "timeout_error"
	case StatusOverloaded:
		return "overloaded_error"
	default:
		return "api_error"
	}
}

// StatusOverloaded is what Anthropic answers when it is overloaded as a whole.
const StatusOverloaded = 529
