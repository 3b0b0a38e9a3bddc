package simulate

import (
	"math"
	"time"

	"github.com/weir-project/weir/limiter"
)

// Result is what came of a run.
type Result struct {
	// Scenario, Upstream and Workload are their names.
	Scenario string `json:"scenario"`
	Upstream string `json:"upstream"`
	Workload string `json:"workload"`
	Limiter  Kind   `json:"limiter"`
	Mode     Mode   `json:"mode"`
	Seed     uint64 `json:"seed"`
	// Duration is of the run, in virtual time.
	Duration time.Duration `json:"duration"`

	// Utilization is what was used of the binding meter, in percent of what the upstream
	// could have served: what its bucket held at first and what was refilled, without
	// what others used. Binding is the meter of which this is the most.
	Utilization float64       `json:"utilization"`
	Binding     limiter.Meter `json:"binding"`
	// Jain's index of fairness, by weight: 1 is fair.
	Jain float64 `json:"jain"`
	// WaitP50 and WaitP95 are percentiles of the time, in seconds, from when a request
	// came up until the call was sent that the upstream accepted.
	WaitP50 float64 `json:"wait_p50"`
	WaitP95 float64 `json:"wait_p95"`
	// Makespan is when all items were done, in seconds; 0 if there were none, or if they
	// were not done in time.
	Makespan float64 `json:"makespan,omitempty"`

	// Arrived requests; those that were Completed; those Dropped at their deadline.
	Arrived   int `json:"arrived"`
	Completed int `json:"completed"`
	Dropped   int `json:"dropped"`
	// Asked counts questions to the limiter; PeakAsks is the most of them in 100 ms.
	Asked    int `json:"asked"`
	PeakAsks int `json:"peak_asks"`
	// Sent calls; those Accepted; those Rejected with 429; those Overloaded, with 529.
	Sent       int `json:"sent"`
	Accepted   int `json:"accepted"`
	Rejected   int `json:"rejected"`
	Overloaded int `json:"overloaded"`
	// ForeignSent counts requests of others, and ForeignRejected those refused.
	ForeignSent     int `json:"foreign_sent,omitempty"`
	ForeignRejected int `json:"foreign_rejected,omitempty"`
	// Changes are what came of each change of the limits.
	Changes []ChangeResult `json:"changes,omitempty"`
	// Tenants are what each got.
	Tenants []TenantResult `json:"tenants"`
	// Series are samples over time.
	Series Series `json:"series"`
}

// TenantResult is what a tenant asked for and got, in seconds of the scarcest limit.
type TenantResult struct {
	Name    string  `json:"name"`
	Weight  float64 `json:"weight"`
	Offered float64 `json:"offered"`
	Served  float64 `json:"served"`
}

// ChangeResult is what came of a change of the limits.
type ChangeResult struct {
	// At is when, in seconds, and Factor what it was.
	At     float64 `json:"at"`
	Factor float64 `json:"factor"`
	// Settle is after how many seconds refusals fell below one in twenty, for good; Raise
	// after how many at least 95 % of the limit were used over ten seconds.
	Settle float64 `json:"settle"`
	Raise  float64 `json:"raise"`
}

// RejectedShare is the percentage of the calls sent that were refused with 429.
func (r *Result) RejectedShare() float64 { return 100 * float64(r.Rejected) / max(1, float64(r.Sent)) }

// RejectedPerItem is the number of 429s for each completed request.
func (r *Result) RejectedPerItem() float64 {
	return float64(r.Rejected) / max(1, float64(r.Completed))
}

// AsksPerItem is the number of questions for each completed request.
func (r *Result) AsksPerItem() float64 { return float64(r.Asked) / max(1, float64(r.Completed)) }

// ForeignRejectedShare is the percentage of others' requests that were refused.
func (r *Result) ForeignRejectedShare() float64 {
	return 100 * float64(r.ForeignRejected) / max(1, float64(r.ForeignSent))
}

// changesOf works out, from samples, how each change of the limits was taken.
func changesOf(s *Scenario, r *Result) []ChangeResult {
	var out []ChangeResult
	x := &r.Series
	total := len(x.Sent)
	for i, c := range s.Upstream.Changes {
		from, to := int(math.Ceil(c.At.Seconds()))+1, total // sample t is of the second before t
		if i+1 < len(s.Upstream.Changes) {
			to = min(to, int(s.Upstream.Changes[i+1].At.Seconds()))
		}
		if from+window > to {
			break
		}
		v := ChangeResult{At: c.At.Seconds(), Factor: c.Factor, Raise: math.Inf(1)}
		for t := from; t+window <= to; t++ {
			if sum(x.Rejected[t:t+window]) > 0.05*sum(x.Sent[t:t+window]) {
				v.Settle = float64(t + window - from)
			}
			if used := sum(x.Accepted[r.Binding][t:t+window]) / window; math.IsInf(v.Raise, 1) && used >= 0.95*x.Limit[r.Binding][t] {
				v.Raise = float64(t - from)
			}
		}
		if math.IsInf(v.Raise, 1) {
			v.Raise = float64(to - from)
		}
		out = append(out, v)
	}
	return out
}

// window is the number of samples over which changes are judged.
const window = 10

func sum(v []float64) float64 {
	var s float64
	for _, x := range v {
		s += x
	}
	return s
}
