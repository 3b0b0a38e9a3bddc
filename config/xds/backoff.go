package xds

import (
	"math"
	"math/rand/v2"
	"time"
)

// healthyAfter is how long a stream must have lasted to count as one that worked, where
// no response of it was accepted: a control plane may have nothing to say.
const healthyAfter = time.Minute

// wait returns how long to leave the server alone after that many failures in a row, at
// least one, beginning with first.
func (o *Options) wait(failures int, first time.Duration) time.Duration {
	longest := float64(max(o.MaxInterval, first))
	d := min(float64(first)*math.Pow(o.Growth, float64(failures-1)), longest)
	if !o.Steady {
		d *= 1 - rand.Float64()/2
	}
	return time.Duration(d)
}

// refusalPause returns how long to keep a refusal back that is the same as the one
// before: many servers answer one at once with what was refused.
func refusalPause(same int) time.Duration {
	const most = 15 * time.Second
	if same == 0 {
		return 0
	}
	return min(time.Second<<min(same-1, 10), most)
}
