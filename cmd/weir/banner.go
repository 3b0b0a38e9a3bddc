package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/weir-project/weir/config"
)

// banner is what a weir that has begun to listen says of itself.
type banner struct {
	version, store string
	loaded         *config.Loaded
	grpc, http     string
	scheme         string // of the HTTP port
	// ownGRPC and ownHTTP say at which port weir's own services are served.
	ownGRPC, ownHTTP bool
}

// print writes the banner. Its last line can be pasted into a shell.
func (b banner) print(w io.Writer) {
	builtin := slices.Equal(b.loaded.Sources, []string{config.Builtin})
	plan := b.loaded.Digest
	if builtin {
		plan = "built-in"
	}
	fmt.Fprintf(w, "weir %s   store: %s   plan: %s (%s, %s)\n", b.version, b.store, plan,
		plural(b.loaded.Quotas, "quota"), plural(b.loaded.Rules, "rule"))
	atGRPC, atHTTP := "health", ""
	if b.ownGRPC {
		atGRPC = "weir.v1, health, reflection"
	}
	if b.ownHTTP {
		atHTTP = "weir.v1 as JSON, "
	}
	fmt.Fprintf(w, "  gRPC    %s   Envoy RLS v3 and access logs, %s\n", b.grpc, atGRPC)
	fmt.Fprintf(w, "  HTTP    %s://%s   %s/json, /metrics, /healthz, /readyz\n", b.scheme, b.http, atHTTP)
	switch {
	case b.loaded.Missing:
		fmt.Fprintln(w, "  config  invalid: calls are answered with an error until it is valid")
	case len(b.loaded.Sources) == 0:
		fmt.Fprintln(w, "  config  no files: everything is allowed")
	case builtin:
		fmt.Fprintln(w, "  config  none given; to write one: weir init weir.yaml && weir serve weir.yaml")
	default:
		fmt.Fprintf(w, "  config  %s\n", someOf(b.loaded.Sources, 4))
	}
	if addr, err := reachable(b.http); err == nil && b.scheme == "http" && b.ownHTTP {
		fmt.Fprintf(w, "  try     curl -s http://%s/weir.v1.QuotaService/Reserve --json '%s'\n", addr, tryReserve)
	}
}

// tryReserve is a question that every plan can answer.
const tryReserve = `{"attributes":{"org":"acme","model":"claude-opus-4-1"},"estimate":{"inputTokens":"3000","maxTokens":"1024"}}`

// someOf joins the first n names and counts the rest.
func someOf(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:n], " "), len(names)-n)
}
