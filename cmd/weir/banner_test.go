package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-project/weir/config"
)

func TestBannerNamesWhatListensWhere(t *testing.T) {
	tests := []struct {
		name string
		b    banner
		want string
	}{
		{
			"no configuration",
			banner{
				version: "0.1.0", store: "memory", grpc: "127.0.0.1:8081", http: "127.0.0.1:8080", scheme: "http", ownGRPC: true, ownHTTP: true,
				loaded: &config.Loaded{Digest: "0123456789ab", Sources: []string{config.Builtin}, Quotas: 1},
			},
			`weir 0.1.0   store: memory   plan: built-in (1 quota, 0 rules)
  gRPC    127.0.0.1:8081   Envoy RLS v3 and access logs, weir.v1, health, reflection
  HTTP    http://127.0.0.1:8080   weir.v1 as JSON, /json, /metrics, /healthz, /readyz
  config  none given; to write one: weir init weir.yaml && weir serve weir.yaml
  try     curl -s http://127.0.0.1:8080/weir.v1.QuotaService/Reserve --json '` + tryReserve + `'
`,
		},
		{
			"files, all interfaces",
			banner{
				version: "0.1.0", store: "memory", grpc: "0.0.0.0:8081", http: "[::]:8080", scheme: "http", ownGRPC: true, ownHTTP: true,
				loaded: &config.Loaded{Digest: "0123456789ab", Sources: []string{"a.yaml", "b.yaml"}, Quotas: 2, Rules: 1},
			},
			`weir 0.1.0   store: memory   plan: 0123456789ab (2 quotas, 1 rule)
  gRPC    0.0.0.0:8081   Envoy RLS v3 and access logs, weir.v1, health, reflection
  HTTP    http://[::]:8080   weir.v1 as JSON, /json, /metrics, /healthz, /readyz
  config  a.yaml b.yaml
  try     curl -s http://[::1]:8080/weir.v1.QuotaService/Reserve --json '` + tryReserve + `'
`,
		},
		{
			"TLS, many files",
			banner{
				version: "0.1.0", store: "memory", grpc: "0.0.0.0:8081", http: "0.0.0.0:8080", scheme: "https", ownGRPC: true, ownHTTP: true,
				loaded: &config.Loaded{Digest: "0123456789ab", Sources: []string{"a", "b", "c", "d", "e", "f"}, Rules: 6},
			},
			`weir 0.1.0   store: memory   plan: 0123456789ab (0 quotas, 6 rules)
  gRPC    0.0.0.0:8081   Envoy RLS v3 and access logs, weir.v1, health, reflection
  HTTP    https://0.0.0.0:8080   weir.v1 as JSON, /json, /metrics, /healthz, /readyz
  config  a b c d and 2 more
`,
		},
		{
			"in place of another, all interfaces",
			banner{
				version: "0.1.0", store: "memory", grpc: "0.0.0.0:8081", http: "0.0.0.0:8080", scheme: "http",
				loaded: &config.Loaded{Digest: "0123456789ab", Sources: []string{"a"}, Rules: 6},
			},
			`weir 0.1.0   store: memory   plan: 0123456789ab (0 quotas, 6 rules)
  gRPC    0.0.0.0:8081   Envoy RLS v3 and access logs, health
  HTTP    http://0.0.0.0:8080   /json, /metrics, /healthz, /readyz
  config  a
`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			tt.b.print(&b)
			if diff := cmp.Diff(tt.want, b.String()); diff != "" {
				t.Errorf("banner (-want +got):\n%s", diff)
			}
		})
	}
}
