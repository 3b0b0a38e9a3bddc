package config_test

import (
	"fmt"
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
			if want := provider.Named(name).CountsCacheReads; q.Provider != name || q.CountsCacheReads != want {
				t.Errorf("provider %q counts cache reads: %t, want %q and %t", q.Provider, q.CountsCacheReads, name, want)
			}
		})
	}
}
