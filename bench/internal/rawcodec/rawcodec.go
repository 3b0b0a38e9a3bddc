// Package rawcodec is a gRPC codec that hands bytes through, for measuring streams
// without what encoding costs.
package rawcodec

import (
	"fmt"

	"google.golang.org/grpc/mem"
)

// Codec takes and gives *[]byte. The zero value is ready, and safe for concurrent
// use. What was given to Marshal must not be changed afterwards.
type Codec struct{}

// Name is what content types call it; nobody does.
func (Codec) Name() string { return "raw" }

// Marshal returns the bytes, not a copy.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("raw codec: a message is a %T, want *[]byte", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*b)}, nil
}

// Unmarshal copies the bytes over what v points at, as far as it has room.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("raw codec: a message is a %T, want *[]byte", v)
	}
	n := data.Len()
	if cap(*b) < n {
		*b = make([]byte, n)
	}
	*b = (*b)[:n]
	data.CopyTo(*b)
	return nil
}
