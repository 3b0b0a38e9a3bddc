package config_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
)

func opusGrant(requests uint64) config.Grant {
	return config.Grant{
		Class: "claude-opus-4.x", Models: []string{"claude-opus-4-5", "claude-opus-4-9"},
		Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: requests, Window: time.Minute}},
	}
}

func TestGrantsBecomeQuotasOfTheBuiltinPlan(t *testing.T) {
	base := mustLoad(t)
	l, err := base.WithGrants([]config.Grant{
		opusGrant(4000),
		{Class: "no limits", Models: []string{"m"}},
		{Class: "claude-opus-4.x", Models: []string{"twin"}, Limits: opusGrant(7).Limits},
		{Class: "a*b", Models: []string{"star"}, Limits: opusGrant(5).Limits},
	}, base.Plan)
	if err != nil {
		t.Fatal(err)
	}
	of := func(class string) limiter.AttributePattern {
		return limiter.AttributePattern{Key: "model_class", Pattern: class}
	}
	quota := func(class string, requests uint64) limiter.QuotaSpec {
		return limiter.QuotaSpec{
			Name: "anthropic " + class, Provider: "anthropic", Match: []limiter.AttributePattern{of(class)},
			Per: []string{"org", "model_class"}, Limits: opusGrant(requests).Limits, Learn: true, Mode: limiter.HintLimits,
			CacheReadModels: base.Spec.Quotas[0].CacheReadModels,
		}
	}
	rest := base.Spec.Quotas[0]
	rest.Except = []limiter.AttributePattern{of("a?b"), of("claude-opus-4.x"), of("claude-opus-4.x 2")}
	want := limiter.Spec{Quotas: []limiter.QuotaSpec{rest, quota("a?b", 5), quota("claude-opus-4.x", 4000), quota("claude-opus-4.x 2", 7)}}
	if diff := cmp.Diff(want, l.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	classes := map[string]string{
		"claude-opus-4-5": "claude-opus-4.x", "claude-opus-4-9": "claude-opus-4.x", "m": "no limits", "twin": "claude-opus-4.x 2", "star": "a?b",
	}
	if diff := cmp.Diff(classes, l.ModelClasses); diff != "" {
		t.Errorf("classes (-want +got):\n%s", diff)
	}
	if l.Quotas != 4 || l.Digest == base.Digest || len(base.Spec.Quotas) != 1 || base.Spec.Quotas[0].Except != nil {
		t.Errorf("%d quotas, digest %s as before %s, base %+v", l.Quotas, l.Digest, base.Digest, base.Spec)
	}
	again, err := base.WithGrants([]config.Grant{
		{Class: "a*b", Models: []string{"star"}, Limits: opusGrant(5).Limits},
		opusGrant(4000),
		{Class: "claude-opus-4.x", Models: []string{"twin"}, Limits: opusGrant(7).Limits},
		{Class: "no limits", Models: []string{"m"}},
	}, l.Plan)
	if err != nil || again.Digest != l.Digest {
		t.Errorf("the same in another order has digest %s, want %s (%v)", again.Digest, l.Digest, err)
	}
}

func TestGrantsOfAFileAreClassesAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "weir.yaml", string(config.Starter()))
	base := mustLoad(t, "weir.yaml")
	l, err := base.WithGrants([]config.Grant{opusGrant(4000)}, base.Plan)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(base.Spec, l.Spec); diff != "" || l.Plan != base.Plan {
		t.Errorf("the files' plan changed: %s", diff)
	}
	if l.ModelClasses["claude-opus-4-9"] != "claude-opus-4.x" || l.Digest == base.Digest {
		t.Errorf("classes %v, digest %s as before %s", l.ModelClasses, l.Digest, base.Digest)
	}
	if same, err := base.WithGrants(nil, nil); same != base || err != nil {
		t.Errorf("no grants made %v, %v", same, err)
	}
}
