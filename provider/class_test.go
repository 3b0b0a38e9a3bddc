package provider_test

import (
	"strings"
	"testing"

	"github.com/weir-project/weir/provider"
)

// The classes are those of the rate limits page of Anthropic's documentation as of
// October 2026: its rows say which versions a limit is the total of. The forms of the
// names are those of its models page: API id, alias, Bedrock id and Vertex id.
func TestModelClass(t *testing.T) {
	for _, c := range []struct{ provider, model, want string }{
		// "Claude Opus 4.x": the total of 4.8, 4.7, 4.6 and 4.5.
		{"anthropic", "claude-opus-4-5", "claude-opus-4.x"},
		{"anthropic", "claude-opus-4-5-20251101", "claude-opus-4.x"},
		{"anthropic", "claude-opus-4-6", "claude-opus-4.x"},
		{"anthropic", "claude-opus-4-7", "claude-opus-4.x"},
		{"anthropic", "claude-opus-4-8-latest", "claude-opus-4.x"},
		// Older ones are in no row together.
		{"anthropic", "claude-opus-4-1-20250805", "claude-opus-4-1"},
		{"anthropic", "claude-opus-4-20250514", "claude-opus-4"},
		{"anthropic", "claude-opus-4-0", "claude-opus-4"},
		// "Claude Sonnet 4.x": the total of 4.6 and 4.5.
		{"anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4.x"},
		{"", "claude-sonnet-4-6", "claude-sonnet-4.x"},
		{"anthropic", "claude-sonnet-4-0", "claude-sonnet-4"},
		// Rows of their own.
		{"anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5"},
		{"anthropic", "claude-3-5-haiku-20241022", "claude-3-5-haiku"},
		{"anthropic", "claude-3-5-haiku-latest", "claude-3-5-haiku"},
		{"anthropic", "claude-opus-5", "claude-opus-5"},
		{"anthropic", "claude-opus-5-5", "claude-opus-5-5"},
		{"anthropic", "claude-sonnet-5", "claude-sonnet-5"},
		{"anthropic", "claude-sonnet-5-5", "claude-sonnet-5-5"},
		// "Claude Fable 5.x": the total of 5.1 and 5, and Mythos 5.x apart from it.
		{"anthropic", "claude-fable-5", "claude-fable-5.x"},
		{"anthropic", "claude-fable-5-1", "claude-fable-5.x"},
		{"anthropic", "claude-mythos-5-1", "claude-mythos-5.x"},
		// Names that clouds and gateways have for the same.
		{"", "anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4.x"},
		{"", "us.anthropic.claude-opus-4-6-v1:0:200k", "claude-opus-4.x"},
		{"", "claude-sonnet-4-5@20250929", "claude-sonnet-4.x"},
		{"", "anthropic/claude-opus-4-7", "claude-opus-4.x"},
		// Where a cloud limits, each model of each profile has limits of its own.
		{"bedrock", "us.anthropic.claude-opus-4-6-v1:0", "us.anthropic.claude-opus-4-6-v1:0"},
		{"vertex", "claude-sonnet-4-5@20250929", "claude-sonnet-4-5"},
		{"azure", "claude-opus-4-6", "claude-opus-4-6"},
		// Unknown ones keep their names, without a date.
		{"openai", "gpt-5.4-2026-03-05", "gpt-5.4"},
		{"", "openai/gpt-5.4", "openai/gpt-5.4"},
		{"", "not-claude-opus-4-6", "not-claude-opus-4-6"},
		{"", "claude-", "claude-"},
		{"", "-20250929", "-20250929"},
		{"", "-latest", "-latest"},
		{"", "m-12345678", "m-12345678"},
		{"", "", ""},
	} {
		if got := provider.ModelClass(c.provider, c.model); got != c.want {
			t.Errorf("ModelClass(%q, %q) = %q, want %q", c.provider, c.model, got, c.want)
		}
	}
}

func TestModelClassAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _ = provider.ModelClass("", "us.anthropic.claude-opus-4-6-20260101-v1:0") }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func FuzzModelClass(f *testing.F) {
	f.Add("anthropic", "us.anthropic.claude-opus-4-6-20260101-v1:0")
	f.Add("", "claude-sonnet-4-5@20250929")
	f.Add("vertex", "m-2025-09-29")
	f.Fuzz(func(t *testing.T, name, model string) {
		class := provider.ModelClass(name, model)
		if model != "" && class == "" {
			t.Errorf("%q has no class", model)
		}
		if n := provider.ModelName(model); !strings.Contains(model, n) {
			t.Errorf("ModelName(%q) = %q, which is no part of it", model, n)
		}
	})
}
