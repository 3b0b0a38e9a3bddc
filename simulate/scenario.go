package simulate

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Duration is a time.Duration that is written as text, such as "90s" or "20ms".
type Duration time.Duration

// Seconds returns d in seconds.
func (d Duration) Seconds() float64 { return time.Duration(d).Seconds() }

// MarshalText writes d as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 90s or 20ms", text)
	}
	*d = Duration(v)
	return nil
}

// Kind names a limiter.
type Kind string

// The limiters.
const (
	// Weir is the core of package limiter.
	Weir Kind = "weir"
	// None sends each request once, at once.
	None Kind = "none"
	// SDK sends at once and retries as Anthropic's SDKs do.
	SDK Kind = "sdk"
	// FixedWindow counts requests and estimated tokens in minutes of the clock.
	FixedWindow Kind = "fixed"
	// SlidingWindow counts requests and used tokens in the last minute.
	SlidingWindow Kind = "sliding"
	// AWS is the adaptive retry mode of the AWS SDKs, one for each tenant.
	AWS Kind = "aws"
	// Oracle sees the upstream's buckets, but has the network and only estimates.
	Oracle Kind = "oracle"
	// Perfect is an Oracle without a network that knows what requests will use.
	Perfect Kind = "perfect"
)

// Kinds returns all limiters, weir first.
func Kinds() []Kind {
	return []Kind{Weir, None, SDK, FixedWindow, SlidingWindow, AWS, Oracle, Perfect}
}

// Mode is how callers wait for weir.
type Mode string

// The modes.
const (
	// Queue: a caller is held until its turn.
	Queue Mode = "queue"
	// Deny: a caller is told at once, and comes back when it was told to.
	Deny Mode = "deny"
)

// Scenario is one experiment.
type Scenario struct {
	// Name is shown with the results.
	Name string `json:"name"`
	// Limiter stands between the callers and the upstream. Default Weir.
	Limiter Kind `json:"limiter,omitempty"`
	// Mode is how callers wait for weir. Default Queue.
	Mode Mode `json:"mode,omitempty"`
	// Upstream is who limits.
	Upstream Upstream `json:"upstream"`
	// Told is what limiters are configured with.
	Told Told `json:"told"`
	// Workload is what callers want.
	Workload Workload `json:"workload"`
	// Network is between them.
	Network Network `json:"network"`
	// Duration is when the run ends, if its items are not done before. Default 20m, and
	// 2h for a workload of items.
	Duration Duration `json:"duration,omitempty"`
	// RestartAt are times at which the limiter loses all that it knew.
	RestartAt []Duration `json:"restart_at,omitempty"`
	// Progress says that callers pass on at once what the beginning of an answer tells:
	// the headers, and the input that counts.
	Progress bool `json:"progress,omitempty"`
	// LostReports is the share of calls whose end nobody reports.
	LostReports float64 `json:"lost_reports,omitempty"`
	// Tenants says that reports come from tenants, whom weir believes only as far as
	// others bear them out, and not from a gateway.
	Tenants bool `json:"tenants,omitempty"`
	// Seed of all chance.
	Seed uint64 `json:"seed,omitempty"`
}

// Amounts are per minute, or of one request.
type Amounts struct {
	Requests     float64 `json:"requests,omitempty"`
	InputTokens  float64 `json:"input_tokens,omitempty"`
	OutputTokens float64 `json:"output_tokens,omitempty"`
}

// vector returns a by meter.
func (a Amounts) vector() [3]float64 {
	return [3]float64{a.Requests, a.InputTokens, a.OutputTokens}
}

// Upstream is a model of a provider's rate limiting: a bucket for each of requests,
// input and output tokens. A request is admitted if all have room, and else refused
// and charged to none.
type Upstream struct {
	// Name is shown.
	Name string `json:"name,omitempty"`
	// Limits per minute.
	Limits Amounts `json:"limits"`
	// Interval is the time whose amount the buckets hold. Default 1m. A request larger
	// than a bucket is admitted when that is full, and leaves debt.
	Interval Duration `json:"interval,omitempty"`
	// NoHeaders, NoRetryAfter and NoMeter leave out what refusals, and answers, tell.
	// Headers always show a bucket of a minute.
	NoHeaders    bool `json:"no_headers,omitempty"`
	NoRetryAfter bool `json:"no_retry_after,omitempty"`
	NoMeter      bool `json:"no_meter,omitempty"`
	// ReservesMaxTokens charges max_tokens at the start of a call and gives back what
	// was not used; otherwise output counts as it is produced.
	ReservesMaxTokens bool `json:"reserves_max_tokens,omitempty"`
	// ChargesRefused counts refused calls as requests.
	ChargesRefused bool `json:"charges_refused,omitempty"`
	// Acceleration bounds how fast usage may grow.
	Acceleration *Acceleration `json:"acceleration,omitempty"`
	// Changes of the limits, in order.
	Changes []Change `json:"changes,omitempty"`
	// Foreign traffic uses the same quota.
	Foreign *Foreign `json:"foreign,omitempty"`
	// Overloads are episodes of 529.
	Overloads []Overload `json:"overloads,omitempty"`
}

// Acceleration allows Factor times the rate of the last while, but no less than Floor
// of the limit. Refusals do not name it.
type Acceleration struct {
	Floor  float64  `json:"floor"`
	Factor float64  `json:"factor"`
	Memory Duration `json:"memory"`
	Burst  Duration `json:"burst"`
}

