package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc/filters"
	"go.opentelemetry.io/contrib/propagators/b3"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/stats"
)

// tracing says how calls are traced.
type tracing struct {
	service, namespace, instance string
	grpc                         bool    // how spans are sent: over gRPC, or else over HTTP
	rate                         float64 // of the traces that begin here, from 0 to 1
}

// flushWithin bounds how long a process that ends waits for its last spans to be taken.
const flushWithin = 5 * time.Second

// start begins to trace. The handler makes a span of each call over gRPC but those for
// health; a caller's trace is gone on with, as it is told by W3C's headers or else B3's,
// and whether it is sampled is the caller's to say. Spans go to where the OTEL_ variables
// of the process say. stop sends the last ones.
func (t tracing) start(log *slog.Logger) (handler stats.Handler, stop func(), err error) {
	otel.SetErrorHandler(&exportErrors{log: log})
	ctx := context.Background()
	var exporter *otlptrace.Exporter
	if t.grpc {
		exporter, err = otlptracegrpc.New(ctx)
	} else {
		exporter, err = otlptracehttp.New(ctx)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("spans cannot be sent: %w", err)
	}
	provider := trace.NewTracerProvider(
		trace.WithBatcher(exporter),
		trace.WithResource(t.resource()),
		trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(t.rate))),
	)
	handler = otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(provider),
		otelgrpc.WithPropagators(propagation.NewCompositeTextMapPropagator(
			b3.New(), propagation.TraceContext{}, propagation.Baggage{})), // of two headers the later wins
		otelgrpc.WithFilter(filters.Not(filters.HealthCheck())),
	)
	return handler, func() {
		ctx, cancel := context.WithTimeout(ctx, flushWithin)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("the last spans were not sent", "error", err)
		}
	}, nil
}

// resource describes this process to who looks at its spans. What OTEL_RESOURCE_ATTRIBUTES
// says beside is added.
func (t tracing) resource() *resource.Resource {
	if t.instance == "" {
		t.instance = strings.ToLower(rand.Text())
	}
	own := []attribute.KeyValue{
		attribute.String("service.name", t.service),
		attribute.String("service.instance.id", t.instance),
		attribute.String("service.version", thisBuild().Version),
	}
	if t.namespace != "" {
		own = append(own, attribute.String("service.namespace", t.namespace))
	}
	all, err := resource.Merge(resource.Default(), resource.NewSchemaless(own...))
	if err != nil { // both have a schema, and not the same: then that of the SDK is left out
		return resource.NewSchemaless(own...)
	}
	return all
}

// exportErrors logs what goes wrong with spans, once a minute at most. It is safe for
// concurrent use.
type exportErrors struct {
	log *slog.Logger

	mu   sync.Mutex
	said time.Time // guarded by mu
}

// Handle implements otel.ErrorHandler.
func (e *exportErrors) Handle(err error) {
	e.mu.Lock()
	silent := !e.said.IsZero() && time.Since(e.said) < time.Minute
	if !silent {
		e.said = time.Now()
	}
	e.mu.Unlock()
	if !silent {
		e.log.Warn("spans are lost", "error", err)
	}
}
