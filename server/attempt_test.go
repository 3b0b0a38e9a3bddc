package server

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// attemptEntry is what a proxy logs of an attempt: no metadata, and the sizes of bodies
// the wrong way round.
func attemptEntry(requestID string, n, status int, headers map[string]string) *alsv3.HTTPAccessLogEntry {
	return &alsv3.HTTPAccessLogEntry{
		CommonProperties: &alsv3.AccessLogCommon{
			AccessLogType: alsv3.AccessLogType_UpstreamEnd, UpstreamCluster: "anthropic", RouteName: "messages", StreamId: requestID,
			UpstreamRequestAttemptCount: uint32(n), StartTime: timestamppb.Now(),
		},
		Request: &alsv3.HTTPRequestProperties{
			Path: "/v1/messages", RequestId: requestID, RequestBodyBytes: 100, RequestHeaders: map[string]string{"x-envoy-attempt-count": fmt.Sprint(n)},
		},
		Response: &alsv3.HTTPResponseProperties{
			ResponseCode: wrapperspb.UInt32(uint32(status)), ResponseCodeDetails: "via_upstream", ResponseBodyBytes: 400, ResponseHeaders: headers,
		},
	}
}

// says has a gateway log something.
func (w *world) says(entries ...*alsv3.HTTPAccessLogEntry) {
	w.t.Helper()
	s := logStream(w.t, w.conn)
	if err := s.Send(logs(entries...)); err != nil {
		w.t.Fatal(err)
	}
	closed(w.t, s)
	synctest.Wait()
}

// usedUp are the headers of a refusal for requests.
func usedUp(wait string) map[string]string {
	return map[string]string{"retry-after": wait, "anthropic-ratelimit-requests-limit": "600", "anthropic-ratelimit-requests-remaining": "0"}
}

const attemptRequest = "b7de11a8-4d3c"

// through asks as a gateway does for a call of that request id, and returns the names that
// its log will have.
func (w *world) through(requestID string) string {
	w.t.Helper()
	r, err := w.server.rls.ShouldRateLimit(w.t.Context(), request("llm", "org=acme model=claude-opus tenant=chat input_tokens=1000 max_tokens=200 request_id="+requestID))
	if err != nil {
		w.t.Fatal(err)
	}
	return "reservation=" + r.GetDynamicMetadata().GetFields()["reservation"].GetStringValue()
}

// A 429 that the gateway itself tries again is seen in its log of attempts alone. It teaches
// when the call is known to go on, and the call's own end settles the reservation.
func TestARetryInsideTheGatewayTeaches(t *testing.T) {
	retryAfter := usedUp("16")
	overload := map[string]string{}
	done := ending{status: 200, details: "via_upstream", attempts: 2, metadata: "input_tokens=25 output_tokens=42 last_event=message_stop"}
	for name, c := range map[string]struct {
		entries  []*alsv3.HTTPAccessLogEntry
		class    string
		refusals string
	}{
		"retried, then complete": {[]*alsv3.HTTPAccessLogEntry{attemptEntry(attemptRequest, 1, 429, retryAfter)}, "quota", "1"},
		"told twice":             {[]*alsv3.HTTPAccessLogEntry{attemptEntry(attemptRequest, 1, 429, retryAfter), attemptEntry(attemptRequest, 1, 429, retryAfter)}, "quota", "1"},
		"overloaded":             {[]*alsv3.HTTPAccessLogEntry{attemptEntry(attemptRequest, 1, 529, overload)}, "overload", "1"},
		"could be for a right":   {[]*alsv3.HTTPAccessLogEntry{attemptEntry(attemptRequest, 1, 429, nil)}, "", "missing"},
		"failed":                 {[]*alsv3.HTTPAccessLogEntry{attemptEntry(attemptRequest, 1, 500, retryAfter)}, "", "missing"},
		"of another call":        {[]*alsv3.HTTPAccessLogEntry{attemptEntry("someone-else", 1, 429, retryAfter)}, "", "missing"},
		"of no number":           {[]*alsv3.HTTPAccessLogEntry{attemptEntry(attemptRequest, 0, 429, retryAfter)}, "", "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{Loaded: loaded(t, learned(rpm(600)), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
				names := w.through(attemptRequest)
				time.Sleep(time.Second)
				w.says(c.entries...)
				if p := w.explain("acme").GetPaces()[0]; p.GetLastClass() != "" {
					t.Fatalf("it may have been the last: %v", p)
				}
				time.Sleep(time.Second)
				w.says(done.entry(attemptRequest, names))
				p := w.explain("acme").GetPaces()[0]
				if p.GetLastClass() != c.class {
					t.Errorf("learned %v", p)
				}
				if c.class == "quota" && (time.Until(p.GetGateUntil().AsTime()) != 15*time.Second || p.GetProbesSpent() != 1) {
					t.Errorf("shut for %v: %v", time.Until(p.GetGateUntil().AsTime()), p)
				}
				if n := w.gauge(`weir_refusals_total{class="` + c.class + `",owner="opus"}`); n != c.refusals && c.class != "" {
					t.Errorf("%s refusals, want %s", n, c.refusals)
				}
				if used := w.used("acme", "output_tokens"); used != 42 {
					t.Errorf("%d output tokens are charged", used)
				}
			})
		})
	}
}

