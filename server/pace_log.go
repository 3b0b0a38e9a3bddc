package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/provider"
)

// paceLog writes a line for each change of what was learned. It looks when something was
// refused, or a limit was stated that was not in force, or an overload may be over; and at
// most once in a while. So a line is about all that changed since the one before. It is
// safe for concurrent use.
type paceLog struct {
	d *decider

	mu     sync.Mutex
	timer  *time.Timer // set while a look is due; guarded by mu, as is all below
	looked limiter.Instant
	seen   map[string]seenQuota // as far as there is something to remember
	ended  bool
}

// seenQuota is how a quota stood when it was last looked at.
type seenQuota struct {
	paces    [3]seenPace
	flight   uint64
	sick     bool
	spent    bool
	entitled limiter.Instant // when a lack of rights was last written
}

type seenPace struct {
	eventAt            limiter.Instant
	rate, burst, limit float64
}

const (
	// betweenLooks is how often changes are looked for at most.
	betweenLooks = time.Second
	// maxPaceLines is how many are written after one look; the rest is counted.
	maxPaceLines = 20
	// betweenRights is how often the same lack of rights is written.
	betweenRights = time.Minute
)

// changed notes that there may be something to write.
func (l *paceLog) changed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arm()
}

// arm lets changes be looked for as soon as they may. l.mu is held.
func (l *paceLog) arm() {
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
		return // the next change looks again
	}
	seen, sick := make(map[string]seenQuota, len(l.seen)), false
	lines := paceLines{ctx: ctx, log: l.d.log}
	for i := range views {
		v := &views[i]
		if len(v.Paces) == 0 {
			continue
		}
		key := quotaOrder(v)
		s := lines.compare(now, v, l.seen[key])
		if s.remarkable() {
			seen[key] = s
		}
		sick = sick || s.sick
	}
	l.seen = seen
	if lines.n > maxPaceLines {
		l.d.log.InfoContext(ctx, "learned more than is shown", slog.Int("changes", lines.n-maxPaceLines))
	}
	if sick {
		l.arm() // nothing says when it is over
	}
}

// remarkable says whether a quota stands otherwise than one that nothing was learned of.
func (s *seenQuota) remarkable() bool { return *s != seenQuota{} }

// paceLines writes the lines of one look.
type paceLines struct {
	ctx context.Context
	log *slog.Logger
	n   int
}

// compare writes in what v stands otherwise than before, and returns how it stands.
func (w *paceLines) compare(now limiter.Instant, v *limiter.QuotaView, before seenQuota) seenQuota {
	s := seenQuota{flight: v.InFlightCap, sick: v.OverloadRate > 0, spent: v.SpendUntil > now, entitled: before.entitled}
	for i := range min(len(v.Paces), len(s.paces)) {
		s.paces[i] = w.comparePace(v, &v.Paces[i], before.paces[i])
	}
	if p := &v.Paces[limiter.Requests]; p.LastClass == limiter.ClassEntitlement && p.LastClassAt >= s.entitled.Add(betweenRights) {
		s.entitled = p.LastClassAt
		w.write(v, "refused by the upstream: the credential lacks a right")
	}
	switch {
	case s.sick && !before.sick:
		w.write(v, "the upstream is overloaded, fewer calls are tried", slog.Float64("tried_per_minute", v.OverloadRate))
	case !s.sick && before.sick:
		w.write(v, "the upstream is not overloaded any more")
	}
	if s.spent && !before.spent {
		w.write(v, "the money is spent, nothing is sent", slog.Time("until", v.SpendUntil.Time()))
	}
	if s.flight > 0 && (before.flight == 0 || s.flight < before.flight) {
		w.write(v, "learned how many calls may be open at a time", slog.Uint64("in_flight_cap", s.flight), slog.Uint64("cap_before", before.flight))
	}
	return s
}

func (w *paceLines) comparePace(v *limiter.QuotaView, p *limiter.PaceView, before seenPace) seenPace {
	var s seenPace
	meter := slog.String("meter", p.Meter.String())
	if p.Source == limiter.StatedLimit {
		if s.limit = p.Limit; s.limit != before.limit {
			w.write(v, "learned a limit from headers", meter,
				slog.Float64("limit_per_minute", p.Limit), slog.Float64("rate_before", p.Before))
		}
	}
	if p.LastEvent == limiter.NoEvent {
		return s
	}
	s.eventAt, s.rate, s.burst = p.LastEventAt, p.Rate, p.Burst
	if s.eventAt == before.eventAt {
		return s
	}
	attrs := []slog.Attr{
		meter, slog.String("event", p.LastEvent.String()), slog.String("class", provider.ClassName(p.LastClass)),
		slog.Float64("rate_per_minute", p.Rate), slog.Float64("burst_seconds", p.Burst),
		slog.Time("gate_until", p.GateUntil.Time()),
	}
	if before.eventAt != 0 {
		attrs = append(attrs, slog.Float64("rate_before", before.rate), slog.Float64("burst_before", before.burst))
	}
	w.write(v, "learned from a refusal", attrs...)
	return s
}

// write writes a line about a quota, unless there were too many.
func (w *paceLines) write(v *limiter.QuotaView, what string, attrs ...slog.Attr) {
	if w.n++; w.n > maxPaceLines {
		return
	}
	of := make([]any, 0, len(v.Attributes))
	for _, e := range v.Attributes {
		of = append(of, slog.String(e.Key, e.Value))
	}
	attrs = append([]slog.Attr{slog.String("quota", v.Name), slog.Group("of", of...)}, attrs...)
	w.log.LogAttrs(w.ctx, slog.LevelInfo, what, attrs...) //nolint:sloglint // what is a constant of each caller
}
