package simulate

import (
	"fmt"
	"math"
	"time"

	"github.com/weir-project/weir/limiter"
)

// Workload is what callers want. It is open, where requests arrive at random at a
// rate; closed, where workers process a number of items; or a trace that is replayed.
type Workload struct {
	// Name is shown.
	Name string `json:"name,omitempty"`
	// Items, if not 0, are processed by Workers as fast as they can.
	Items   int `json:"items,omitempty"`
	Workers int `json:"workers,omitempty"`
	// Load is how much arrives, as a share of what the limit of Binding allows.
	Load float64 `json:"load,omitempty"`
	// Binding is "requests" (the default), "input_tokens" or "output_tokens".
	Binding string `json:"binding,omitempty"`
	// Trace is replayed instead. See ReadTrace.
	Trace []Arrival `json:"-"`
	// Tenants ask. Default one.
	Tenants []Tenant `json:"tenants,omitempty"`
	// Deadline is how long a request may wait to be sent; 0 is any time.
	Deadline Duration `json:"deadline,omitempty"`
	// Input and Output are how many tokens a request has, and an answer.
	Input  Dist `json:"input"`
	Output Dist `json:"output"`
	// MaxTokens bounds the output. Default 4096.
	MaxTokens float64 `json:"max_tokens,omitempty"`
	// Cached is the share of the input that is read from a cache, which neither counts
	// nor is known to the caller beforehand.
	Cached Span `json:"cached"`
	// Bias is by which factor tenants misjudge their input, each in its own way.
	// Default 0.8 to 1.2. Noise is the standard deviation of the logarithm of the
	// factor by which a single estimate is wrong beside that. Default 0.2.
	Bias  Span    `json:"bias"`
	Noise float64 `json:"noise,omitempty"`
	// Exact callers know their input. Then Bias and Noise do not apply.
	Exact bool `json:"exact,omitempty"`
	// FirstToken is how long the upstream takes to begin an answer, and TokensPerSecond
	// how fast it goes on. Defaults 300ms to 800ms, and 60.
	FirstToken      Range   `json:"first_token"`
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"`
}

// Tenant is one of those who ask.
type Tenant struct {
	Name string `json:"name"`
	// Weight is its part of what is scarce; Share of the requests it sends.
	Weight float64 `json:"weight"`
	Share  float64 `json:"share"`
}

// Span is from one number to another.
type Span struct {
	From float64 `json:"from"`
	To   float64 `json:"to"`
}

func (s Span) at(u float64) float64 { return s.From + u*(s.To-s.From) }

func (w Workload) withDefaults() Workload {
	if len(w.Tenants) == 0 {
		w.Tenants = []Tenant{{Name: "all", Weight: 1, Share: 1}}
	}
	if w.MaxTokens == 0 {
		w.MaxTokens = 4096
	}
	if w.Bias == (Span{}) {
		w.Bias = Span{0.8, 1.2}
	}
	if w.Noise == 0 {
		w.Noise = 0.2
	}
	if w.Exact {
		w.Bias, w.Noise = Span{1, 1}, 0
	}
	if w.FirstToken == (Range{}) {
		w.FirstToken = ms(300, 800)
	}
	if w.TokensPerSecond == 0 {
		w.TokensPerSecond = 60
	}
	return w
}

// mostItems bounds numbers of items, workers and tenants.
const mostItems = 10_000_000

func (w *Workload) validate(fail func(bool, string, ...any)) error {
	switch {
	case w.Trace != nil:
	case w.Items != 0:
		fail(w.Items > 0 && w.Items <= mostItems, "workload.items: %d is not between 1 and %d", w.Items, mostItems)
		fail(w.Workers > 0 && w.Workers <= mostItems, "workload.workers: %d is not between 1 and %d", w.Workers, mostItems)
	default:
		fail(w.Load > 0 && w.Load <= 100, "workload.load: %v is not above 0 and at most 100, and there are neither items nor a trace", w.Load)
	}
	if _, ok := limiter.ParseMeter(w.Binding); !ok || w.Binding == limiter.Tokens.String() {
		fail(w.Binding == "", "workload.binding: %q is none of requests, input_tokens, output_tokens", w.Binding)
	}
	if w.Trace == nil {
		fail(w.Input.valid(), "workload.input: needs kind lognormal, pareto or constant, a median, and a larger p99")
		fail(w.Output.valid(), "workload.output: needs kind lognormal, pareto or constant, a median, and a larger p99")
	}
	fail(len(w.Tenants) <= 10_000, "workload.tenants: %d are more than 10000", len(w.Tenants))
	var sum float64
	names := map[string]bool{}
	for i, t := range w.Tenants {
		fail(t.Name != "" && !names[t.Name], "workload.tenants[%d].name: %q is empty or there already", i, t.Name)
		fail(finite(t.Weight) && t.Weight > 0 && finite(t.Share) && t.Share >= 0, "workload.tenants[%d]: weight must be positive and share not negative", i)
		names[t.Name] = true
		sum += t.Share
	}
	fail(len(w.Tenants) == 0 || sum > 0, "workload.tenants: nobody has a share of the requests")
	fail(w.Deadline >= 0, "workload.deadline: %s is negative", time.Duration(w.Deadline))
	fail(share(w.Cached.From) && share(w.Cached.To) && w.Cached.From <= w.Cached.To, "workload.cached: %v is not a range of shares from 0 to 1", w.Cached)
	fail(w.Bias.From >= 0 && w.Bias.To >= w.Bias.From && w.Bias.To <= 1000, "workload.bias: %v is not a range of factors", w.Bias)
	fail(w.Noise >= 0 && w.Noise <= 10, "workload.noise: %v is not between 0 and 10", w.Noise)
	fail(w.MaxTokens >= 0 && w.MaxTokens <= 1e9, "workload.max_tokens: %v is not between 0 and 1e9", w.MaxTokens)
	fail(w.TokensPerSecond >= 0 && w.FirstToken.valid(), "workload: tokens_per_second and first_token must not be negative")
	return nil
}

