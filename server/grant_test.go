package server

import (
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

func grantOf(class string, requests uint64, models ...string) config.Grant {
	return config.Grant{
		Class: class, Models: models,
		Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: requests, Window: time.Minute}},
	}
}

// paces returns what is learned of the requests of acme for a model, by quota.
func (w *world) paces(model string) map[string]float64 {
	w.t.Helper()
	e, err := w.admin.Explain(w.t.Context(), &weirv1.ExplainRequest{Attributes: map[string]string{"org": "acme", "model": model}})
	if err != nil {
		w.t.Fatal(err)
	}
	rates := map[string]float64{}
	for _, p := range e.GetPaces() {
		if p.GetMeter() == "requests" {
			rates[p.GetOwner()] = p.GetRatePerMinute()
		}
	}
	return rates
}

func TestWhatIsGrantedIsWhereLearningBegins(t *testing.T) {
	builtin, err := config.Load(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	inBubble(t, Options{Loaded: builtin}, func(t *testing.T, w *world) {
		ask := func(model string) *weirv1.ReserveResponse {
			return w.reserve(&weirv1.ReserveRequest{Attributes: map[string]string{"org": "acme", "model": model}})
		}
		grant := func(grants ...config.Grant) {
			if err := w.server.Grant(grants); err != nil {
				t.Fatal(err)
			}
		}
		const opus, other = "anthropic claude-opus-4.x", "anthropic"
		ask("claude-opus-4-6")
		ask("claude-haiku-4-5")
		before := w.paces("claude-haiku-4-5")[other]
		grant(grantOf("claude-opus-4.x", 4000, "claude-opus-4-6", "claude-opus-4-9"))
		// One that only the provider knows to be of the class is in it.
		if v := ask("claude-opus-4-9").GetVerdict(); v != weirv1.Verdict_VERDICT_ALLOW {
			t.Fatalf("verdict %v", v)
		}
		rates := w.paces("claude-opus-4-6")
		if len(rates) != 1 || rates[opus] < 2000 {
			t.Fatalf("paces %v, want that of %s alone, near what is granted", rates, opus)
		}
		// A refusal is learned from; the same grant again does not make it forgotten.
		time.Sleep(time.Minute) // tokens are at the pace of an unknown limit
		refused := ask("claude-opus-4-6")
		if _, err := w.quota.Report(t.Context(), &weirv1.ReportRequest{
			Reservation: refused.GetReservation(), HttpStatus: 429, ErrorType: "rate_limit_error",
			ErrorMessage: "would exceed your rate limit of 1,000 requests per minute",
		}); err != nil {
			t.Fatal(err)
		}
		learned := w.paces("claude-opus-4-6")[opus]
		grant(grantOf("claude-opus-4.x", 4000, "claude-opus-4-9", "claude-opus-4-6"))
		grant(grantOf("claude-opus-4.x", 4000, "claude-opus-4-6", "claude-opus-4-9"), grantOf("claude-haiku-9", 50, "claude-haiku-9"))
		if now := w.paces("claude-opus-4-6")[opus]; now != learned || learned >= rates[opus] {
			t.Errorf("rate %v after the grants came again, want the learned %v, which is below %v", now, learned, rates[opus])
		}
		if after := w.paces("claude-haiku-4-5")[other]; after != before {
			t.Errorf("rate of another class %v, want %v as before", after, before)
		}
		if n := strings.Count(w.log.String(), "configuration in force"); n != 2 {
			t.Errorf("%d configurations were put in force, want 2:\n%s", n, w.log.String())
		}
	})
}

func TestGrantsOutliveTheFiles(t *testing.T) {
	first := loaded(t, byClass(), "aaaaaaaaaaaa", nil)
	inBubble(t, Options{Loaded: first}, func(t *testing.T, w *world) {
		if err := w.server.Grant([]config.Grant{grantOf("one", 1, "claude-a", "claude-b")}); err != nil {
			t.Fatal(err)
		}
		w.server.Apply(loaded(t, byClass(), "bbbbbbbbbbbb", first))
		for i, model := range []string{"claude-a", "claude-b", "claude-a", "claude-b"} {
			got := w.reserve(&weirv1.ReserveRequest{Attributes: map[string]string{"org": "acme", "model": model}}).GetVerdict()
			if allowed := got == weirv1.Verdict_VERDICT_ALLOW; allowed != (i < 3) {
				t.Errorf("call %d: %v", i, got)
			}
		}
	})
}
