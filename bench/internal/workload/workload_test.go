package workload

import (
	"testing"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/proto"

	"github.com/weir-project/weir/bench/internal/messages"
)

func decode(t *testing.T, frame []byte) *rlsv3.RateLimitRequest {
	t.Helper()
	var m rlsv3.RateLimitRequest
	if len(frame) < 5 || int(frame[3])<<8+int(frame[4]) != len(frame)-5 {
		t.Fatalf("frame %q does not state its length", frame)
	}
	if err := proto.Unmarshal(frame[5:], &m); err != nil {
		t.Fatal(err)
	}
	return &m
}

func TestEachNamesEveryKeyOnceOverAllConnections(t *testing.T) {
	const keys = 1000
	next, err := New(Spec{Kind: "one", Keys: keys, Order: "each"})
	if err != nil {
		t.Fatal(err)
	}
	conns := []func([]byte) []byte{next(0), next(1)}
	seen := map[string]bool{}
	for i := range keys {
		m := decode(t, conns[i%2](nil))
		seen[m.Descriptors[0].Entries[2].Value] = true
	}
	for i := range keys {
		if !seen[messages.User(i)] {
			t.Fatalf("%s was not asked for; %d of %d were", messages.User(i), len(seen), keys)
		}
	}
}

func TestZipfFavoursFewKeysAndUniformNone(t *testing.T) {
	share := func(order string) float64 {
		next, err := New(Spec{Kind: "four", Keys: 1000, Order: order})
		if err != nil {
			t.Fatal(err)
		}
		ask, count := next(0), map[string]int{}
		const draws = 20_000
		for range draws {
			m := decode(t, ask(nil))
			count[m.Descriptors[3].Entries[2].Value]++
		}
		most := 0
		for _, n := range count {
			most = max(most, n)
		}
		return float64(most) / draws
	}
	if got := share("zipf"); got < 0.05 {
		t.Errorf("zipf: the most frequent key has %.3f of the draws, want at least 0.05", got)
	}
	if got := share("uniform"); got > 0.01 {
		t.Errorf("uniform: the most frequent key has %.3f of the draws, want at most 0.01", got)
	}
}

func TestEveryReportNamesAnAskThatWasMadeOnce(t *testing.T) {
	next, err := New(Spec{Kind: "llm"})
	if err != nil {
		t.Fatal(err)
	}
	asked, reported := map[string]bool{}, map[string]bool{}
	for _, call := range []func([]byte) []byte{next(0), next(7)} {
		for range 2000 {
			e := decode(t, call(nil)).Descriptors[0].Entries
			if e[0].Key == "request_id" {
				if id := e[0].Value; !asked[id] || reported[id] {
					t.Fatalf("report of %s: asked %v, reported before %v", id, asked[id], reported[id])
				}
				reported[e[0].Value] = true
				continue
			}
			id := e[len(e)-1].Value
			if asked[id] {
				t.Fatalf("%s was asked twice", id)
			}
			asked[id] = true
		}
	}
	if len(reported) < len(asked)/2 {
		t.Errorf("%d asks, %d reports", len(asked), len(reported))
	}
}

func TestUnknownNamesAreRefused(t *testing.T) {
	for _, s := range []Spec{{Kind: "five"}, {Kind: "one", Order: "backwards"}} {
		if _, err := New(s); err == nil {
			t.Errorf("%+v: want an error", s)
		}
	}
}
