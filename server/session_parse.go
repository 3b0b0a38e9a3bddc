package server

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// maxCalls bounds the questions of one message.
const maxCalls = 64

// callKind says what a question of a session is.
type callKind uint8

const (
	noCall callKind = iota
	callReserve
	callReport
	callRenew
	callRelease
)

// sessionCall is one question. Only the field that kind names means anything.
type sessionCall struct {
	sequence uint64
	kind     callKind
	reserve  reserveCall
	report   reportCall
	renew    renewCall
	release  releaseCall
}

// sessionRequest is one message of a session, parsed by hand into memory that the next
// message uses again. Its strings point into the message: they are valid until the
// next one is received.
type sessionRequest struct {
	calls []sessionCall
	// err is what was wrong with the message as a whole.
	err error

	buf mem.Buffer
}

// parseRetained implements retainedMessage. It keeps its error: gRPC would send one
// that it is given, as INTERNAL.
func (r *sessionRequest) parseRetained(buf mem.Buffer) error {
	r.free()
	r.buf = buf
	r.err = r.parse(buf.ReadOnlyData())
	return nil
}

// free gives the message's memory back.
func (r *sessionRequest) free() {
	if r.buf != nil {
		r.buf.Free()
		r.buf = nil
	}
	r.calls = r.calls[:0]
}

func (r *sessionRequest) parse(b []byte) error {
	r.calls = r.calls[:0]
	if err := checkSize(len(b)); err != nil {
		return err
	}
	f := fields{rest: b}
	for f.next() {
		if f.tag != 1<<3|bytesType {
			continue
		}
		if len(r.calls) == maxCalls {
			return wrong("calls", "more than "+strconv.Itoa(maxCalls)+" questions in a message", "at most "+strconv.Itoa(maxCalls))
		}
		if err := r.add().parse(f.bytes); err != nil {
			return unparsed(err)
		}
	}
	if f.err != nil {
		return unparsed(f.err)
	}
	return nil
}

// add makes room for one more question, with the memory of an earlier one.
func (r *sessionRequest) add() *sessionCall {
	if len(r.calls) < cap(r.calls) {
		r.calls = r.calls[:len(r.calls)+1]
	} else {
		r.calls = append(r.calls, sessionCall{})
	}
	c := &r.calls[len(r.calls)-1]
	c.sequence, c.kind = 0, noCall
	return c
}

func unparsed(cause error) error {
	return &fault{
		reason: invalid, field: "message", got: "got bytes that do not parse: " + cause.Error(),
		want: "a weir.v1.SessionRequest", cause: cause,
	}
}

func (c *sessionCall) parse(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		var err error
		switch f.tag {
		case 1<<3 | varintType:
			c.sequence = f.number
		case 2<<3 | bytesType:
			if c.become(callReserve) {
				c.reserve.reset()
			}
			err = c.reserve.parse(f.bytes)
		case 3<<3 | bytesType:
			if c.become(callReport) {
				c.report.reset()
			}
			err = c.report.parse(f.bytes)
		case 4<<3 | bytesType:
			if c.become(callRenew) {
				c.renew = renewCall{}
			}
			err = c.renew.parse(f.bytes)
		case 5<<3 | bytesType:
			if c.become(callRelease) {
				c.release = releaseCall{}
			}
			err = c.release.parse(f.bytes)
		}
		if err != nil {
			return err
		}
	}
	return f.err
}

// become makes c a question of that kind. It is true if c was none of it before: the
// same member of a oneof, sent twice, is merged.
func (c *sessionCall) become(k callKind) bool {
	fresh := c.kind != k
	c.kind = k
	return fresh
}