// A periodic entry shows that the gateway is about to try again, or has; the last refusal is
// told by the call's own entry too, which knows what it was for, and counts once.
func TestTheLastAttemptIsToldTwice(t *testing.T) {
	inBubble(t, Options{Loaded: loaded(t, learned(rpm(600)), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		names := w.through(attemptRequest)
		w.says(attemptEntry(attemptRequest, 1, 429, usedUp("2")))
		time.Sleep(500 * time.Millisecond)
		periodic := (&ending{attempts: 1}).entry(attemptRequest, names)
		periodic.CommonProperties.AccessLogType = alsv3.AccessLogType_DownstreamPeriodic
		w.says(periodic)
		if p := w.explain("acme").GetPaces()[0]; p.GetLastClass() != "quota" || time.Until(p.GetGateUntil().AsTime()) != 1500*time.Millisecond {
			t.Errorf("during the back-off: %v", p)
		}
		time.Sleep(5 * time.Second)
		w.says(attemptEntry(attemptRequest, 2, 429, usedUp("30")))
		last := ending{status: 429, details: "via_upstream", attempts: 2, metadata: "error_type=rate_limit_error error_message=required_for_long_context"}
		e := last.entry(attemptRequest, names)
		setText(e, "error_message", "Usage credits are required for long context requests.")
		w.says(e)
		p := w.explain("acme").GetPaces()[0]
		if p.GetLastClass() != "entitlement" || p.GetGateUntil() != nil || p.GetProbesSpent() != 1 {
			t.Errorf("in the end: %v", p)
		}
		for class, want := range map[string]string{"quota": "1", "entitlement": "1"} {
			if n := w.gauge(`weir_refusals_total{class="` + class + `",owner="opus"}`); n != want {
				t.Errorf("%s refusals for %s, want %s", n, class, want)
			}
		}
		if used := w.used("acme", "requests"); used != 0 {
			t.Errorf("%d requests are charged", used)
		}
	})
}

// Who is no gateway tells nothing of attempts: request ids can be guessed.
func TestAttemptsAreAGatewaysWord(t *testing.T) {
	l := loaded(t, learned(rpm(600)), "aaaaaaaaaaaa", nil)
	l.Gateways = []string{"edge"}
	inBubble(t, Options{Loaded: l}, func(t *testing.T, w *world) {
		names := w.through(attemptRequest)
		w.says(attemptEntry(attemptRequest, 1, 429, usedUp("16")))
		done := ending{status: 200, details: "via_upstream", attempts: 2, metadata: "input_tokens=25 output_tokens=42"}
		w.says(done.entry(attemptRequest, names))
		if p := w.explain("acme").GetPaces()[0]; p.GetLastClass() != "" {
			t.Errorf("learned %v", p)
		}
		wantVerdict(t, w.reserve(call("acme", 10, 10)), weirv1.Verdict_VERDICT_ALLOW)
	})
}
