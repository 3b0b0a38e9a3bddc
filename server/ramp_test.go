package server

import (
	"testing"
	"time"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// A gateway logs Anthropic's refusal of use that grew too fast: operators see what is in
// force, minute by minute, and that the learned limit was not cut.
func TestOperatorsSeeTheStatedRamp(t *testing.T) {
	spec := learned(rpm(600), limiter.LimitSpec{Meter: limiter.InputTokens, Amount: 80_000, Window: time.Minute})
	inBubble(t, Options{Loaded: loaded(t, spec, "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		refused := ending{status: 429, details: "via_upstream", attempts: 1, metadata: "error_type=rate_limit_error retry_after=5"}
		e := refused.entry("", "reservation="+w.reserve(call("acme", 1000, 10)).GetReservation())
		setText(e, "error_message",
			"This request would exceed your organization’s maximum usage increase rate for input tokens per minute (org: o, model: m). "+
				"Your current limit is 58,276 input tokens per minute, and will increase to 68,276 at the next minute boundary.")
		w.says(e)
		pace := func() *weirv1.PaceState { return w.explain("acme").GetPaces()[1] }
		if p := pace(); p.GetRampPerMinute() != 58_276 || p.GetRatePerMinute() != 58_276 || p.GetLimitPerMinute() != 80_000 ||
			p.GetLastEvent() != "ramp" || p.GetLastClass() != "acceleration" || p.GetProbesSpent() != 0 {
			t.Errorf("at once: %v", p)
		}
		if v := w.gauge(`weir_pace_events_total{event="ramp",meter="input_tokens",owner="opus"}`); v != "1" {
			t.Errorf("events: %s", v)
		}
		time.Sleep(time.Minute) // bubbles begin at a full minute
		if p := pace(); p.GetRampPerMinute() != 68_276 {
			t.Errorf("a minute later: %v", p)
		}
		time.Sleep(2 * time.Minute)
		if p := pace(); p.GetRampPerMinute() != 0 || p.GetRatePerMinute() != 80_000 {
			t.Errorf("in the end: %v", p)
		}
	})
}