// binding returns the meter that Load refers to.
func (w *Workload) binding() limiter.Meter {
	if m, ok := limiter.ParseMeter(w.Binding); ok {
		return m
	}
	return limiter.Requests
}

// meanOf returns what a request takes of a meter on average.
func (w *Workload) meanOf(m limiter.Meter) float64 {
	switch m {
	case limiter.InputTokens:
		return w.Input.mean() * (1 - (w.Cached.From+w.Cached.To)/2)
	case limiter.OutputTokens:
		d := w.Output
		if d.Max == 0 || d.Max > w.MaxTokens {
			d.Max = w.MaxTokens
		}
		return d.mean()
	default:
		return 1
	}
}

// call is one request, with all that chance decided about it.
type call struct {
	tenant   int
	worker   int // that waits for it; -1 in an open workload
	arrived  limiter.Instant
	deadline limiter.Instant // Never if there is none

	estimate float64 // of the input, by the caller
	input    float64 // that counts
	guess    float64 // of input, by the upstream at the start
	output   float64
	max      float64 // max_tokens
	first    time.Duration
	speed    float64

	retry    bool // repeats what was refused
	attempts int  // of this caller, since it last began anew
	refused  int  // in all
	sent     limiter.Instant
	headers  [3]limiter.HeaderState
	decision any // what the limiter remembers of it

	id   limiter.ID
	turn limiter.Turn
}

// amounts returns what c will have used, by meter.
func (c *call) amounts() [3]float64 { return [3]float64{1, c.input, c.output} }

// source makes calls.
type source struct {
	w      *Workload
	chance chance
	bias   []float64
	shares []float64 // cumulative
}

func newSource(w *Workload, seed uint64) *source {
	s := &source{w: w, chance: newChance(seed, 1)}
	var sum float64
	for _, t := range w.Tenants {
		s.bias = append(s.bias, w.Bias.at(s.chance.uniform()))
		sum += t.Share
		s.shares = append(s.shares, sum)
	}
	return s
}

// next makes a call; a, unless nil, says how large.
func (s *source) next(now limiter.Instant, worker int, a *Arrival) *call {
	w := s.w
	c := &call{worker: worker, arrived: now, deadline: limiter.Never, max: w.MaxTokens}
	if w.Deadline > 0 {
		c.deadline = now.Add(time.Duration(w.Deadline))
	}
	pick := s.chance.uniform() * s.shares[len(s.shares)-1]
	for c.tenant < len(s.shares)-1 && s.shares[c.tenant] < pick {
		c.tenant++
	}
	total, output := s.chance.uniform(), s.chance.uniform()
	if a != nil {
		total, output = a.Input, a.Output
		c.max = max(c.max, output)
	} else {
		total, output = w.Input.quantile(total), w.Output.quantile(output)
	}
	c.output = min(output, c.max)
	c.input = math.Round(total * (1 - w.Cached.at(s.chance.uniform())))
	c.estimate = max(1, math.Round(total*s.bias[c.tenant]*math.Exp(w.Noise*normal(s.chance.uniform()))))
	c.guess = max(0, math.Round(c.input*(1+upstreamNoise*normal(s.chance.uniform()))))
	c.first = s.chance.between(w.FirstToken)
	c.speed = w.TokensPerSecond * (0.8 + 0.4*s.chance.uniform())
	return c
}

// upstreamNoise is by how much the upstream's own first count of the input is wrong.
const upstreamNoise = 0.03

func meterName(m int) string { return limiter.Meter(m).String() }

func (t Tenant) String() string { return fmt.Sprintf("%s (weight %g)", t.Name, t.Weight) }
