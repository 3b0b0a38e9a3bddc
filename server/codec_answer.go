package server

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-project/weir/limiter"
)

// The codes of envoy.service.ratelimit.v3.RateLimitResponse.
const (
	codeOK        = 1
	codeOverLimit = 2
)

// rlsResponse is envoy.service.ratelimit.v3.RateLimitResponse, as far as weir fills it.
type rlsResponse struct {
	code     int32
	statuses []rlsStatus
	headers  []rlsHeader // of the answer to the caller
	body     []byte
	// reservation goes into the dynamic metadata, if reserved.
	reservation limiter.ID
	reserved    bool
	// metadata is the dynamic metadata, encoded, of who reserves nothing.
	metadata []byte
}

// rlsStatus is RateLimitResponse.DescriptorStatus. Without a limit it is a code only.
type rlsStatus struct {
	code       int32
	limit      *limiter.Limit
	perUnit    uint32
	unit       int32
	multiplier uint32 // 1 is left out
	bare       bool   // the limit is called by its own name, or by none
	remaining  uint32
	reset      time.Duration
}

// rlsHeader is envoy.config.core.v3.HeaderValue.
type rlsHeader struct {
	key   string
	value []byte
}

// reset empties r and keeps its room.
func (r *rlsResponse) reset() {
	clear(r.statuses)
	clear(r.headers)
	*r = rlsResponse{statuses: r.statuses[:0], headers: r.headers[:0]}
}

// append appends the protobuf encoding to b.
func (r *rlsResponse) append(b []byte) []byte {
	b = appendNumber(b, 1, uint64(r.code))
	var at int
	for i := range r.statuses {
		b, at = openMessage(b, 2)
		b = r.statuses[i].append(b)
		b = closeMessage(b, at)
	}
	for i := range r.headers {
		b, at = openMessage(b, 3)
		b = appendText(b, 1, r.headers[i].key)
		b = appendData(b, 2, r.headers[i].value)
		b = closeMessage(b, at)
	}
	b = appendData(b, 5, r.body)
	if r.reserved {
		b = appendReservation(b, r.reservation)
	}
	return appendData(b, 6, r.metadata)
}

// append appends the protobuf encoding to b.
func (s *rlsStatus) append(b []byte) []byte {
	b = appendNumber(b, 1, uint64(s.code))
	if s.limit == nil {
		return appendNumber(b, 3, uint64(s.remaining))
	}
	b, limit := openMessage(b, 2)
	b = appendNumber(b, 1, uint64(s.perUnit))
	b = appendNumber(b, 2, uint64(s.unit))
	if s.bare {
		b = appendText(b, 3, s.limit.Name)
	} else {
		var name int
		b, name = openMessage(b, 3)
		b = appendLimitName(b, s.limit)
		b = closeMessage(b, name)
	}
	if s.multiplier > 1 {
		var m int
		b, m = openMessage(b, 4)
		b = appendNumber(b, 1, uint64(s.multiplier))
		b = closeMessage(b, m)
	}
	b = closeMessage(b, limit)
	b = appendNumber(b, 3, uint64(s.remaining))
	b, reset := openMessage(b, 4)
	b = appendNumber(b, 1, uint64(s.reset/time.Second))
	b = appendNumber(b, 2, uint64(s.reset%time.Second))
	return closeMessage(b, reset)
}

// appendLimitName appends the name under which a limit is shown: its own, or that of
// its owner and what it counts.
func appendLimitName(b []byte, l *limiter.Limit) []byte {
	if l.Name != "" {
		return append(b, l.Name...)
	}
	b = append(b, l.Owner...)
	b = append(b, '/')
	return append(b, l.Meter.String()...)
}

// reservationKey is the key of the dynamic metadata under which the filter keeps the
// reservation until the call ends.
const reservationKey = "reservation"

// appendReservation appends the field dynamic_metadata, {"reservation": id}.
func appendReservation(b []byte, id limiter.ID) []byte {
	b, metadata := openMessage(b, 6)
	b, entry := openMessage(b, 1)
	b = appendText(b, 1, reservationKey)
	b, value := openMessage(b, 2)
	b, text := openMessage(b, 3)
	b = appendID(b, id)
	b = closeMessage(b, text)
	b = closeMessage(b, value)
	b = closeMessage(b, entry)
	return closeMessage(b, metadata)
}

// appendNumber appends a field with a number; zero is left out, as in proto3.
func appendNumber(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

// appendText appends a field with a text; an empty one is left out.
func appendText(b []byte, num protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), v)
}

// appendData appends a field with bytes; an empty one is left out.
func appendData(b []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

// openMessage begins a field whose length is not known yet; closeMessage, given at,
// ends it. There is room for one byte of length, which is nearly always enough.
func openMessage(b []byte, num protowire.Number) (_ []byte, at int) {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return append(b, 0), len(b)
}

func closeMessage(b []byte, at int) []byte {
	size := len(b) - at - 1
	if size < 0x80 {
		b[at] = byte(size)
		return b
	}
	more := protowire.SizeVarint(uint64(size)) - 1
	b = append(b, make([]byte, more)...)
	copy(b[at+1+more:], b[at+1:len(b)-more])
	protowire.AppendVarint(b[:at], uint64(size))
	return b
}
