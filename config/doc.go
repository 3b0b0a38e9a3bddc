// Package config reads weir's configuration: files and directories of YAML become
// one validated [Loaded], and a [Reloader] keeps it up to date while files change.
//
// A file is either weir's own (the message weir.config.v1.Config, one field a word)
// or one of envoyproxy/ratelimit, which is told by `domain` or `descriptors` at its
// top level. Several files, of either kind, are read as one configuration. What a control
// plane sends ([Options.LoadResources], [Reloader.Put]) joins them.
//
// Whatever is wrong is found in one pass and returned as one [*Error], each problem
// with its file, line and column and with what was expected there. A configuration
// with a problem is not used in part: the caller keeps what it has.
package config

import (
	"github.com/weir-project/weir/limiter"
	configv1 "github.com/weir-project/weir/proto/weir/config/v1"
	"github.com/weir-project/weir/provider"
)

// Loaded is a validated configuration: one version of everything that decides. It
// is immutable and safe for concurrent use.
type Loaded struct {
	// Plan is Spec, compiled.
	Plan *limiter.Plan
	// Spec is what the files say, in the core's terms.
	Spec limiter.Spec
	// Vocabulary names the descriptor keys of LLM calls.
	Vocabulary Vocabulary
	// Gateways are the names in certificates of those whose reports are believed at
	// once; empty: whoever speaks Envoy's protocols.
	Gateways []string
	// Providers are those that the files describe, by name; see [Loaded.Profile].
	Providers map[string]*provider.Profile
	// Digest is 12 hex digits of a SHA-256 over all of that: equal digests
	// decide alike, whatever the files are called and however they are laid out.
	Digest string
	// ModelClasses are the classes of models as the provider itself tells them, by model.
	// Those of others are derived from their names.
	ModelClasses map[string]string
	// Sources are the files in the order in which they were read, and then the resources
	// of a control plane, each after ResourcePrefix; or "built-in".
	Sources []string
	// Quotas and Rules count the quotas, and the rules that have limits or are
	// unlimited.
	Quotas, Rules int
	// Server is what the files say of the process that serves them. It does not
	// take part in Digest.
	Server []Setting

	// Ratelimit are the domains of files of envoyproxy/ratelimit, nil if there is none.
	Ratelimit map[string]bool
	// Strict says that those count and answer as envoyproxy/ratelimit does, see [Options].
	Strict bool

	// Missing says that this stands for no configuration at all, because there has not
	// been a valid one yet; see [Options.LoadFirst]. Nothing can be decided by it.
	Missing bool

	// described are the files' own words for Providers.
	described []*configv1.Provider

	// read is what it was made of.
	read snapshot
}

// ModelClass is the attribute by which quotas and rules know which models share the
// limits of one. The server derives it from the model.
const ModelClass = "model_class"

// Profile returns what is known of the provider of that name: what the files say, or
// else what weir knows by itself, as [provider.Named] has it.
func (l *Loaded) Profile(name string) *provider.Profile {
	if p := l.Providers[name]; p != nil {
		return p
	}
	return provider.Named(name)
}

// Builtin is the only entry of [Loaded.Sources] where no files were given.
const Builtin = "built-in"

// The bounds on what is read.
const (
	// MaxFileBytes bounds one file.
	MaxFileBytes = 1 << 20
	// MaxTotalBytes bounds all files together.
	MaxTotalBytes = 16 << 20
	// MaxFiles bounds the number of files.
	MaxFiles = 1024
	// MaxDepth bounds the nesting of mappings and lists in weir's own files, and of
	// descriptors in those of envoyproxy/ratelimit.
	MaxDepth = 32
	// MaxProviders bounds the providers of all files together.
	MaxProviders = 256
	// MaxRules bounds the rules of all files together, and the quotas too.
	MaxRules = 10_000
	// MaxProblems bounds the problems that one Error holds.
	MaxProblems = 50
)
