package config

import (
	"slices"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/weir-project/weir/proto/weir/config/v1"
)

// Vocabulary names the descriptor keys by which LLM calls and their reports are
// described, the domains in which they are, and the places in access-log entries
// where they are found. The zero value names nothing; see [DefaultVocabulary].
//
// The names are those on the wire. Quotas and rules use weir's own words (org,
// model, …, the defaults), so whoever matches a request against a plan translates
// first.
type Vocabulary struct {
	// Domains are the rate limit domains in which descriptors speak this vocabulary.
	Domains []string

	// Who asks for what, in asks and reports.
	Org, Tenant, Model, Provider, Credential, Workspace, LongContext, Priority string

	// What an ask expects to use. InputTokens is also what a report says was used.
	InputTokens, CachedInputTokens, BodyBytes, MaxTokens string

	// Retry is how often a call that is asked for was tried before.
	Retry string

	// RequestID is what ties reports to asks where there is no reservation.
	RequestID string

	// Meter is the key that says what a descriptor's hits_addend counts; the key
	// "unit" ([MeterAlias]) is understood too.
	Meter string
	// Phase is the key whose value says "admit" or "settle".
	Phase string

	// What a report says of the call.
	Reservation, Status, Details, Attempts, LastEvent string

	// What a report says of the tokens, beside InputTokens.
	CacheCreationInputTokens, CacheReadInputTokens, OutputTokens string

	// What a report says of a refusal.
	ErrorType, ErrorMessage, RetryAfter string

	// MetadataNamespaces are the places in access-log entries that carry the
	// reservation and the usage; the first that has an item counts.
	MetadataNamespaces []string
}

// MeterAlias is understood as [Vocabulary.Meter] in every configuration.
const MeterAlias = "unit"

// DefaultVocabulary returns the vocabulary of a configuration without an llm block.
// The caller owns the result.
func DefaultVocabulary() Vocabulary {
	return Vocabulary{
		Domains:                  []string{"llm"},
		Org:                      "org",
		Tenant:                   "tenant",
		Model:                    "model",
		Provider:                 "provider",
		Credential:               "credential",
		Workspace:                "workspace",
		LongContext:              "long_context",
		Priority:                 "priority",
		InputTokens:              "input_tokens",
		CachedInputTokens:        "cached_input_tokens",
		BodyBytes:                "body_bytes",
		MaxTokens:                "max_tokens",
		RequestID:                "request_id",
		Meter:                    "meter",
		Phase:                    "llm_phase",
		Reservation:              "reservation",
		Status:                   "status",
		Details:                  "details",
		Attempts:                 "attempts",
		LastEvent:                "last_event",
		CacheCreationInputTokens: "cache_creation_input_tokens",
		CacheReadInputTokens:     "cache_read_input_tokens",
		OutputTokens:             "output_tokens",
		ErrorType:                "error_type",
		ErrorMessage:             "error_message",
		RetryAfter:               "retry_after",
		Retry:                    "retry",
		MetadataNamespaces: []string{
			"envoy.llmq", "envoy.filters.http.ratelimit", "envoy.llm", "io.envoy.ai_gateway",
		},
	}
}

// IsLLM says whether descriptors of domain speak this vocabulary.
func (v *Vocabulary) IsLLM(domain string) bool { return slices.Contains(v.Domains, domain) }

// word returns the name that the configuration's field renames; TestEveryKeyCanBeRenamed
// keeps this list and the .proto together.
func (v *Vocabulary) word(field string) *string {
	return map[string]*string{
		"org":                         &v.Org,
		"tenant":                      &v.Tenant,
		"model":                       &v.Model,
		"provider":                    &v.Provider,
		"credential":                  &v.Credential,
		"workspace":                   &v.Workspace,
		"long_context":                &v.LongContext,
		"priority":                    &v.Priority,
		"input_tokens":                &v.InputTokens,
		"cached_input_tokens":         &v.CachedInputTokens,
		"body_bytes":                  &v.BodyBytes,
		"max_tokens":                  &v.MaxTokens,
		"request_id":                  &v.RequestID,
		"meter":                       &v.Meter,
		"phase":                       &v.Phase,
		"reservation":                 &v.Reservation,
		"status":                      &v.Status,
		"details":                     &v.Details,
		"attempts":                    &v.Attempts,
		"last_event":                  &v.LastEvent,
		"cache_creation_input_tokens": &v.CacheCreationInputTokens,
		"cache_read_input_tokens":     &v.CacheReadInputTokens,
		"output_tokens":               &v.OutputTokens,
		"error_type":                  &v.ErrorType,
		"error_message":               &v.ErrorMessage,
		"retry_after":                 &v.RetryAfter,
		"retry":                       &v.Retry,
	}[field]
}

// takeLLM applies the file's llm block, if it has one.
func (f *native) takeLLM(b *builder) {
	n := child(f.doc.root, "llm")
	llm := f.config.GetLlm()
	if llm == nil || isNull(n) {
		return
	}
	if b.llm != nil {
		f.complain(n, "a second llm block, expected one in all files; also at %s", b.llm)
		return
	}
	b.llm = &place{f.doc, n}
	v := &b.vocabulary
	if len(llm.GetDomains()) > 0 {
		v.Domains = llm.GetDomains()
	}
	if len(llm.GetMetadataNamespaces()) > 0 {
		v.MetadataNamespaces = llm.GetMetadataNamespaces()
	}
	f.rename(v, llm.GetKeys(), child(n, "keys"))
}

// takeTrust applies the file's trust block, if it has one.
func (f *native) takeTrust(b *builder) {
	n := child(f.doc.root, "trust")
	trust := f.config.GetTrust()
	if trust == nil || isNull(n) {
		return
	}
	if b.trust != nil {
		f.complain(n, "a second trust block, expected one in all files; also at %s", b.trust)
		return
	}
	b.trust = &place{f.doc, n}
	b.gateways = trust.GetGateways()
}

// rename gives keys other names, and reports two that have the same.
func (f *native) rename(v *Vocabulary, keys *configv1.LlmKeys, n *yaml.Node) {
	m := keys.ProtoReflect()
	fields := m.Descriptor().Fields()
	taken := map[string]protoreflect.Name{}
	for i := range fields.Len() {
		field := fields.Get(i)
		word := v.word(string(field.Name()))
		if s := m.Get(field).String(); s != "" {
			*word = s
		}
		other, twice := taken[*word]
		switch at := child(n, string(field.Name())); {
		case twice && at != nil:
			f.complain(at, "%s has the key %s as %s has, expected different ones", field.Name(), quoteShort(*word), other)
		case twice:
			f.complain(child(n, string(other)), "%s has the key %s as %s has, expected different ones", other, quoteShort(*word), field.Name())
		case *word == MeterAlias && field.Name() != "meter":
			f.complain(child(n, string(field.Name())), "%s has the key %q, which always means the meter, expected another", field.Name(), MeterAlias)
		}
		taken[*word] = field.Name()
	}
}
