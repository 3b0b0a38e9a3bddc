package server

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// reason says why a call failed, in weir's own terms. A refusal is not among them: it
// is an answer.
type reason uint8

const (
	// invalid: the call is wrong, and would be tomorrow.
	invalid reason = iota
	// tooLarge: the message is longer than its bound.
	tooLarge
	// notFound: it names what does not exist, or what is another tenant's.
	notFound
	// ended: the reservation has ended.
	ended
	// overloaded: weir itself has too much to do.
	overloaded
	// storeSick: the store did not answer.
	storeSick
	// draining: this server is about to end.
	draining
	// unserved: the call exists, but not on this door.
	unserved
	// broken: a bug.
	broken
	// untyped: it is wrong, and envoyproxy/ratelimit would say so without a code.
	untyped
)

// code is the only place that turns reasons into gRPC codes.
func (r reason) code() codes.Code {
	switch r {
	case invalid:
		return codes.InvalidArgument
	case tooLarge, overloaded:
		return codes.ResourceExhausted
	case notFound:
		return codes.NotFound
	case ended:
		return codes.FailedPrecondition
	case storeSick, draining:
		return codes.Unavailable
	case unserved:
		return codes.Unimplemented
	case broken:
		return codes.Internal
	case untyped:
		return codes.Unknown
	}
	return codes.Unknown
}

// fault is an error of a call: where it is wrong, what was found, and what was
// expected there.
type fault struct {
	reason reason
	field  string // path of the field, empty if it is about the call as a whole
	got    string
	want   string
	cause  error
}

// Error implements error, as one line for a person.
func (f *fault) Error() string {
	s := f.got
	if f.want != "" {
		s += ", expected " + f.want
	}
	if f.field != "" {
		s = f.field + ": " + s
	}
	return s
}

// Unwrap implements errors.Unwrap.
func (f *fault) Unwrap() error { return f.cause }

// wrong says that a field of the call is wrong. What was found is shown as text, cut
// where it is long.
func wrong(field, got, want string) error {
	return &fault{reason: invalid, field: field, got: "got " + got, want: want}
}

// quoted shows text that came with a call: printable whatever it holds, and short.
func quoted(text string) string {
	const most = 64
	if len(text) > most {
		return fmt.Sprintf("%q… (%d bytes)", text[:most], len(text))
	}
	return fmt.Sprintf("%q", text)
}

// sick says that the store failed. The cause goes to the log and not to the caller:
// it may name hosts.
func sick(cause error) error {
	if errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return &fault{reason: storeSick, got: "the store does not answer; nothing was charged, try again", cause: cause}
}

// codeOf says with which gRPC code a call fails that ends in err.
func codeOf(err error) codes.Code {
	var f *fault
	switch {
	case err == nil:
		return codes.OK
	case errors.As(err, &f):
		return f.reason.code()
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	}
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return codes.Internal
}

// messageOf is the text that the caller gets. What is not meant for callers stays in
// the log.
func messageOf(err error) string {
	if f, ok := errors.AsType[*fault](err); ok {
		return f.Error()
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unknown {
		return s.Message()
	}
	switch codeOf(err) {
	case codes.Canceled:
		return "the caller left"
	case codes.DeadlineExceeded:
		return "the deadline passed"
	default:
		return "internal error"
	}
}

// grpcError is err as gRPC sends it.
func grpcError(err error) error {
	if err == nil {
		return nil
	}
	return status.Error(codeOf(err), messageOf(err))
}

// connectError is err as Connect sends it: its codes are gRPC's.
func connectError(err error) error {
	var c *connect.Error
	if err == nil || errors.As(err, &c) {
		return err
	}
	return connect.NewError(connect.Code(codeOf(err)), errors.New(messageOf(err)))
}
