package limiter_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/limiter/limitertest"
)

// FuzzTimeline makes a history of arbitrary bytes and compares every answer with the
// model's. Fuzz it with -fuzzminimizetime=1x: the bytes of a history do not get shorter.
func FuzzTimeline(f *testing.F) {
	for _, seed := range []byte{0, 1, 0x55, 0xaa, 0xff} {
		data := make([]byte, 4096)
		for i := range data {
			data[i] = seed * byte(i+i/7)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rapid.MakeFuzz(func(rt *rapid.T) {
			o := limiter.Options{Shards: rapid.SampledFrom([]int{1, 4, 64}).Draw(rt, "shards")}
			h := limitertest.NewHistory(limitertest.NewWorld(rt, t, limitertest.NewBare, o, limitertest.Spec(rt)))
			for range rapid.IntRange(1, 50).Draw(rt, "steps") {
				h.Step(rt)
			}
		})(t, data)
	})
}
