package server

import (
	"errors"
	"fmt"
	"unicode/utf8"
	"unsafe"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-project/weir/limiter"
)

// rlsRequest is envoy.service.ratelimit.v3.RateLimitRequest. Its strings point into
// the bytes received; release ends that.
type rlsRequest struct {
	domain      string
	descriptors []rlsDescriptor
	entries     []limiter.Entry // of all descriptors, in order
	hits        uint32
	// notText says that a string is not UTF-8, which protobuf does not allow. The
	// request was read nevertheless: it must be refused, and an error would let it pass.
	notText bool
	size    int // in bytes, as received

	buf mem.Buffer
}

// rlsDescriptor is envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.
type rlsDescriptor struct {
	first, end int // its entries: rlsRequest.entries[first:end]
	hits       uint64
	hasHits    bool
	negative   bool
	limit      rlsOverride
}

// rlsOverride is RateLimitDescriptor.RateLimitOverride.
type rlsOverride struct {
	set           bool
	amount        uint32
	unit          int32
	multiplier    uint32
	hasMultiplier bool
}

// parseRetained implements retainedMessage.
func (r *rlsRequest) parseRetained(buf mem.Buffer) error {
	r.release()
	r.buf = buf
	b := buf.ReadOnlyData()
	if r.size = len(b); r.size > maxRequest {
		return nil // refused for its size, without the room that its parts would need
	}
	return r.parse(b)
}

// The room that is kept for the next request: a request within bounds needs no more.
const (
	keptEntries     = 2 * maxDescriptors * maxEntries
	keptDescriptors = 2 * maxDescriptors
)

// release forgets the request and gives its bytes back.
func (r *rlsRequest) release() {
	if r.buf != nil {
		r.buf.Free()
	}
	if cap(r.entries) > keptEntries || cap(r.descriptors) > keptDescriptors {
		*r = rlsRequest{}
		return
	}
	clear(r.entries)
	*r = rlsRequest{descriptors: r.descriptors[:0], entries: r.entries[:0]}
}

// of returns the entries of a descriptor.
func (r *rlsRequest) of(d *rlsDescriptor) []limiter.Entry {
	return r.entries[d.first:d.end:d.end]
}

var errWire = errors.New("malformed message")

// field is one field of a message: its number and type, and its value as number or as
// bytes, for the two types that these messages are made of.
type field struct {
	num  protowire.Number
	typ  protowire.Type
	val  uint64
	data []byte
}

// next cuts the first field off b.
func (f *field) next(b []byte) (rest []byte, err error) {
	var n int
	if b[0] < 0x80 && b[0] >= 8 { // the usual tag is one byte
		f.num, f.typ, n = protowire.Number(b[0]>>3), protowire.Type(b[0]&7), 1
	} else if f.num, f.typ, n = protowire.ConsumeTag(b); n < 0 || f.num > protowire.MaxValidNumber {
		return nil, errWire
	}
	b = b[n:]
	switch f.typ {
	case protowire.BytesType:
		if len(b) > 0 && b[0] < 0x80 && int(b[0]) < len(b) { // the usual length is one byte
			n = 1 + int(b[0])
			f.data = b[1:n]
			return b[n:], nil
		}
		if f.data, n = protowire.ConsumeBytes(b); n < 0 {
			return nil, errWire
		}
	case protowire.VarintType:
		if f.val, n = protowire.ConsumeVarint(b); n < 0 {
			return nil, errWire
		}
	default: // no field of these messages has another type: it is skipped
		if n = protowire.ConsumeFieldValue(f.num, f.typ, b); n < 0 {
			return nil, errWire
		}
	}
	return b[n:], nil
}

// is says that the field has a number and a type: one of another type is unknown.
func (f *field) is(num protowire.Number, typ protowire.Type) bool {
	return f.num == num && f.typ == typ
}

func (r *rlsRequest) parse(b []byte) (err error) {
	var f field
	for len(b) > 0 {
		if b, err = f.next(b); err != nil {
			return err
		}
		switch {
		case f.is(1, protowire.BytesType):
			r.domain = r.text(f.data)
		case f.is(2, protowire.BytesType):
			if err := r.parseDescriptor(f.data); err != nil {
				return fmt.Errorf("descriptor %d: %w", len(r.descriptors)-1, err)
			}
		case f.is(3, protowire.VarintType):
			r.hits = uint32(f.val)
		}
	}
	return nil
}

func (r *rlsRequest) parseDescriptor(b []byte) (err error) {
	d := rlsDescriptor{first: len(r.entries)}
	r.descriptors = append(r.descriptors, d)
	var f field
	for len(b) > 0 {
		if b, err = f.next(b); err != nil {
			return err
		}
		switch {
		case f.is(1, protowire.BytesType):
			err = r.parseEntry(f.data)
		case f.is(2, protowire.BytesType):
			err = d.limit.parse(f.data)
		case f.is(3, protowire.BytesType):
			d.hasHits = true
			err = parseWrapped(f.data, &d.hits)
		case f.is(4, protowire.VarintType):
			d.negative = f.val != 0
		}
		if err != nil {
			return err
		}
	}
	d.end = len(r.entries)
	r.descriptors[len(r.descriptors)-1] = d
	return nil
}

func (r *rlsRequest) parseEntry(b []byte) (err error) {
	var e limiter.Entry
	var f field
	for len(b) > 0 {
		if b, err = f.next(b); err != nil {
			return err
		}
		switch {
		case f.is(1, protowire.BytesType):
			e.Key = r.text(f.data)
		case f.is(2, protowire.BytesType):
			e.Value = r.text(f.data)
		}
	}
	r.entries = append(r.entries, e)
	return nil
}

// parse merges b in: protobuf allows a message field to come in parts.
func (o *rlsOverride) parse(b []byte) (err error) {
	o.set = true
	var f field
	for len(b) > 0 {
		if b, err = f.next(b); err != nil {
			return err
		}
		switch {
		case f.is(1, protowire.VarintType):
			o.amount = uint32(f.val)
		case f.is(2, protowire.VarintType):
			o.unit = int32(f.val)
		case f.is(3, protowire.BytesType):
			o.hasMultiplier = true
			v := uint64(o.multiplier)
			err = parseWrapped(f.data, &v)
			o.multiplier = uint32(v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parseWrapped reads google.protobuf.UInt64Value or UInt32Value into v, leaving v
// alone where it says nothing.
func parseWrapped(b []byte, v *uint64) (err error) {
	var f field
	for len(b) > 0 {
		if b, err = f.next(b); err != nil {
			return err
		}
		if f.is(1, protowire.VarintType) {
			*v = f.val
		}
	}
	return nil
}

// text returns b as a string that shares its bytes. The buffer is read-only and kept
// until release, so the string does not change while it is in use.
func (r *rlsRequest) text(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if !utf8.Valid(b) {
		r.notText = true
	}
	return unsafe.String(&b[0], len(b))
}
