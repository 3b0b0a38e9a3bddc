package server

import (
	"strconv"
	"time"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// The bounds of what callers may send.
const (
	maxAttributes  = 32
	maxName        = 256
	maxKeyText     = 128 // of an idempotency key
	maxReservation = 64  // bytes of a reservation id, whatever made it
	maxHeaders     = 64
	maxHeaderValue = 1024
)

// span is a protobuf duration as it came: it can be absent, negative, or too long for
// a time.Duration.
type span struct {
	set     bool
	seconds int64
	nanos   int32
}

// optional is an amount that can be absent.
type optional struct {
	set   bool
	value uint64
}

// estimateFields are an Estimate.
type estimateFields struct {
	input, body, max, cached, requests optional
}

// reserveCall is a Reserve, whichever door it came through. Its strings may point into
// the message that it came in.
type reserveCall struct {
	attributes     []limiter.Entry // no key twice
	estimate       estimateFields
	maxWait        span
	priority       int32
	idempotencyKey string
	ttl            span
	ticket         []byte
	retry          bool
	domain         string
	requestID      string
	usefulFor      span
}

// headerField is one response header of the upstream.
type headerField struct{ name, value string }

// reportCall is a Report, in the same way.
type reportCall struct {
	reservation, tenant     string
	status                  uint32
	errorType, errorMessage string
	provider                string
	retryAfter              span
	headers                 []headerField
	input, creation, read   optional
	output                  optional
	progress, aborted       bool
	sentAt                  span
}

// renewCall is a Renew.
type renewCall struct {
	reservation, tenant string
	ttl                 span
}

// releaseCall is a Release.
type releaseCall struct{ reservation, tenant string }

// set puts an attribute in, in place of an earlier one of the same key.
func (c *reserveCall) set(key, value string) {
	for i := range c.attributes {
		if c.attributes[i].Key == key {
			c.attributes[i].Value = value
			return
		}
	}
	c.attributes = append(c.attributes, limiter.Entry{Key: key, Value: value})
}

// value returns an attribute, empty if there is none.
func (c *reserveCall) value(key string) string {
	for i := range c.attributes {
		if c.attributes[i].Key == key {
			return c.attributes[i].Value
		}
	}
	return ""
}

// reset empties c and keeps its memory.
func (c *reserveCall) reset() { *c = reserveCall{attributes: c.attributes[:0]} }

func (c *reportCall) reset() { *c = reportCall{headers: c.headers[:0]} }

// check says what is wrong with c, if anything is.
func (c *reserveCall) check() error {
	if err := checkAttributes(c.attributes); err != nil {
		return err
	}
	if err := c.estimate.check(); err != nil {
		return err
	}
	if err := checkText("domain", c.domain, maxName); err != nil {
		return err
	}
	if err := checkText("request_id", c.requestID, maxName); err != nil {
		return err
	}
	if err := checkText("idempotency_key", c.idempotencyKey, maxKeyText); err != nil {
		return err
	}
	if len(c.ticket) > maxName {
		return wrong("ticket", strconv.Itoa(len(c.ticket))+" bytes", "at most "+strconv.Itoa(maxName))
	}
	if c.priority < 0 || c.priority > int32(weirv1.Priority_PRIORITY_BATCH) {
		return wrong("priority", strconv.Itoa(int(c.priority)), "one of the values of weir.v1.Priority")
	}
	return nil
}

func checkAttributes(attributes []limiter.Entry) error {
	if n := len(attributes); n > maxAttributes {
		return wrong("attributes", strconv.Itoa(n)+" of them", "at most "+strconv.Itoa(maxAttributes))
	}
	for i := range attributes {
		a := &attributes[i]
		if a.Key == "" {
			return wrong("attributes", "an empty key", "a name such as \"org\" or \"model\"")
		}
		if len(a.Key) > maxName {
			return wrong("attributes", "the key "+quoted(a.Key), "keys of at most "+strconv.Itoa(maxName)+" bytes")
		}
		if len(a.Value) > maxName {
			return wrong("attributes["+strconv.Quote(a.Key)+"]", quoted(a.Value), "at most "+strconv.Itoa(maxName)+" bytes")
		}
	}
	return nil
}

func (e *estimateFields) check() error {
	if e.input.value|e.body.value|e.max.value|e.cached.value|e.requests.value < limiter.MaxAmount {
		return nil // none has a bit beyond it
	}
	for _, f := range []struct {
		name  string
		value uint64
	}{
		{"estimate.input_tokens", e.input.value},
		{"estimate.body_bytes", e.body.value},
		{"estimate.max_tokens", e.max.value},
		{"estimate.cached_input_tokens", e.cached.value},
		{"estimate.requests", e.requests.value},
	} {
		if err := checkAmount(f.name, f.value); err != nil {
			return err
		}
	}
	return nil
}

// terms says the estimate in the core's terms.
func (e *estimateFields) terms() limiter.Estimate {
	return limiter.Estimate{
		Requests:          e.requests.value,
		InputTokens:       e.input.value,
		CachedInputTokens: min(e.cached.value, e.input.value),
		BodyBytes:         e.body.value,
		MaxTokens:         e.max.value,
		HasInput:          e.input.set,
		HasBody:           e.body.set,
		HasMax:            e.max.set,
	}
}

// check says what is wrong with c, if anything is.
func (c *reportCall) check() error {
	if err := checkText("tenant", c.tenant, maxName); err != nil {
		return err
	}
	if c.status != 0 && (c.status < 100 || c.status > 599) {
		return wrong("http_status", strconv.Itoa(int(c.status)), "0 or a status from 100 to 599")
	}
	if err := checkText("error_type", c.errorType, maxName); err != nil {
		return err
	}
	if n := len(c.headers); n > maxHeaders {
		return wrong("headers", strconv.Itoa(n)+" of them", "at most "+strconv.Itoa(maxHeaders))
	}
	for i, h := range c.headers {
		at := "headers[" + strconv.Itoa(i) + "]"
		if err := checkText(at+".name", h.name, maxName); err != nil {
			return err
		}
		if err := checkText(at+".value", h.value, maxHeaderValue); err != nil {
			return err
		}
	}
	if c.retryAfter.set {
		if _, err := c.retryAfter.atLeast("retry_after", time.Nanosecond); err != nil {
			return err
		}
	}
	if c.input.value|c.creation.value|c.read.value|c.output.value < limiter.MaxAmount {
		return nil // none has a bit beyond it
	}
	for _, f := range []struct {
		name  string
		value uint64
	}{
		{"usage.input_tokens", c.input.value},
		{"usage.cache_creation_input_tokens", c.creation.value},
		{"usage.cache_read_input_tokens", c.read.value},
		{"usage.output_tokens", c.output.value},
	} {
		if err := checkAmount(f.name, f.value); err != nil {
			return err
		}
	}
	return nil
}

// idOf reads a reservation id. One that weir never made is as unknown as one that it
// has forgotten.
func idOf(reservation string) (limiter.ID, error) {
	if reservation == "" {
		return limiter.ID{}, wrong("reservation", "nothing", "the id that Reserve answered with")
	}
	if err := checkText("reservation", reservation, maxReservation); err != nil {
		return limiter.ID{}, err
	}
	id, ok := decodeID(reservation)
	if !ok || id == (limiter.ID{}) {
		return limiter.ID{}, unknownReservation(reservation)
	}
	return id, nil
}

func unknownReservation(reservation string) error {
	return &fault{
		reason: notFound, field: "reservation", got: "no reservation " + quoted(reservation) + " is known",
		want: "one of this server and this tenant that ended less than twice its time to live ago",
	}
}

func checkText(field, text string, most int) error {
	if len(text) <= most {
		return nil
	}
	return wrong(field, quoted(text), "at most "+strconv.Itoa(most)+" bytes")
}

func checkAmount(field string, n uint64) error {
	if n <= limiter.MaxAmount {
		return nil
	}
	return wrong(field, strconv.FormatUint(n, 10), "at most "+strconv.FormatUint(limiter.MaxAmount, 10)+" (2^53)")
}

// maxSpanSeconds is the range of protobuf durations, in seconds.
const maxSpanSeconds = 315_576_000_000

// atLeast returns s as a duration, cut where it is longer than one can be. An absent
// one is 0.
func (s span) atLeast(field string, least time.Duration) (time.Duration, error) {
	if !s.set && least == 0 {
		return 0, nil
	}
	if s.seconds < -maxSpanSeconds || s.seconds > maxSpanSeconds || s.nanos <= -1e9 || s.nanos >= 1e9 ||
		(s.seconds > 0 && s.nanos < 0) || (s.seconds < 0 && s.nanos > 0) {
		return 0, wrong(field, strconv.FormatInt(s.seconds, 10)+" s and "+strconv.Itoa(int(s.nanos))+" ns",
			"a duration of at most 315576000000 s, and less than 1e9 ns of the same sign")
	}
	d := time.Duration(1<<63 - 1)
	if s.seconds < int64(d/time.Second) && s.seconds > -int64(d/time.Second) {
		d = time.Duration(s.seconds)*time.Second + time.Duration(s.nanos)
	} else if s.seconds < 0 {
		d = -d
	}
	if d < least {
		want := "0 or more"
		if least > 0 {
			want = "more than 0"
		}
		return 0, wrong(field, d.String(), want)
	}
	return d, nil
}

// timeToLive returns s as a reservation's time to live. An absent one is 0, which
// means the default.
func (s span) timeToLive() (time.Duration, error) {
	if !s.set {
		return 0, nil
	}
	d, err := s.atLeast("ttl", time.Nanosecond)
	if err == nil && d > limiter.MaxTTL {
		err = wrong("ttl", d.String(), "at most "+limiter.MaxTTL.String())
	}
	return d, err
}
