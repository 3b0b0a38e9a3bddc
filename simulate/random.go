package simulate

import (
	"math"
	"math/rand/v2"
	"time"
)

// Dist is a distribution of sizes, in tokens.
type Dist struct {
	// Kind is "lognormal" (the default), "pareto" or "constant".
	Kind string `json:"kind,omitempty"`
	// Median is exceeded by half, P99 by one in a hundred.
	Median float64 `json:"median"`
	P99    float64 `json:"p99,omitempty"`
	// Max bounds all; 0 does not.
	Max float64 `json:"max,omitempty"`
}

func (d Dist) valid() bool {
	switch d.Kind {
	case "constant":
		return finite(d.Median) && d.Median > 0
	case "", "lognormal", "pareto":
		return finite(d.P99) && d.Median > 0 && d.P99 > d.Median && d.Max >= 0
	}
	return false
}

// z99 is the 99th percentile of the standard normal distribution.
const z99 = 2.3263478740408408

// quantile returns the size that a share u of all do not exceed, at least 1.
func (d Dist) quantile(u float64) float64 {
	v := d.Median
	switch d.Kind {
	case "constant":
	case "pareto":
		// P(X > x) = (least/x)^alpha, with 50 times fewer beyond P99 than beyond the median.
		alpha := math.Log(50) / math.Log(d.P99/d.Median)
		v = d.Median * math.Pow(2*(1-u), -1/alpha)
	default:
		sigma := math.Log(d.P99/d.Median) / z99
		v = d.Median * math.Exp(sigma*normal(u))
	}
	if d.Max > 0 {
		v = min(v, d.Max)
	}
	return max(1, math.Round(v))
}

// mean returns the mean size.
func (d Dist) mean() float64 {
	const n = 20_000
	var sum float64
	for i := range n {
		sum += d.quantile((float64(i) + 0.5) / n)
	}
	return sum / n
}

// normal returns the u-quantile of the standard normal distribution.
func normal(u float64) float64 { return math.Sqrt2 * math.Erfinv(2*u-1) }

// chance is one stream of random numbers.
type chance struct{ *rand.Rand }

func newChance(seed, stream uint64) chance {
	return chance{rand.New(rand.NewPCG(seed, stream))}
}

// uniform returns a number in (0, 1).
func (c chance) uniform() float64 { return c.Float64()*(1-1e-12) + 5e-13 }

// between returns a time in r.
func (c chance) between(r Range) time.Duration {
	return time.Duration(r.From) + time.Duration(c.Float64()*float64(r.To-r.From))
}

// exponential returns a time with the given mean, in seconds.
func (c chance) exponential(mean float64) time.Duration {
	return seconds(-math.Log(c.uniform()) * mean)
}

// seconds converts, saturating at a thousand years.
func seconds(s float64) time.Duration {
	return time.Duration(min(max(s, 0), 9e9) * float64(time.Second))
}
