package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/limiter"
)

func TestReservationIDsAsText(t *testing.T) {
	strict := base64.RawURLEncoding.Strict()
	rapid.Check(t, func(t *rapid.T) {
		var id limiter.ID
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		text := encodeID(id)
		if len(text) != idLen || text != strict.EncodeToString(id[:]) {
			t.Fatalf("%x is written as %q", id, text)
		}
		if got, ok := decodeID(text); !ok || got != id {
			t.Fatalf("%q is read as %x, %v; want %x", text, got, ok, id)
		}
		// Any other text of that length is an id exactly if base64 says so.
		other := []byte(text)
		other[rapid.IntRange(0, idLen-1).Draw(t, "at")] = rapid.Byte().Draw(t, "letter")
		want, err := strict.DecodeString(string(other))
		// The package passes over line ends.
		valid := err == nil && !bytes.ContainsAny(other, "\r\n")
		if got, ok := decodeID(string(other)); ok != valid || (ok && !bytes.Equal(got[:], want)) {
			t.Fatalf("%q is read as %x, %v; want %x, %v", other, got, ok, want, valid)
		}
	})
	for _, text := range []string{"", "A", "AAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAA="} {
		if _, ok := decodeID(text); ok {
			t.Errorf("%q is read as an id", text)
		}
	}
}

func TestIDsDoNotRepeat(t *testing.T) {
	seen := map[limiter.ID]bool{}
	for range 4 {
		s := newScratch()
		for range 1000 {
			id := s.newID()
			if seen[id] || id == (limiter.ID{}) {
				t.Fatalf("id %x comes again", id)
			}
			seen[id] = true
		}
	}
}

func TestCallersAreHeldNoLongerThanTheyCanWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDecider(brokenStore{}, loaded(t, opus(), "a", nil), newMetrics("test"), slog.New(slog.DiscardHandler), 1)
		time.Sleep(time.Hour)
		for _, c := range []struct {
			name           string
			wait, deadline time.Duration
			want           time.Duration // 0: not at all
		}{
			{"no wish", 0, 0, 0},
			{"a second", time.Second, 0, time.Second},
			{"a day", 24 * time.Hour, 0, maxHold},
			{"longer than the deadline", time.Minute, 800 * time.Millisecond, 750 * time.Millisecond},
			{"a short deadline", time.Minute, 40 * time.Millisecond, 35 * time.Millisecond},
			{"hardly a deadline", time.Minute, time.Millisecond, 0},
			{"a deadline that has passed", time.Minute, -time.Second, 0},
		} {
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if c.deadline != 0 {
				ctx, cancel = context.WithTimeout(ctx, c.deadline)
			}
			now := d.now()
			want := limiter.Instant(0)
			if c.want > 0 {
				want = now.Add(c.want)
			}
			if got := d.holdUntil(ctx, now, c.wait); got != want {
				t.Errorf("%s: held for %v, want %v", c.name, got.Sub(now), c.want)
			}
			cancel()
		}
	})
}
