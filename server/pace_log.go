package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/weir-project/weir/limiter"
)

// paceLog writes a line for each change that a refusal made to what was learned. It
// looks when something was refused, and at most once in a while; so a line is about
// all that changed since the one before. It is safe for concurrent use.
type paceLog struct {
	d *decider

	mu     sync.Mutex
	timer  *time.Timer // set while a look is due; guarded by mu, as is all below
	looked limiter.Instant
	seen   map[string]limiter.PaceView // by quota and meter
	ended  bool
}

const (
	// betweenLooks is how often changes are looked for at most.
	betweenLooks = time.Second
	// maxPaceLines is how many are written after one look; the rest is counted.
	maxPaceLines = 20
)

// refused notes that the upstream refused something.
func (l *paceLog) refused() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil || l.ended {
		return
	}
	l.timer = time.AfterFunc(max(0, l.looked.Add(betweenLooks).Sub(l.d.now())), l.look)
}

// end ends looking.
func (l *paceLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.timer != nil {
		l.timer.Stop()
	}
}

// look writes what has changed.
func (l *paceLog) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	if l.ended {
		return
	}
	now := l.d.now()
	l.looked = now
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	views, err := l.d.store.Quotas(ctx, now)
	if err != nil {
		return // the next refusal looks again
	}
	seen, lines := make(map[string]limiter.PaceView, len(l.seen)), 0
	for i := range views {
		v := &views[i]
		for _, p := range v.Paces {
			if p.LastEvent == limiter.NoEvent {
				continue
			}
			key := quotaOrder(v) + " " + p.Meter.String()
			before, known := l.seen[key]
			seen[key] = p
			if known && before.LastEventAt == p.LastEventAt {
				continue
			}
			if lines++; lines <= maxPaceLines {
				l.write(ctx, v, &p, &before, known)
			}
		}
	}
	l.seen = seen
	if lines > maxPaceLines {
		l.d.log.InfoContext(ctx, "learned more from refusals than is shown", slog.Int("changes", lines-maxPaceLines))
	}
}

func (l *paceLog) write(ctx context.Context, v *limiter.QuotaView, p, before *limiter.PaceView, known bool) {
	of := make([]any, 0, len(v.Attributes))
	for _, e := range v.Attributes {
		of = append(of, slog.String(e.Key, e.Value))
	}
	attrs := []slog.Attr{
		slog.String("quota", v.Name), slog.Group("of", of...), slog.String("meter", p.Meter.String()),
		slog.String("event", p.LastEvent.String()),
		slog.Float64("rate_per_minute", p.Rate), slog.Float64("burst_seconds", p.Burst),
		slog.Time("gate_until", p.GateUntil.Time()),
	}
	if known {
		attrs = append(attrs, slog.Float64("rate_before", before.Rate), slog.Float64("burst_before", before.Burst))
	}
	l.d.log.LogAttrs(ctx, slog.LevelInfo, "learned from a refusal", attrs...)
}
