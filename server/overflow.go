package server

import (
	"context"
	"log/slog"
	"time"
)

// betweenCounts is how often it is looked whether keys share counters.
const betweenCounts = 10 * time.Second

// watchOverflow says, once an hour at most, that the bound on keys is reached, so that
// new keys share a counter. It ends with ctx.
func (s *Server) watchOverflow(ctx context.Context) {
	look := time.NewTicker(betweenCounts)
	defer look.Stop()
	var counted uint64
	var said time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		now := time.Now()
		if !said.IsZero() && now.Sub(said) < between {
			continue
		}
		st, err := s.options.Store.Stats(ctx)
		if err != nil || st.Overflowed <= counted {
			continue
		}
		s.options.Logger.Warn("the bound on keys is reached: new keys share one counter for each limit, so callers share limits; raise --max-keys",
			slog.Uint64("keys", uint64(max(st.Keys, 0))), slog.Uint64("shared_charges", st.Overflowed-counted)) //nolint:gosec // not negative
		counted, said = st.Overflowed, now
	}
}
