package stats

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantilesAreWithinTheStatedErrorOfTheSortedValues(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(r.ExpFloat64() * float64(300*time.Microsecond))
		h.Record(d)
		all = append(all, d)
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[min(int(q*float64(len(all))), len(all)-1)]
		got := h.Quantile(q)
		if got < want || float64(got) > float64(want)*(1+1.0/subBuckets)+1 {
			t.Errorf("quantile %v: got %v, want %v and at most 1/%d more", q, got, want, subBuckets)
		}
	}
}

func TestBucketsAreInOrderAndHoldTheirValues(t *testing.T) {
	for _, v := range []uint64{0, 1, 63, 64, 65, 127, 128, 129, 1 << 20, 1<<40 + 12345, 1 << 62} {
		i := bucketOf(v)
		if up := upperOf(i); up < v {
			t.Errorf("value %d: bucket %d ends at %d", v, i, up)
		}
		if i > 0 && upperOf(i-1) >= v {
			t.Errorf("value %d: the bucket before %d holds it too, up to %d", v, i, upperOf(i-1))
		}
	}
}

func TestSpreadOfEvenAndOddRounds(t *testing.T) {
	if got, want := SpreadOf([]float64{3, 1, 2}), (Spread{2, 1, 3}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := SpreadOf([]float64{4, 1, 2, 3}), (Spread{2.5, 1, 4}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
