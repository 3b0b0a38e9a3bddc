package config_test

import (
	"os"
	"strings"
	"testing"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
)

// limited is a resource with one limit for each value of user.
func limited(domain string, perMinute uint32) *ratelimitv3.RateLimitConfig {
	return &ratelimitv3.RateLimitConfig{Name: domain, Domain: domain, Descriptors: []*ratelimitv3.RateLimitDescriptor{{
		Key: "user", RateLimit: &ratelimitv3.RateLimitPolicy{Unit: ratelimitv3.RateLimitUnit_MINUTE, RequestsPerUnit: perMinute},
	}}}
}

// plan lists the limits of a configuration: quotas as name=amount, domains as name:amount.
func plan(l *config.Loaded) string {
	var parts []string
	for _, q := range l.Spec.Quotas {
		parts = append(parts, q.Name+"="+amount(q.Limits))
	}
	for _, d := range l.Spec.Domains {
		parts = append(parts, d.Name+":"+amount(d.Rules[0].Limits))
	}
	return strings.Join(parts, " ")
}

func amount(limits []limiter.LimitSpec) string { return strings.Repeat("i", int(limits[0].Amount)) }

// wantPlan waits for the next configuration, and checks what it holds.
func (w *watched) wantPlan(want string) *config.Loaded {
	w.t.Helper()
	select {
	case l := <-w.applied:
		if got := plan(l); got != want {
			w.t.Fatalf("applied %q, want %q", got, want)
		}
		return l
	case err := <-w.failed:
		w.t.Fatalf("failed, want %q: %v", want, err)
	case <-time.After(patience):
		w.t.Fatalf("nothing happened, want %q", want)
	}
	return nil
}

// TestPutBesideFiles: files and a control plane change in turns; each goes on with what
// was valid of the other.
func TestPutBesideFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "d/a.yaml", quota(1))
	w := watchPaths(t, "d")
	put := func(resources ...*ratelimitv3.RateLimitConfig) error { return w.reloader.Put(resources) }

	must(t, put(limited("edge", 2), limited("apps", 3)))
	w.wantPlan("a=i apps:iii edge:ii")
	must(t, put(limited("apps", 3), limited("edge", 2))) // the same, in another order
	w.wantSilence()

	write(t, "d/a.yaml", quota(2))
	w.wantPlan("a=ii apps:iii edge:ii")

	write(t, "d/a.yaml", "domain: edge\ndescriptors: [{key: x, rate_limit: {unit: day, requests_per_unit: 4}}]\n")
	w.wantFailure("xds:edge domain: duplicate domain 'edge' in config file, expected each domain in one file; also at d/a.yaml:1:9")
	must(t, put(limited("edge", 5)))
	w.wantPlan("a=ii edge:iiiii") // the files on disk do not stand in the way
	w.wantFailure("duplicate domain 'edge'")
	must(t, put(limited("apps", 3)))
	w.wantPlan("a=ii apps:iii")
	w.wantPlan("edge:iiii apps:iii") // and are tried again

	if err := put(limited("edge", 1)); err == nil || !strings.Contains(err.Error(), "duplicate domain 'edge'") {
		t.Errorf("got %v, want a duplicate domain", err)
	}
	w.wantSilence()
	must(t, put())
	w.wantPlan("edge:iiii")
}

// TestPutKeepsCounters: limits that an update does not change go on counting.
func TestPutKeepsCounters(t *testing.T) {
	var current *config.Loaded
	r := config.NewReloader(nil, config.NotLoaded(), func(l *config.Loaded) { current = l }, func(error) {})
	lim := limiter.New(limiter.Options{})
	allowed := func(domain string) bool {
		var a limiter.Ask
		var d limiter.Decision
		current.Plan.MatchDescriptor(&a, domain, 0, []limiter.Entry{{Key: "user", Value: "ann"}}, limiter.Hits{Amount: 1})
		if a.Len() == 0 {
			return true
		}
		lim.Route(&a)
		lim.Decide(limiter.InstantOf(time.Unix(1_700_000_000, 0)), &a, &d)
		return d.Verdict == limiter.Allowed
	}
	want := func(domain string, want bool) {
		t.Helper()
		if got := allowed(domain); got != want {
			t.Errorf("%s: allowed is %v, want %v", domain, got, want)
		}
	}
	must(t, r.Put([]*ratelimitv3.RateLimitConfig{limited("a", 1), limited("b", 1)}))
	want("a", true)
	want("a", false)
	three := []*ratelimitv3.RateLimitConfig{limited("a", 1), limited("b", 7), limited("c", 1)}
	must(t, r.Put(three))
	want("a", false)
	want("c", true)

	// After a refusal the same again is news: it is in force, and said last.
	before := current
	must(t, r.Put(three))
	if current != before {
		t.Error("the same was put in force again")
	}
	for _, refuse := range []func(){func() { _ = r.Put([]*ratelimitv3.RateLimitConfig{limited("", 1)}) }, r.Refused} {
		before = current
		refuse()
		must(t, r.Put(three))
		if current == before {
			t.Error("the same was not put in force again after a refusal")
		}
	}
	want("a", false)
	must(t, r.Put(nil))
	want("a", true) // nothing is limited
	if current.Missing || len(current.Sources) != 0 {
		t.Errorf("got %+v, want a configuration of nothing", current)
	}
	must(t, r.Put([]*ratelimitv3.RateLimitConfig{limited("a", 1)}))
	want("a", false)
}

// TestLoadBefore: before a control plane has spoken there is what files say, or nothing,
// and not the built-in plan.
func TestLoadBefore(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, paths := range [][]string{nil, {"missing"}} {
		l, err := config.Options{MayBeEmpty: true}.LoadBefore(paths)
		must(t, err)
		if !l.Missing || plan(l) != "" {
			t.Errorf("%v: got %q, missing: %v; want nothing, missing", paths, plan(l), l.Missing)
		}
	}
	write(t, "a.yaml", quota(1))
	l, err := config.Options{}.LoadBefore([]string{"a.yaml"})
	must(t, err)
	if l.Missing || plan(l) != "a=i" {
		t.Errorf("got %q, missing: %v; want the file's quota", plan(l), l.Missing)
	}
	l, err = config.Options{}.LoadResources(nil, nil, nil)
	must(t, err)
	if l.Missing || plan(l) != "" {
		t.Errorf("got %q, missing: %v; want nothing, by the control plane's word", plan(l), l.Missing)
	}
}

// TestPutWithoutFiles: a directory that is not there is no reason to refuse what a control
// plane says; one that has gone is said to be, and what it held stays.
func TestPutWithoutFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	w := watchWith(t, config.Options{MayBeEmpty: true}, "d")
	must(t, w.reloader.Put([]*ratelimitv3.RateLimitConfig{limited("a", 1)}))
	w.wantPlan("a:i")
	must(t, w.reloader.Put([]*ratelimitv3.RateLimitConfig{limited("a", 2)}))
	w.wantPlan("a:ii")
	write(t, "d/a.yaml", quota(3))
	w.wantPlan("a=iii a:ii")
	must(t, os.RemoveAll("d"))
	w.wantFailure("d: is not there any more")
	must(t, w.reloader.Put([]*ratelimitv3.RateLimitConfig{limited("a", 1)}))
	w.wantPlan("a=iii a:i")
	w.wantFailure("d: is not there any more") // it was looked at again
}
