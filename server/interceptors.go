package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// maxMessage bounds a request. Access logs have a bound of their own, maxReceive.
const maxMessage = 64 << 10

// maxReceive is what the transport lets in. Only access logs may be that long: the
// first message of a proxy lists all that the proxy can do, and a flush after a stall
// is one message.
const maxReceive = 4 << 20

// doorman stands before every call that is not on the decision path of a proxy: it
// bounds the calls in flight, turns errors into codes, and catches panics.
type doorman struct {
	d *decider
	// cut ends when streams are to end, because the server drains.
	cut context.Context
	// streams bounds the streams of a connection. Nil where there are no streams.
	streams *streamBound
}

// unary implements grpc.UnaryServerInterceptor.
func (m doorman) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer func() { err = m.outcome(ctx, info.FullMethod, err, recover()) }()
	if strings.HasPrefix(info.FullMethod, "/grpc.") {
		return next(ctx, req) // health is asked for when there is too much to do, too
	}
	if !m.d.enter() {
		return nil, m.full()
	}
	defer m.d.leave()
	return next(ctx, req)
}

// session runs a stream that knows how to end.
func (m doorman) session(method string, ss grpc.ServerStream, run func() error) (err error) {
	defer func() { err = m.outcome(ss.Context(), method, err, recover()) }()
	return run()
}

// watcher runs a stream that would go on for ever, and ends it when the server drains.
func (m doorman) watcher(method string, ss grpc.ServerStream, run func() error) error {
	over := make(chan error, 1)
	go func() { over <- m.session(method, ss, run) }()
	select {
	case err := <-over:
		return err
	case <-m.cut.Done():
		return grpcError(&fault{reason: draining, got: "the server is about to stop", want: "the caller to go elsewhere"})
	}
}

// connect is the same for the JSON door.
func (m doorman) connect(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (resp connect.AnyResponse, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = m.caught(ctx, req.Spec().Procedure, p)
			}
			m.count(ctx, req.Spec().Procedure, err)
			err = connectError(err)
		}()
		if !m.d.enter() {
			return nil, m.full()
		}
		defer m.d.leave()
		return next(ctx, req)
	}
}

func (m doorman) full() error {
	return &fault{
		reason: overloaded, got: fmt.Sprintf("%d calls are in flight already", m.d.maxInFlight),
		want: "the caller to come back later; nothing was charged",
	}
}

func (m doorman) outcome(ctx context.Context, method string, err error, panicked any) error {
	if panicked != nil {
		err = m.caught(ctx, method, panicked)
	}
	m.count(ctx, method, err)
	return grpcError(err)
}

// caught logs a panic with its stack. The caller learns that it happened, not where.
func (m doorman) caught(ctx context.Context, method string, panicked any) error {
	m.d.metrics.panics.Inc()
	m.d.log.LogAttrs(ctx, slog.LevelError, "a call panicked",
		slog.String("method", method), slog.Any("panic", panicked), slog.String("stack", string(debug.Stack())))
	return &fault{reason: broken, got: "internal error: weir has a bug, which it logged"}
}

// count counts an error, and logs those that are not the caller's.
func (m doorman) count(ctx context.Context, method string, err error) {
	if err == nil {
		return
	}
	code := codeOf(err)
	m.d.metrics.errors.WithLabelValues(code.String()).Inc()
	if f := (*fault)(nil); errors.As(err, &f) && f.cause != nil && f.reason == storeSick {
		m.d.log.LogAttrs(ctx, slog.LevelWarn, "the store failed",
			slog.String("method", method), slog.String("error", f.cause.Error()))
	}
}

// inbound is a protobuf message on its way in, with the bound on its length: gRPC
// itself knows one bound for all methods, and calls a malformed message INTERNAL.
type inbound struct {
	message proto.Message
	err     error
}

// appendWire implements wireMessage; nobody sends an inbound.
func (in *inbound) appendWire(b []byte) []byte { return b }

// parseWire implements wireMessage. It keeps its error: gRPC would send one that it is
// given, as INTERNAL.
func (in *inbound) parseWire(b []byte) error {
	if in.err = checkSize(len(b)); in.err == nil {
		if err := proto.Unmarshal(b, in.message); err != nil {
			in.err = malformed(in.message, err)
		}
	}
	return nil
}

// checkSize checks the length of a message.
func checkSize(n int) error {
	if n <= maxMessage {
		return nil
	}
	return &fault{
		reason: tooLarge, field: "message", got: fmt.Sprintf("got %d bytes", n),
		want: fmt.Sprintf("at most %d", maxMessage),
	}
}

// malformed says that a message is not one.
func malformed(m proto.Message, cause error) error {
	return &fault{
		reason: invalid, field: "message", got: "got bytes that do not parse: " + cause.Error(),
		want: "a " + string(m.ProtoReflect().Descriptor().FullName()), cause: cause,
	}
}

// strict registers services that stand behind the doorman.
type strict struct {
	*grpc.Server
	man doorman
}

// RegisterService implements grpc.ServiceRegistrar. The doorman is not an interceptor
// of the server: that would cost the decision path of proxies, too.
func (r strict) RegisterService(desc *grpc.ServiceDesc, impl any) {
	out := *desc
	out.Methods = slices.Clone(desc.Methods)
	for i := range out.Methods {
		handle := out.Methods[i].Handler
		out.Methods[i].Handler = func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return handle(srv, ctx, func(v any) error { return r.man.decode(v, decode) }, r.man.unary)
		}
	}
	out.Streams = slices.Clone(desc.Streams)
	for i := range out.Streams {
		handle, method := out.Streams[i].Handler, "/"+desc.ServiceName+"/"+out.Streams[i].StreamName
		run := r.man.watcher
		if method == weirv1.QuotaService_Session_FullMethodName {
			run = r.man.session
		}
		out.Streams[i].Handler = func(srv any, ss grpc.ServerStream) error {
			return run(method, ss, func() error {
				leave, err := r.man.streams.enter(ss)
				if err != nil {
					return err
				}
				defer leave()
				return handle(srv, ss)
			})
		}
	}
	r.Server.RegisterService(&out, impl)
}

func (m doorman) decode(v any, decode func(any) error) error {
	message, ok := v.(proto.Message)
	if !ok {
		return decode(v)
	}
	in := &inbound{message: message}
	err := decode(in)
	if err == nil {
		err = grpcError(in.err)
	}
	if err != nil {
		m.d.metrics.errors.WithLabelValues(codeOf(err).String()).Inc()
	}
	return err
}