func (c *reserveCall) parse(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		var err error
		switch f.tag {
		case 1<<3 | bytesType:
			err = c.parseAttribute(f.bytes)
		case 2<<3 | bytesType:
			err = c.estimate.parse(f.bytes)
		case 3<<3 | bytesType:
			err = c.maxWait.parse(f.bytes)
		case 4<<3 | varintType:
			c.priority = int32(f.number)
		case 5<<3 | bytesType:
			c.idempotencyKey, err = f.text()
		case 6<<3 | bytesType:
			err = c.ttl.parse(f.bytes)
		case 7<<3 | bytesType:
			c.ticket = f.bytes
		case 8<<3 | varintType:
			c.retry = f.number != 0
		case 9<<3 | bytesType:
			c.domain, err = f.text()
		case 10<<3 | bytesType:
			c.requestID, err = f.text()
		case 11<<3 | bytesType:
			err = c.usefulFor.parse(f.bytes)
		}
		if err != nil {
			return err
		}
	}
	return f.err
}

func (c *reserveCall) parseAttribute(b []byte) error {
	var key, value string
	f := fields{rest: b}
	// The usual form, a short key and a short value and nothing else, needs no loop.
	if len(b) >= 4 && b[0] == 1<<3|byte(bytesType) && int(b[1]) < len(b)-3 {
		k := 2 + int(b[1])
		if b[k] == 2<<3|byte(bytesType) && b[k+1] < 0x80 && int(b[k+1]) == len(b)-k-2 && ascii(b) {
			c.add(alias(b[2:k]), alias(b[k+2:]))
			return nil
		}
	}
	for f.next() {
		var err error
		switch f.tag {
		case 1<<3 | bytesType:
			key, err = f.text()
		case 2<<3 | bytesType:
			value, err = f.text()
		}
		if err != nil {
			return err
		}
	}
	if f.err == nil {
		c.add(key, value)
	}
	return f.err
}

// add is set for what was received. More attributes than allowed are refused anyway,
// and looking for duplicates among many costs their square.
func (c *reserveCall) add(key, value string) {
	if len(c.attributes) <= maxAttributes {
		c.set(key, value)
	}
}

func (e *estimateFields) parse(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case 1<<3 | varintType:
			e.input = optional{true, f.number}
		case 2<<3 | varintType:
			e.body = optional{true, f.number}
		case 3<<3 | varintType:
			e.max = optional{true, f.number}
		case 4<<3 | varintType:
			e.cached = optional{true, f.number}
		case 5<<3 | varintType:
			e.requests = optional{true, f.number}
		}
	}
	return f.err
}

func (c *reportCall) parse(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		var err error
		switch f.tag {
		case 1<<3 | bytesType:
			c.reservation, err = f.text()
		case 2<<3 | bytesType:
			c.tenant, err = f.text()
		case 3<<3 | varintType:
			c.status = uint32(f.number)
		case 4<<3 | bytesType:
			c.errorType, err = f.text()
		case 5<<3 | bytesType:
			c.errorMessage, err = f.text()
		case 6<<3 | bytesType:
			err = c.retryAfter.parse(f.bytes)
		case 7<<3 | bytesType:
			err = c.parseHeader(f.bytes)
		case 8<<3 | bytesType:
			err = c.parseUsage(f.bytes)
		case 9<<3 | varintType:
			c.progress = f.number != 0
		case 10<<3 | varintType:
			c.aborted = f.number != 0
		case 11<<3 | bytesType:
			err = c.sentAt.parse(f.bytes)
		case 12<<3 | bytesType:
			c.provider, err = f.text()
		}
		if err != nil {
			return err
		}
	}
	return f.err
}

func (c *reportCall) parseHeader(b []byte) error {
	var h headerField
	f := fields{rest: b}
	for f.next() {
		var err error
		switch f.tag {
		case 1<<3 | bytesType:
			h.name, err = f.text()
		case 2<<3 | bytesType:
			h.value, err = f.text()
		}
		if err != nil {
			return err
		}
	}
	if len(c.headers) <= maxHeaders { // one more than allowed is refused as well as thousands
		c.headers = append(c.headers, h)
	}
	return f.err
}

