package provider

import "strings"

// modelClass is a model whose limit is another's too.
type modelClass struct{ model, class string }

// classesTable has the models that share one limit at Anthropic, by the tables of its
// rate limits page of October 2026; the first two are names of one model. All other
// models have limits of their own.
var classesTable = []modelClass{
	{"claude-opus-4-0", "claude-opus-4"},
	{"claude-sonnet-4-0", "claude-sonnet-4"},
	{"claude-opus-4-5", "claude-opus-4.x"},
	{"claude-opus-4-6", "claude-opus-4.x"},
	{"claude-opus-4-7", "claude-opus-4.x"},
	{"claude-opus-4-8", "claude-opus-4.x"},
	{"claude-sonnet-4-5", "claude-sonnet-4.x"},
	{"claude-sonnet-4-6", "claude-sonnet-4.x"},
	{"claude-fable-5", "claude-fable-5.x"},
	{"claude-fable-5-1", "claude-fable-5.x"},
	{"claude-mythos-5", "claude-mythos-5.x"},
	{"claude-mythos-5-1", "claude-mythos-5.x"},
}

// ModelClass returns the class of a model: all models of one class share the provider's
// limits. provider may be empty, for one that is not known. Of a model that shares with
// no other it is the model's own name, without a date. The result is a part of model or
// a constant; nothing is allocated.
func ModelClass(provider, model string) string {
	switch provider {
	case "bedrock", "vertex", "azure":
		// These sell the same models and limit each by itself, by place and by profile.
		return undated(model)
	}
	name := ModelName(model)
	for i := range classesTable {
		if classesTable[i].model == name {
			return classesTable[i].class
		}
	}
	return name
}

// ModelName returns the name of a model without a date or "-latest"; and one of
// Anthropic's models as Anthropic calls it, however a cloud or a gateway does. The
// result is a part of model.
func ModelName(model string) string {
	at := strings.LastIndex(model, "claude-")
	if at < 0 || at > 0 && model[at-1] != '.' && model[at-1] != '/' {
		return undated(model)
	}
	name := model[at:]
	// Bedrock's ids end in a version, and may name a size of context: -v1:0:200k.
	if colon := strings.IndexByte(name, ':'); colon > 0 {
		name = name[:colon]
	}
	if v := strings.LastIndex(name, "-v"); v > 0 && allDigits(name[v+2:]) {
		name = name[:v]
	}
	return undated(name)
}

// undated cuts -20250929, @20250929, -2025-09-29 and -latest off a name.
func undated(name string) string {
	if short, ok := strings.CutSuffix(name, "-latest"); ok && short != "" {
		return short
	}
	if n := len(name) - len("-20060102"); n > 0 && (name[n] == '-' || name[n] == '@') && allDigits(name[n+1:]) && name[n+1] == '2' {
		return name[:n]
	}
	if n := len(name) - len("-2006-01-02"); n > 0 && name[n] == '-' && name[n+5] == '-' && name[n+8] == '-' &&
		allDigits(name[n+1:n+5]) && allDigits(name[n+6:n+8]) && allDigits(name[n+9:]) {
		return name[:n]
	}
	return name
}

// allDigits says whether s is a number.
func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
