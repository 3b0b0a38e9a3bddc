package provider_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/provider"
)

// The form of the page is that of the reference of GET /v1/organizations/rate_limits.
const grantedPage = `{"data": [
 {"type": "rate_limit", "id": "g1", "group_type": "model_group", "group": {"type": "model_group", "id": "claude_opus_4_5", "display_name": "Claude Opus 4.x"},
  "models": ["claude-opus-4-99", "claude-opus-4-5-20251101", "claude-opus-4-6"],
  "limits": [{"type": "requests_per_minute", "value": 4000}, {"type": "input_tokens_per_minute", "value": 1},
             {"type": "input_tokens_per_minute_cache_aware", "value": 2000000}, {"type": "output_tokens_per_minute", "value": 400000},
             {"type": "fast_otpm", "value": 5}]},
 {"type": "rate_limit", "id": "g2", "group_type": "model_group", "group": {"display_name": "Claude Haiku 3.x"},
  "models": ["claude-3-5-haiku-20241022", "claude-3-haiku-20240307"],
  "limits": [{"type": "input_tokens_per_minute", "value": 100000}, {"type": "output_tokens_per_minute", "value": 0}]},
 {"type": "rate_limit", "id": "g3", "group_type": "model_group", "models": ["claude-a-1", "claude-b-1"], "limits": [{"type": "requests_per_minute", "value": 99999999999999999999}]},
 {"type": "rate_limit", "id": "g4", "group_type": "batch", "models": null, "limits": [{"type": "requests_per_minute", "value": 7}]}
], "next_page": "c2"}`

func TestParseAnthropicLimits(t *testing.T) {
	got, err := provider.ParseAnthropicLimits([]byte(grantedPage))
	if err != nil {
		t.Fatal(err)
	}
	perMinute := func(m limiter.Meter, n uint64) limiter.LimitSpec {
		return limiter.LimitSpec{Meter: m, Amount: n, Window: time.Minute}
	}
	want := provider.GrantedPage{Next: "c2", Granted: []provider.Granted{
		{
			Class: "claude-opus-4.x", Models: []string{"claude-opus-4-99", "claude-opus-4-5-20251101", "claude-opus-4-6"},
			Limits: []limiter.LimitSpec{perMinute(limiter.Requests, 4000), perMinute(limiter.InputTokens, 2000000), perMinute(limiter.OutputTokens, 400000)},
		},
		{
			Class: "Claude Haiku 3.x", Models: []string{"claude-3-5-haiku-20241022", "claude-3-haiku-20240307"},
			Limits: []limiter.LimitSpec{perMinute(limiter.InputTokens, 100000)},
		},
		{Class: "g3", Models: []string{"claude-a-1", "claude-b-1"}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseAnthropicLimitsRefuses(t *testing.T) {
	group := func(models string) string {
		return `{"id":"g","group_type":"model_group","models":[` + models + `]}`
	}
	for name, page := range map[string]string{
		"no JSON":          "<html>",
		"nothing":          "",
		"null":             "null",
		"an error":         `{"type":"error","error":{"type":"authentication_error"}}`,
		"a list":           "[]",
		"a value of words": `{"data":[{"group_type":"model_group","models":["m"],"limits":[{"type":"t","value":"many"}]}]}`,
		"a long name":      `{"data":[` + group(`"`+strings.Repeat("x", 300)+`"`) + `]}`,
		"many models":      `{"data":[` + group(`"m"`+strings.Repeat(`,"m"`, 300)) + `]}`,
		"many classes":     `{"data":[` + group(`"m"`) + strings.Repeat(","+group(`"m"`), 300) + `]}`,
		"a long cursor":    fmt.Sprintf(`{"data":[],"next_page":%q}`, strings.Repeat("x", 5000)),
	} {
		if got, err := provider.ParseAnthropicLimits([]byte(page)); err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
}

// FuzzParseAnthropicLimits: whatever the page is, what is read of it can be made a plan.
func FuzzParseAnthropicLimits(f *testing.F) {
	f.Add([]byte(grantedPage))
	f.Add([]byte(`{"data":[{"group_type":"model_group","models":["*"],"limits":[{"type":"requests_per_minute","value":1e3}]}]}`))
	f.Fuzz(func(t *testing.T, page []byte) {
		got, err := provider.ParseAnthropicLimits(page)
		if err != nil {
			return
		}
		for i, g := range got.Granted {
			if len(g.Models) == 0 {
				t.Fatalf("class %q has no models", g.Class)
			}
			spec := limiter.Spec{Quotas: []limiter.QuotaSpec{{Name: fmt.Sprint(i), Limits: g.Limits}}}
			if _, err := limiter.Compile(spec, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}
