package server

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"pgregory.net/rapid"
)

// TestStrictCountsLikeTheReference: counts and answers of random requests are those of a
// slow model of how envoyproxy/ratelimit counts.
func TestStrictCountsLikeTheReference(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		script := rapid.SliceOfN(rapid.Custom(countedCall), 1, 30).Draw(rt, "script")
		failed := ""
		synctest.Test(t, func(t *testing.T) { failed = countAlike(t, script) })
		if failed != "" {
			rt.Fatal(failed)
		}
	})
}

// countedRequest is a request after a pause.
type countedRequest struct {
	pause       time.Duration
	hits        uint32
	descriptors []countedDescriptor
}

type countedDescriptor struct {
	key, value string
	own        int // hits of its own; -1 for none
	negative   bool
	along      int // a limit that comes along; -1 for none
}

func countedCall(rt *rapid.T) countedRequest {
	return countedRequest{
		pause: time.Duration(rapid.SampledFrom([]int{0, 0, 1, 20, 59, 60}).Draw(rt, "pause")) * time.Second,
		hits:  rapid.Uint32Range(0, 4).Draw(rt, "hits"),
		descriptors: rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) countedDescriptor {
			return countedDescriptor{
				key:   rapid.SampledFrom([]string{"m3", "m10", "none", "shy", "q1", "q2", "white", "any"}).Draw(rt, "key"),
				value: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "value"),
				own:   rapid.OneOf(rapid.Just(-1), rapid.IntRange(0, 12)).Draw(rt, "own hits"), negative: rapid.IntRange(0, 3).Draw(rt, "negative") == 0,
				along: rapid.OneOf(rapid.Just(-1), rapid.Just(-1), rapid.IntRange(0, 6)).Draw(rt, "along"),
			}
		}), 1, 4).Draw(rt, "descriptors"),
	}
}

// countAlike plays a script and returns the first difference.
func countAlike(t *testing.T, script []countedRequest) string {
	w := newRatelimitWorld(t, true, RatelimitOptions{})
	time.Sleep(time.Second)
	m := slowReference{}
	for _, step := range script {
		time.Sleep(step.pause)
		r := &rlsv3.RateLimitRequest{Domain: "t", HitsAddend: step.hits}
		for _, d := range step.descriptors {
			p := request("t", d.key+"="+d.value).GetDescriptors()[0]
			if p.IsNegativeHits = d.negative; d.own >= 0 {
				p.HitsAddend = wrapperspb.UInt64(uint64(d.own))
			}
			if d.along >= 0 {
				p.Limit = withLimit(request("t", ""), uint32(d.along), typev3.RateLimitUnit_MINUTE).GetDescriptors()[0].GetLimit()
			}
			r.Descriptors = append(r.Descriptors, p)
		}
		out, err := w.rls.ShouldRateLimit(t.Context(), r)
		if err != nil {
			return err.Error()
		}
		if got, want := told(out), m.answer(step); got != want {
			return fmt.Sprintf("%v:\n got %s\nwant %s", r, got, want)
		}
	}
	return ""
}

// slowReference holds a number for each list of entries and each minute: all limits of
// the requests that it is asked are per minute, and in one domain.
type slowReference map[string]uint64

func (m slowReference) answer(r countedRequest) string {
	text, hard, quotas, quotasOver := "", false, 0, 0
	for _, d := range r.descriptors {
		limit, limited := map[string]uint64{"m3": 3, "m10": 10, "none": 0, "shy": 1, "q1": 1, "q2": 2}[d.key]
		if d.along >= 0 {
			limit, limited = uint64(d.along), true
		}
		if !limited {
			text += " | ok"
			continue
		}
		count := m.count(d, max(uint64(r.hits), 1))
		shadow, soft := d.along < 0 && d.key == "shy", d.along < 0 && d.key[0] == 'q'
		over := count > limit && !d.negative && !shadow
		if hard = hard || over && !soft; soft {
			quotas++
		}
		code, name := "ok", ""
		if over {
			code = "over"
			if soft {
				quotasOver++
			}
		}
		if d.along < 0 && d.key == "m3" {
			name = "three "
		}
		text += fmt.Sprintf(" | %s %d of %d/minute %s%s", code, limit-min(count, limit), limit, name, time.Duration(60-time.Now().Unix()%60)*time.Second)
	}
	if hard || quotas > 0 && quotas == quotasOver {
		return "over" + text
	}
	return "ok" + text
}

// count counts d, and returns what is counted now.
func (m slowReference) count(d countedDescriptor, hits uint64) uint64 {
	at := fmt.Sprint(d.key, "=", d.value, " ", time.Now().Unix()/60)
	if d.own >= 0 {
		hits = uint64(d.own)
	}
	if d.negative {
		hits = -min(hits, m[at])
	}
	m[at] += hits
	return m[at]
}
