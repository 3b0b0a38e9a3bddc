package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-project/weir/config"
)

// What is rendered reads back as what it came from.
func TestRenderedFilesDecideAlike(t *testing.T) {
	files := map[string]string{
		"starter": string(config.Starter()),
		"quotas": `
quotas:
- {name: one, control: fixed, per: [], limits: {requests_per_minute: 0, tokens_per_day: 9007199254740992}}
- name: "two: * #"
  provider: azure
  match: {org: "acme*", model: "*", credential: "007", workspace: "true"}
  per: [org, model]
  hold: 1m30s
  limits: {input_tokens_per_minute: 5, requests_per_hour: 7, requests_per_second: 1}
  output_accounting: produced
  counts_cache_reads: true
  tenants:
    default: {priority: batch}
    named:
      "a b": {weight: 7, floor: 33.3333%, ceiling: 0.5}
      chat: {priority: default}
- {name: three, provider: openai, limit_mode: hint, limits: {requests_per_minute: 10}}
`,
		"rules": `
rules:
- {domain: edge, match: [{key: user}], limits: [{amount: 100, per: 90s}, {name: day, amount: 2000, per: 24h}, {amount: 1, per: 1500ms}]}
- {domain: edge, match: [{key: user, value: "bot-*", share_values: true}], shadow: true, limits: [{amount: 1, per: 7d}]}
- {domain: edge, match: [{key: user}, {key: path, value: "no: [yaml"}], unlimited: true}
- {domain: edge, match: [{key: soft}], soft: true, limits: [{amount: 1, per: 7d, name: weekly}], replaces: [day, "a b"]}
- {domain: edge, match: [{key: free}], unlimited: true, replaces: [weekly]}
- {domain: "a\u2028b\nc", name: " \u0085\ufeff\t '\"\\ é", match: [{key: "line\nbreak", value: "\u2029"}], unlimited: true}
- {domain: mine, name: tokens, match: [{key: k, value: "1"}], limits: [{meter: tokens, amount: 5, per: 1m}]}
llm: {domains: [mine], keys: {org: company, phase: "x y"}, metadata_namespaces: [a, b]}
server: {max_keys: 5}
`,
		"models whose cache reads count": `
quotas:
- {name: by model, provider: anthropic}
- {name: all, provider: anthropic, counts_cache_reads: true}
- {name: none, provider: anthropic, counts_cache_reads: false}
- {name: joint, provider: groq}
`,
		"providers": `
providers:
- name: "gate: way"
  based_on: openai
  rules:
  - {status: 420, code: Enhance_Your_Calm, class: quota}
  - {status: 500, status_to: 599, text: "no free worker, #*", class: overload, retry_after: false}
  - {code: "007", class: spend, begun: true}
  - {code: "008", class: spend, meter: requests}
  headers:
    requests: {limit: x-r}
    tokens: {limit: x-t, remaining: x-t-left, reset: x-t-reset}
    retry_after: [{header: x-wait, unit: ms}, {header: x-until, unit: date}]
  charges_refused: false
- {name: by model, based_on: anthropic}
- {name: joint, counts_cache_reads: false, joint_tokens: true, output_accounting: reserved}
quotas:
- {name: a, provider: "gate: way"}
- {name: b, provider: by model}
- {name: c, provider: joint, limits: {tokens_per_minute: 9}}
`,
		"trust": `
trust: {gateways: [edge.example, "spiffe://mesh/ns/*", "true"]}
quotas:
- {name: a, limits: {requests_per_minute: 5}}
`,
		"ratelimit": `
domain: edge
descriptors:
- key: user
  rate_limit: {unit: minute, requests_per_unit: 5}
  descriptors:
  - {key: path, value: /v1/*, rate_limit: {unit: hour, requests_per_unit: 7}, shadow_mode: true}
  - {key: path, value: /free, rate_limit: {unlimited: true}}
`,
	}
	for name, text := range files {
		t.Run(name, func(t *testing.T) {
			first := filepath.Join(t.TempDir(), "weir.yaml")
			rendersBack(t, []string{first}, text)
		})
	}
	t.Run("built-in", func(t *testing.T) { rendersBack(t, nil, "") })
}

func rendersBack(t *testing.T, paths []string, text string) {
	t.Helper()
	for _, p := range paths {
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := config.Load(paths, nil)
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := want.Render()
	if err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(t.TempDir(), "again.yaml")
	if err := os.WriteFile(again, rendered, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := config.Load([]string{again}, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, rendered)
	}
	if diff := cmp.Diff(want.Spec, got.Spec, withoutNotes); diff != "" {
		t.Errorf("spec (-want +rendered):\n%s\n%s", diff, rendered)
	}
	if diff := cmp.Diff(want.Vocabulary, got.Vocabulary); diff != "" {
		t.Errorf("vocabulary (-want +rendered):\n%s\n%s", diff, rendered)
	}
	if diff := cmp.Diff(want.Providers, got.Providers); diff != "" {
		t.Errorf("providers (-want +rendered):\n%s\n%s", diff, rendered)
	}
	if diff := cmp.Diff(want.Gateways, got.Gateways); diff != "" {
		t.Errorf("gateways (-want +rendered):\n%s\n%s", diff, rendered)
	}
	if got.Digest != want.Digest || strings.Contains(string(rendered), "server") {
		t.Errorf("plan %s, want %s, and no server block:\n%s", got.Digest, want.Digest, rendered)
	}
}
