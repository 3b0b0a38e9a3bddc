package server

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/store/memory"
)

// Handler returns what serves one call that r says, without its transport: bytes in, bytes
// out.
func Handler(tb testing.TB, l *config.Loaded, o RatelimitOptions, r proto.Message) func() {
	tb.Helper()
	store := memory.New(limiter.Options{})
	tb.Cleanup(store.Close)
	s := newRLS(newDecider(store, l, newMetrics("test"), slog.New(slog.DiscardHandler), 1000))
	s.ratelimit = o
	data, err := proto.Marshal(r)
	if err != nil {
		tb.Fatal(err)
	}
	dec := func(v any) error { return codec{}.Unmarshal(buffersOf(data), v) }
	ctx, cancel := context.WithTimeout(tb.Context(), time.Hour)
	tb.Cleanup(cancel)
	return func() {
		if _, err := s.handle(ctx, dec, nil); err != nil {
			tb.Fatal(err)
		}
	}
}
