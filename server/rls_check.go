package server

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-project/weir/limiter"
)

// The bounds of a rate limit request.
const (
	maxDescriptors = 32
	maxEntries     = 32 // of one descriptor
	maxValue       = 256
	maxRequest     = 64 << 10
)

// check finds mistakes in how the caller was configured. They do not depend on the
// calls that it asks for, and so are errors.
func (r *rlsRequest) check() error {
	switch {
	case r.domain == "":
		return status.Error(codes.InvalidArgument, "domain is empty; expected the name of a domain of rules, or of LLM calls")
	case len(r.descriptors) == 0:
		return status.Error(codes.InvalidArgument, "descriptors is empty; expected at least one descriptor")
	case len(r.descriptors) > maxDescriptors:
		return status.Errorf(codes.InvalidArgument, "%d descriptors; expected at most %d", len(r.descriptors), maxDescriptors)
	}
	for i := range r.descriptors {
		d := &r.descriptors[i]
		if n := d.end - d.first; n > maxEntries {
			return status.Errorf(codes.InvalidArgument, "descriptor %d has %d entries; expected at most %d", i, n, maxEntries)
		}
		if d.limit.set {
			if _, err := d.limit.window(i); err != nil {
				return err
			}
		}
		for _, e := range r.of(d) {
			if len(e.Key) > maxValue {
				return status.Errorf(codes.InvalidArgument, "descriptor %d has a key of %d bytes; expected at most %d", i, len(e.Key), maxValue)
			}
		}
	}
	return nil
}

// tooLong refuses a request that was not read, because of its size; nil if it was.
func (r *rlsRequest) tooLong() *refusal {
	if r.size <= maxRequest {
		return nil
	}
	return &refusal{
		reason:     fmt.Sprintf("the rate limit request has %d bytes; at most %d are read", r.size, maxRequest),
		infeasible: true,
	}
}

// unacceptable finds what the client of the caller can bring about: values that are
// too long, if they are bounded, or no text. Such a call must not pass, or long values
// would be the way around every limit.
func (r *rlsRequest) unacceptable(bounded bool) *refusal {
	if r.notText {
		return &refusal{reason: "the rate limit request holds a value that is not UTF-8", infeasible: true}
	}
	if !bounded {
		return nil
	}
	for i := range r.descriptors {
		for j, e := range r.of(&r.descriptors[i]) {
			if len(e.Value) > maxValue {
				return &refusal{
					reason:     fmt.Sprintf("descriptor %d, entry %d has a value of %d bytes; at most %d are accepted", i, j, len(e.Value), maxValue),
					infeasible: true,
				}
			}
		}
	}
	return nil
}

// tooMuch returns the first descriptor whose hits are more than any limit admits; -1
// if none.
func (r *rlsRequest) tooMuch() int {
	for i := range r.descriptors {
		if d := &r.descriptors[i]; d.hasHits && d.hits > limiter.MaxAmount && !d.negative {
			return i
		}
	}
	return -1
}

const day = 24 * time.Hour

// unitWindows are the windows of envoy.type.v3.RateLimitUnit, and of the week that
// RateLimitResponse adds.
var unitWindows = [...]time.Duration{1: time.Second, 2: time.Minute, 3: time.Hour, 4: day, 5: 30 * day, 6: 365 * day, 7: 7 * day}

// window returns the window of the limit that descriptor i brought along.
func (o *rlsOverride) window(i int) (time.Duration, error) {
	if o.unit <= 0 || int(o.unit) >= len(unitWindows) {
		return 0, status.Errorf(codes.InvalidArgument,
			"descriptor %d: limit has the unit %d; expected SECOND, MINUTE, HOUR, DAY, MONTH, YEAR or WEEK", i, o.unit)
	}
	n := time.Duration(1)
	if o.hasMultiplier {
		n = time.Duration(o.multiplier)
	}
	unit := unitWindows[o.unit]
	for _, w := range unitWindows[1:] { // those that weir keeps windows of
		if n > 0 && w/n == unit && w%n == 0 {
			return w, nil
		}
	}
	return 0, status.Errorf(codes.InvalidArgument,
		"descriptor %d: limit has a window of %d × %v; expected one second, minute, hour, day, week, 30 days or 365 days", i, n, unit)
}

// unitOf says in Envoy's terms how long a window is: so many of a unit. The unit is 0
// if there is none.
func unitOf(window time.Duration) (unit int32, multiplier uint32) {
	for i := range unitWindows {
		if i > 0 && unitWindows[i] == window {
			return int32(i), 1
		}
	}
	for i := int32(4); i > 0; i-- {
		if u := unitWindows[i]; window > 0 && window%u == 0 {
			return i, uint32(window / u)
		}
	}
	return 0, 1
}
