package server

import (
	"strings"
	"testing"
	"time"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// twoModels has a quota of each of two models, which one organisation's money pays for.
func twoModels() limiter.Spec {
	spec := learned(rpm(600))
	spec.Quotas[0].Match[0].Pattern = "claude-opus*"
	spec.Quotas = append(spec.Quotas, limiter.QuotaSpec{
		Name: "haiku", Provider: "anthropic", Learn: true, Limits: []limiter.LimitSpec{rpm(600)},
		Match: []limiter.AttributePattern{{Key: "model", Pattern: "claude-haiku*"}},
	})
	return spec
}

// haiku is a call of the other model.
func haiku(org string) *weirv1.ReserveRequest {
	c := call(org, 10, 10)
	c.Attributes["model"] = "claude-haiku"
	return c
}

// ends has a gateway's access log say how the call of a reservation ended.
func (w *world) ends(reservation string, e ending) {
	w.t.Helper()
	w.says(e.entry("", "reservation="+reservation))
}

// setText puts a text into an entry that has what the proxy read of the answer.
func setText(e *alsv3.HTTPAccessLogEntry, key, text string) {
	e.CommonProperties.Metadata.FilterMetadata["envoy.llm"].Fields[key] = structpb.NewStringValue(text)
}

var noMoney = ending{status: 402, details: "via_upstream", attempts: 1, metadata: "error_type=billing_error"}

// What a gateway says of the money closes all quotas that it pays for, is explained where
// it was not said, and opens for all when an operator says so.
func TestSpentMoneyIsTheOrganisations(t *testing.T) {
	inBubble(t, Options{Loaded: loaded(t, twoModels(), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		w.ends(w.reserve(call("acme", 10, 10)).GetReservation(), noMoney)
		wantVerdict(t, w.reserve(haiku("acme")), weirv1.Verdict_VERDICT_DENY)
		wantVerdict(t, w.reserve(haiku("globex")), weirv1.Verdict_VERDICT_ALLOW)

		explain := func(model string) *weirv1.ExplainResponse {
			e, err := w.admin.Explain(t.Context(), &weirv1.ExplainRequest{Attributes: map[string]string{"org": "acme", "model": model, "tenant": "chat"}})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		e := explain("claude-haiku")
		want := "The call would be denied: the money of acme, which pays for haiku, is spent: the spend gate is shut until 2000-01-01T00:15:00Z"
		if e.GetCause() != "spend" || !strings.HasPrefix(e.GetSummary(), want) {
			t.Errorf("explained by %q: %s", e.GetCause(), e.GetSummary())
		}
		if left := time.Until(e.GetQuotas()[0].GetSpendUntil().AsTime()); left != 15*time.Minute {
			t.Errorf("shown shut for %v", left)
		}

		r, err := w.admin.ClearGate(t.Context(), &weirv1.ClearGateRequest{Owner: "haiku", Attributes: map[string]string{"org": "acme"}})
		if err != nil || r.GetGates() != 1 {
			t.Errorf("%d gates were shut, %v", r.GetGates(), err)
		}
		if e := explain("claude-opus"); e.GetVerdict() != weirv1.Verdict_VERDICT_ALLOW || e.GetQuotas()[0].GetSpendUntil() != nil {
			t.Errorf("once it is paid: %v", e)
		}
	})
}

// A tenant's own word, or a gateway's on an allowance of one model, closes no other quota.
func TestWhatIsNotTheOrganisationsMoney(t *testing.T) {
	for name, say := range map[string]func(w *world, reservation string){
		"a tenant's word": func(w *world, reservation string) { w.tell(reservation, 402, "billing_error", "credit is used up") },
		"a workspace's cap": func(w *world, reservation string) {
			full := ending{status: 400, details: "via_upstream", attempts: 1, metadata: "error_type=invalid_request_error"}
			e := full.entry("", "reservation="+reservation)
			setText(e, "error_message", "You have reached your specified workspace API usage limits.")
			w.says(e)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{Loaded: loaded(t, twoModels(), "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
				say(w, w.reserve(call("acme", 10, 10)).GetReservation())
				wantVerdict(t, w.reserve(call("acme", 10, 10)), weirv1.Verdict_VERDICT_DENY)
				wantVerdict(t, w.reserve(haiku("acme")), weirv1.Verdict_VERDICT_ALLOW)
			})
		})
	}
}
