package server

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/store/memory"
)

// rlsWorld is the two doors of a proxy over a real store.
type rlsWorld struct {
	d     *decider
	rls   *rls
	als   *als
	store *memory.Store
}

// worldSpec has one quota of LLM calls and a few rules.
func worldSpec() limiter.Spec {
	limit := func(m limiter.Meter, n uint64) limiter.LimitSpec {
		return limiter.LimitSpec{Meter: m, Amount: n, Window: time.Minute}
	}
	return limiter.Spec{
		Quotas: []limiter.QuotaSpec{{
			Name: "opus", Provider: "anthropic",
			Match:  []limiter.AttributePattern{{Key: "model", Pattern: "claude-*"}},
			Limits: []limiter.LimitSpec{limit(limiter.Requests, 50), limit(limiter.InputTokens, 80000), limit(limiter.OutputTokens, 16000)},
		}},
		Domains: []limiter.DomainSpec{
			{Name: "edge", Rules: []limiter.RuleSpec{
				{Key: "user", Name: "per-user", Limits: []limiter.LimitSpec{
					limit(limiter.Requests, 10),
					{Name: "daily", Meter: limiter.Requests, Amount: 15, Window: 24 * time.Hour},
				}},
				{Key: "path", Value: "/free", Unlimited: true},
				{Key: "shy", Shadow: true, Limits: []limiter.LimitSpec{limit(limiter.Requests, 1)}},
				{Key: "odd", Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: 1 << 40, Window: 90 * time.Second}}},
			}},
			{Name: "llm", Rules: []limiter.RuleSpec{
				{Key: "user", Name: "llm-user", Limits: []limiter.LimitSpec{limit(limiter.Requests, 5)}},
			}},
		},
	}
}

func newRLSWorld(t testing.TB, spec limiter.Spec) *rlsWorld {
	t.Helper()
	plan, err := limiter.Compile(spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New(limiter.Options{})
	t.Cleanup(store.Close)
	loaded := &config.Loaded{Plan: plan, Spec: spec, Vocabulary: config.DefaultVocabulary(), Digest: "test"}
	d := newDecider(store, loaded, newMetrics("test"), slog.New(slog.DiscardHandler), 1000)
	return &rlsWorld{d: d, store: store, rls: newRLS(d), als: newALS(d)}
}

// request makes a request of descriptors written as "key=value key=value"; "hits:5"
// among them gives the descriptor's hits, "negative" turns them round.
func request(domain string, descriptors ...string) *rlsv3.RateLimitRequest {
	r := &rlsv3.RateLimitRequest{Domain: domain}
	for _, text := range descriptors {
		d := new(ratelimitv3.RateLimitDescriptor)
		for word := range strings.FieldsSeq(text) {
			if n, ok := strings.CutPrefix(word, "hits:"); ok {
				hits, _, _ := parseAmount(n)
				d.HitsAddend = wrapperspb.UInt64(hits)
				continue
			}
			if word == "negative" {
				d.IsNegativeHits = true
				continue
			}
			k, v, _ := strings.Cut(word, "=")
			d.Entries = append(d.Entries, &ratelimitv3.RateLimitDescriptor_Entry{Key: k, Value: strings.ReplaceAll(v, "_", " ")})
			if k != "error_message" {
				d.Entries[len(d.Entries)-1].Value = v
			}
		}
		r.Descriptors = append(r.Descriptors, d)
	}
	return r
}

func (w *rlsWorld) call(t testing.TB, domain string, descriptors ...string) *rlsv3.RateLimitResponse {
	t.Helper()
	out, err := w.rls.ShouldRateLimit(t.Context(), request(domain, descriptors...))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// reserve makes an ask that is allowed, and returns its reservation.
func (w *rlsWorld) reserve(t testing.TB, descriptors ...string) string {
	t.Helper()
	out := w.call(t, "llm", descriptors...)
	if out.GetOverallCode() != rlsv3.RateLimitResponse_OK {
		t.Fatalf("refused: %s", out.GetRawBody())
	}
	id := out.GetDynamicMetadata().GetFields()["reservation"].GetStringValue()
	if id == "" {
		t.Fatal("no reservation")
	}
	return id
}

// used returns what is charged to acme's quota.
func (w *rlsWorld) used(t testing.TB) limiter.Usage {
	t.Helper()
	s := w.d.getScratch()
	defer w.d.putScratch(s)
	a := w.d.loaded.Load()
	s.ask.DryRun = true
	attrs := []limiter.Entry{{Key: "org", Value: "acme"}, {Key: "model", Value: "claude-lab-1"}}
	a.Plan.MatchAttributes(&s.ask, "", 0, attrs, limiter.Estimate{Exact: true})
	if err := w.d.decide(t.Context(), w.d.now(), a, "", s); err != nil {
		t.Fatal(err)
	}
	var u limiter.Usage
	for _, k := range s.decision.Checks {
		switch k.Limit.Meter {
		case limiter.Requests:
			u.Requests = k.Used
		case limiter.InputTokens:
			u.InputTokens = k.Used
		case limiter.OutputTokens:
			u.OutputTokens = k.Used
		case limiter.Tokens:
		}
	}
	return u
}

// log takes in one access log entry, and returns what came of it.
func (w *rlsWorld) log(t testing.TB, e *alsv3.HTTPAccessLogEntry) string {
	t.Helper()
	a := w.d.loaded.Load()
	return w.als.entry(t.Context(), a, w.als.words.of(a.Loaded), e).String()
}
