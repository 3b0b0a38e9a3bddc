package simulate

import (
	"math"
	"time"

	"github.com/weir-project/weir/limiter"
)

// adaptive is the adaptive retry mode of the AWS SDKs: each process, here one for each
// tenant, paces its calls at a rate that follows a cubic curve between throttles, and
// repeats a refused call twice. It knows nothing of tokens, or of other processes.
type adaptive struct {
	s         *simulation
	processes []process
}

// process is the rate limiter of one process. Times are in seconds.
type process struct {
	enabled      bool
	fill         float64 // calls a second
	capacity     float64
	level        float64
	at           float64
	measured     float64 // calls sent a second, smoothed
	measuredAt   float64
	count        float64
	lastMax      float64
	lastThrottle float64
	window       float64
}

// The constants of the AWS SDKs.
const (
	awsBeta     = 0.7
	awsCubic    = 0.4
	awsSmooth   = 0.8
	awsLeast    = 0.5 // calls a second
	awsAttempts = 3
	awsBackoff  = 20.0 // seconds
)

func newAdaptive(s *simulation) *adaptive {
	return &adaptive{s: s, processes: make([]process, len(s.sc.Workload.Tenants))}
}

func (a *adaptive) time() float64 { return a.s.now.Sub(start).Seconds() }

func (p *process) refill(now float64) {
	p.level = min(p.capacity, p.level+(now-p.at)*p.fill)
	p.at = now
}

func (a *adaptive) ask(c *call) {
	p := &a.processes[c.tenant]
	if p.enabled {
		p.refill(a.time())
		if p.level < 1 {
			a.s.refer(c, a.s.now.Add(seconds((1-p.level)/p.fill)+time.Millisecond))
			return
		}
		p.level--
	}
	a.s.grant(c, 0)
}

func (a *adaptive) arrived(*call) {}

func (a *adaptive) begun(*call) {}

// report adapts the rate.
func (a *adaptive) report(c *call, r *reply) {
	p, now := &a.processes[c.tenant], a.time()
	p.measure(now)
	rate := 0.0
	if r.class == limiter.ClassOK {
		p.window = math.Cbrt(p.lastMax * (1 - awsBeta) / awsCubic)
		x := now - p.lastThrottle - p.window
		rate = awsCubic*x*x*x + p.lastMax
	} else {
		p.lastMax = p.measured
		if p.enabled {
			p.lastMax = min(p.measured, p.fill)
		}
		p.lastThrottle, p.enabled = now, true
		p.window = math.Cbrt(p.lastMax * (1 - awsBeta) / awsCubic)
		rate = p.lastMax * awsBeta
	}
	rate = min(rate, 2*p.measured)
	p.refill(now)
	p.fill, p.capacity = max(rate, awsLeast), max(rate, 1)
	p.level = min(p.level, p.capacity)
}

// measure counts a call, and smooths the rate every half second.
func (p *process) measure(now float64) {
	p.count++
	if half := math.Floor(now*2) / 2; half > p.measuredAt {
		p.measured = awsSmooth*p.count/(half-p.measuredAt) + (1-awsSmooth)*p.measured
		p.count, p.measuredAt = 0, half
	}
}

func (a *adaptive) restart() {}

func (a *adaptive) retry(c *call, _ *reply) (time.Duration, bool) {
	if c.attempts >= awsAttempts {
		return 0, false
	}
	return seconds(a.s.luck.uniform() * min(math.Exp2(float64(c.attempts-1)), awsBackoff)), true
}

// learned returns the sum of the rates of all processes.
func (a *adaptive) learned(m limiter.Meter) float64 {
	if m != limiter.Requests {
		return 0
	}
	var sum float64
	for i := range a.processes {
		sum += 60 * a.processes[i].fill
	}
	return sum
}
