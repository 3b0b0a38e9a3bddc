package config_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/weir-project/weir/provider"
)

// TestEveryProviderIsAllowed: a quota may be of each provider that has a profile, and
// counts what that profile counts.
func TestEveryProviderIsAllowed(t *testing.T) {
	for _, name := range provider.Names() {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			write(t, "weir.yaml", fmt.Sprintf("quotas:\n- name: a\n  provider: %s\n  limits: {requests_per_minute: 5}\n", name))
			q := mustLoad(t, "weir.yaml").Spec.Quotas[0]
			if want := provider.Named(name).ReservesMaxTokens; q.ReservesMaxTokens != want {
				t.Errorf("holds max_tokens: %t, want %t", q.ReservesMaxTokens, want)
			}
			if want := provider.Named(name).CountsCacheReads; q.Provider != name || q.CountsCacheReads != want {
				t.Errorf("provider %q counts cache reads: %t, want %q and %t", q.Provider, q.CountsCacheReads, name, want)
			}
		})
	}
}

// TestCacheReadModels: the models of which cache reads count are known, unless the quota
// says something of all of them.
func TestCacheReadModels(t *testing.T) {
	for line, want := range map[string]bool{"": true, "  counts_cache_reads: false\n": false, "  counts_cache_reads: true\n": false} {
		t.Chdir(t.TempDir())
		write(t, "weir.yaml", "quotas:\n- name: a\n  provider: anthropic\n"+line)
		q := mustLoad(t, "weir.yaml").Spec.Quotas[0]
		if got := slices.Contains(q.CacheReadModels, "*claude-3-5-haiku*"); got != want {
			t.Errorf("%q: cache reads of Claude 3.5 Haiku count by model: %t, want %t", line, got, want)
		}
	}
}
