package server

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// retainedMessage is a message that reads itself and goes on pointing into what it
// read: its strings are the received bytes. Whoever owns the message frees the buffer
// when the call has ended.
type retainedMessage interface {
	// parseRetained replaces the message by what buf encodes. It takes a reference to
	// buf over, also where it returns an error.
	parseRetained(buf mem.Buffer) error
}

// codecOption makes a gRPC server read and write the messages that have an encoding
// of their own without protobuf objects, and all others as it always does.
func codecOption() grpc.ServerOption {
	return grpc.ForceServerCodecV2(codec{fallback: encoding.GetCodecV2(grpcproto.Name)})
}

// codec is the gRPC codec of the name "proto". It is safe for concurrent use.
type codec struct{ fallback encoding.CodecV2 }

// Name implements encoding.CodecV2.
func (c codec) Name() string { return grpcproto.Name }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case *encodedReply:
		return m.buffers(), nil
	case wireMessage:
		pool := mem.DefaultBufferPool()
		scratch := pool.Get(encodeSpace)
		b := m.appendWire((*scratch)[:0])
		*scratch = b[:cap(b)]
		if mem.IsBelowBufferPoolingThreshold(len(b)) {
			r := newEncodedReply(b)
			pool.Put(scratch)
			return r.buffers(), nil
		}
		*scratch = b
		return mem.BufferSlice{mem.NewBuffer(scratch, pool)}, nil
	}
	return c.fallback.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case retainedMessage:
		return m.parseRetained(data.MaterializeToBuffer(mem.DefaultBufferPool()))
	case wireMessage:
		buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer buf.Free()
		return m.parseWire(buf.ReadOnlyData())
	}
	return c.fallback.Unmarshal(data, v)
}

// encodeSpace is the size of the buffers that messages are written into: one of the
// pool's own sizes.
const encodeSpace = 4 << 10

// inlineReply is how long an answer may be to need one allocation only. An answer with
// one status has 40 bytes, a denial with its body about 500.
const inlineReply = 192

// encodedReply is an answer as it goes on the wire. The transport keeps pointing at it
// after the call has ended, so it is not used again.
type encodedReply struct {
	slice [1]mem.Buffer
	data  mem.SliceBuffer
	room  [inlineReply]byte
}

// newEncodedReply copies b.
func newEncodedReply(b []byte) *encodedReply {
	r := new(encodedReply)
	r.data = append(mem.SliceBuffer(r.room[:0]), b...)
	r.slice[0] = &r.data
	return r
}

func (r *encodedReply) buffers() mem.BufferSlice { return r.slice[:] }