func (c *reportCall) parseUsage(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case 1<<3 | varintType:
			c.input = optional{true, f.number}
		case 2<<3 | varintType:
			c.creation = optional{true, f.number}
		case 3<<3 | varintType:
			c.read = optional{true, f.number}
		case 4<<3 | varintType:
			c.output = optional{true, f.number}
		}
	}
	return f.err
}

func (c *renewCall) parse(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		var err error
		switch f.tag {
		case 1<<3 | bytesType:
			c.reservation, err = f.text()
		case 2<<3 | bytesType:
			c.tenant, err = f.text()
		case 3<<3 | bytesType:
			err = c.ttl.parse(f.bytes)
		}
		if err != nil {
			return err
		}
	}
	return f.err
}

func (c *releaseCall) parse(b []byte) error {
	f := fields{rest: b}
	for f.next() {
		var err error
		switch f.tag {
		case 1<<3 | bytesType:
			c.reservation, err = f.text()
		case 2<<3 | bytesType:
			c.tenant, err = f.text()
		}
		if err != nil {
			return err
		}
	}
	return f.err
}

func (s *span) parse(b []byte) error {
	s.set = true
	f := fields{rest: b}
	for f.next() {
		switch f.tag {
		case 1<<3 | varintType:
			s.seconds = int64(f.number)
		case 2<<3 | varintType:
			s.nanos = int32(f.number)
		}
	}
	return f.err
}

// The wire types that weir's messages use, as they stand in a tag.
const (
	varintType = uint64(protowire.VarintType)
	bytesType  = uint64(protowire.BytesType)
)

var (
	errTruncated = errors.New("it ends in the middle of a field")
	errText      = errors.New("a text is not UTF-8")
)

// fields goes through the fields of a message. A field that its reader does not know,
// by number or by wire type, is to be passed over.
type fields struct {
	rest []byte
	tag  uint64 // number<<3 | wire type
	// number and bytes are the value, as the wire type says.
	number uint64
	bytes  []byte
	err    error
}

// next goes to the next field. It is false at the end, and at the first error.
func (f *fields) next() bool {
	b := f.rest
	if len(b) == 0 {
		return false
	}
	// Tags, lengths and many numbers are one byte long: the usual cases come first.
	if b[0] < 0x80 && b[0] >= 1<<3 && len(b) > 1 && b[1] < 0x80 {
		switch f.tag = uint64(b[0]); f.tag & 7 {
		case varintType:
			f.number, f.rest = uint64(b[1]), b[2:]
			return true
		case bytesType:
			if end := 2 + int(b[1]); end <= len(b) {
				f.bytes, f.rest = b[2:end], b[end:]
				return true
			}
		}
	}
	return f.nextOfAnyForm()
}

func (f *fields) nextOfAnyForm() bool {
	tag, n := protowire.ConsumeVarint(f.rest)
	if n < 0 {
		return f.fail(errTruncated)
	}
	f.tag, f.rest = tag, f.rest[n:]
	num := tag >> 3
	if num < uint64(protowire.MinValidNumber) || num > uint64(protowire.MaxValidNumber) {
		return f.fail(fmt.Errorf("field number %d does not exist", num))
	}
	switch tag & 7 {
	case varintType:
		f.number, n = protowire.ConsumeVarint(f.rest)
	case bytesType:
		f.bytes, n = protowire.ConsumeBytes(f.rest)
	default:
		n = protowire.ConsumeFieldValue(protowire.Number(num), protowire.Type(tag&7), f.rest)
	}
	if n < 0 {
		return f.fail(protowire.ParseError(n))
	}
	f.rest = f.rest[n:]
	return true
}

func (f *fields) fail(err error) bool {
	f.err = err
	return false
}

// text is the value as text that points into the message.
func (f *fields) text() (string, error) {
	if !ascii(f.bytes) && !utf8.Valid(f.bytes) {
		return "", errText
	}
	return alias(f.bytes), nil
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// alias is b as text, without a copy.
func alias(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}