// Change sets all limits to Factor of what they were at first.
type Change struct {
	At     Duration `json:"at"`
	Factor float64  `json:"factor"`
}

// Foreign is traffic of others, which takes Share of each limit while it is on, at
// random instants. It comes first at From.
type Foreign struct {
	Share float64  `json:"share"`
	From  Duration `json:"from"`
	On    Duration `json:"on"`
	Off   Duration `json:"off"`
}

// Overload answers Share of the calls with 529.
type Overload struct {
	At    Duration `json:"at"`
	For   Duration `json:"for"`
	Share float64  `json:"share"`
}

// Told is what a limiter is configured with.
type Told struct {
	// Factor of the true limits; 0 means 1.
	Factor float64 `json:"factor,omitempty"`
	// Unknown leaves the limits out.
	Unknown bool `json:"unknown,omitempty"`
	// Hint says that the limits are where learning starts, not a cap.
	Hint bool `json:"hint,omitempty"`
}

// Network is the time that a message takes in one direction, evenly distributed.
type Network struct {
	// Far is between callers and the upstream. Default 20ms to 80ms.
	Far Range `json:"far"`
	// Near is between callers and the limiter. Default 0.5ms to 2ms.
	Near Range `json:"near"`
}

// Range is from one time to another.
type Range struct {
	From Duration `json:"from"`
	To   Duration `json:"to"`
}

func ms(from, to float64) Range {
	return Range{Duration(from * float64(time.Millisecond)), Duration(to * float64(time.Millisecond))}
}

// withDefaults fills in what is not set.
func (s Scenario) withDefaults() Scenario {
	if s.Limiter == "" {
		s.Limiter = Weir
	}
	if s.Mode == "" {
		s.Mode = Queue
	}
	if s.Upstream.Interval == 0 {
		s.Upstream.Interval = Duration(time.Minute)
	}
	if s.Told.Factor == 0 {
		s.Told.Factor = 1
	}
	if s.Network.Far == (Range{}) {
		s.Network.Far = ms(20, 80)
	}
	if s.Network.Near == (Range{}) {
		s.Network.Near = ms(0.5, 2)
	}
	if s.Limiter == Perfect {
		s.Network = Network{}
	}
	if s.Duration == 0 {
		s.Duration = Duration(20 * time.Minute)
		if s.Workload.Items > 0 {
			s.Duration = Duration(2 * time.Hour)
		}
	}
	s.Workload = s.Workload.withDefaults()
	return s
}

const mostDuration = Duration(7 * 24 * time.Hour)

// Validate says what in s makes no sense, and what was expected there.
func (s *Scenario) Validate() error {
	var errs []error
	fail := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	known := false
	for _, k := range Kinds() {
		known = known || s.Limiter == k || s.Limiter == ""
	}
	fail(known, "limiter: %q is none of %v", s.Limiter, Kinds())
	fail(s.Mode == "" || s.Mode == Queue || s.Mode == Deny, "mode: %q is neither queue nor deny", s.Mode)
	fail(s.Duration >= 0 && s.Duration <= mostDuration, "duration: %s is not between 0 and %s", time.Duration(s.Duration), time.Duration(mostDuration))
	fail(share(s.LostReports), "lost_reports: %v is not a share from 0 to 1", s.LostReports)
	fail(finite(s.Told.Factor) && s.Told.Factor >= 0, "told.factor: %v is not a positive number", s.Told.Factor)
	fail(s.Network.Far.valid() && s.Network.Near.valid(), "network: a delay is from less to more, and at most 1m")
	errs = append(errs, s.Upstream.validate(fail), s.Workload.validate(fail))
	return errors.Join(errs...)
}

func (u *Upstream) validate(fail func(bool, string, ...any)) error {
	for m, v := range u.Limits.vector() {
		fail(finite(v) && v > 0, "upstream.limits.%s: %v is not a positive number a minute", meterName(m), v)
	}
	fail(u.Interval >= 0 && u.Interval <= Duration(time.Hour), "upstream.interval: %s is not between 0 and 1h", time.Duration(u.Interval))
	if a := u.Acceleration; a != nil {
		fail(a.Floor > 0 && a.Factor > 1 && a.Memory > 0 && a.Burst > 0, "upstream.acceleration: floor, memory and burst must be positive, and factor above 1")
	}
	last := Duration(-1)
	for i, c := range u.Changes {
		fail(c.At > last, "upstream.changes[%d].at: %s is not after the change before", i, time.Duration(c.At))
		fail(finite(c.Factor) && c.Factor > 0, "upstream.changes[%d].factor: %v is not a positive number", i, c.Factor)
		last = c.At
	}
	if f := u.Foreign; f != nil {
		fail(f.Share > 0 && f.Share <= 10 && f.On > 0 && f.Off >= 0 && f.From >= 0, "upstream.foreign: share must be above 0 and at most 10, and on must be positive")
	}
	for i, o := range u.Overloads {
		fail(share(o.Share) && o.For >= 0 && o.At >= 0, "upstream.overloads[%d]: share must be from 0 to 1, at and for not negative", i)
	}
	return nil
}

func (r Range) valid() bool {
	return r.From >= 0 && r.To >= r.From && r.To <= Duration(time.Minute)
}

func share(v float64) bool { return v >= 0 && v <= 1 }

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
