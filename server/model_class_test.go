package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// byClass is a quota of three requests a minute for each organisation and class.
func byClass() limiter.Spec {
	return limiter.Spec{Quotas: []limiter.QuotaSpec{{
		Name: "q", Provider: "anthropic", Per: []string{"org", config.ModelClass},
		Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: 3, Window: time.Minute}},
	}}}
}

func TestModelsOfOneClassShareAQuota(t *testing.T) {
	l := loaded(t, byClass(), "aaaaaaaaaaaa", nil)
	l.ModelClasses = map[string]string{"claude-new-1": "claude-opus-4.x", "claude-opus-4-8": "told"}
	inBubble(t, Options{Loaded: l}, func(t *testing.T, w *world) {
		ask := func(attributes map[string]string) weirv1.Verdict {
			attributes["org"] = "acme"
			return w.reserve(&weirv1.ReserveRequest{Attributes: attributes}).GetVerdict()
		}
		for i, step := range []struct {
			attributes map[string]string
			allowed    bool
		}{
			{map[string]string{"model": "claude-opus-4-5-20251101"}, true},
			{map[string]string{"model": "anthropic.claude-opus-4-6-v1:0"}, true},
			// What the provider itself said wins over the name.
			{map[string]string{"model": "claude-new-1-20270101"}, true},
			{map[string]string{"model": "claude-opus-4-7"}, false},
			// A caller cannot choose another class.
			{map[string]string{"model": "claude-opus-4-7", "model_class": "mine"}, false},
			{map[string]string{"model_class": "claude-opus-4.x"}, false},
			{map[string]string{"model_class": "mine"}, true},
			{map[string]string{"model": "claude-opus-4-8"}, true},
			{map[string]string{"model": "claude-sonnet-4-5"}, true},
			// Bedrock has a limit for each model.
			{map[string]string{"model": "claude-opus-4-7", "provider": "bedrock"}, true},
		} {
			if got := ask(step.attributes) == weirv1.Verdict_VERDICT_ALLOW; got != step.allowed {
				t.Errorf("step %d, %v: allowed is %v, want %v", i, step.attributes, got, step.allowed)
			}
		}
		e, err := w.admin.Explain(t.Context(), &weirv1.ExplainRequest{Attributes: map[string]string{"org": "acme", "model": "claude-opus-4-7"}})
		if err != nil || len(e.GetLimits()) != 1 || e.GetLimits()[0].GetUsed() != 3 {
			t.Errorf("Explain: %v, %v; want a limit of which 3 are used", e, err)
		}
		if _, err := w.admin.ResetLimit(t.Context(), &weirv1.ResetLimitRequest{Owner: "q", Attributes: map[string]string{"org": "acme", "model": "claude-opus-4-7"}}); err != nil {
			t.Fatal(err)
		}
		if ask(map[string]string{"model": "claude-opus-4-5"}) != weirv1.Verdict_VERDICT_ALLOW {
			t.Error("the class is still full after it was reset by a model's name")
		}
	})
}

func TestClassesCostNothingWhereNobodyAsks(t *testing.T) {
	if c := newModelClasses(loaded(t, opus(), "aaaaaaaaaaaa", nil)); c != nil {
		t.Error("classes are kept for a configuration without them")
	}
	rules := limiter.Spec{Domains: []limiter.DomainSpec{{Name: "llm", Rules: []limiter.RuleSpec{
		{Key: "tenant", Rules: []limiter.RuleSpec{{Key: config.ModelClass, Unlimited: true}}},
	}}}}
	if c := newModelClasses(loaded(t, rules, "aaaaaaaaaaaa", nil)); c == nil {
		t.Error("no classes for a rule that asks for them")
	}
}

func TestKnownClassesAreBounded(t *testing.T) {
	c := newModelClasses(loaded(t, byClass(), "aaaaaaaaaaaa", nil))
	for i := range maxClasses + 100 {
		name := fmt.Sprint("model-", i)
		if got := c.of(modelKey{model: name}); got != name {
			t.Fatalf("class of %s is %s", name, got)
		}
	}
	if n := len(*c.known.Load()); n != maxClasses {
		t.Errorf("%d classes are kept, want %d", n, maxClasses)
	}
}

func TestMatchingByClassAllocatesNothing(t *testing.T) {
	l := loaded(t, byClass(), "aaaaaaaaaaaa", nil)
	a := &active{Loaded: l, provider: "anthropic", classes: newModelClasses(l)}
	s := newScratch()
	attributes := []limiter.Entry{{Key: "org", Value: "acme"}, {Key: "model", Value: "claude-opus-4-5-20251101"}, {Key: "tenant", Value: "chat"}}
	match := func() {
		s.reset()
		if a.match(s, "llm", -1, attributes, limiter.Estimate{}) != 1 {
			t.Fatal("nothing matches")
		}
	}
	match()
	if n := testing.AllocsPerRun(100, match); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
