package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/provider"
)

// Load reads and checks the files and directories that paths name, and compiles
// them. Of a directory it reads every *.yaml and *.yml below it, except where a name
// begins with a dot. With no paths it returns the built-in plan. Limits that prev
// (which may be nil) has too keep their counters. The error is an [*Error]. Load
// keeps nothing of paths and may be called from any goroutine.
func Load(paths []string, prev *Loaded) (*Loaded, error) { return Options{}.Load(paths, prev) }

// build makes a configuration of what was read.
func (o Options) build(paths []string, s snapshot, r *report, prev *Loaded) (*Loaded, error) {
	if prev != nil { // by which calls are answered
		r.beside = &Background{}
	}
	l := &Loaded{Spec: builtinSpec(), Vocabulary: DefaultVocabulary(), Sources: []string{Builtin}, read: s}
	if s.absent != "" && prev != nil && len(prev.read.files) > 0 {
		r.file(s.absent, "is not there any more, expected it to stay; if nothing is to be limited, leave it empty")
	}
	if (len(paths) > 0 || s.controlled) && !s.partial {
		b := o.read(s, r)
		l.Spec, l.Vocabulary, l.Sources = b.spec(), b.vocabulary, nil
		l.Providers, l.Gateways, l.described = b.providers, b.gateways, b.words
		for _, f := range s.files {
			l.Sources = append(l.Sources, f.path)
		}
		for _, c := range s.resources {
			l.Sources = append(l.Sources, resourcePath(c))
		}
		l.Rules, l.Server, l.Ratelimit = b.rules, b.settings, b.ratelimit()
	}
	l.Strict = o.Strict
	if err := r.err(); err != nil {
		return nil, err
	}
	var before *limiter.Plan
	if prev != nil {
		before = prev.Plan
	}
	plan, err := limiter.CompileBeside(l.Spec, before, r.beside.Rest)
	if err != nil {
		return nil, &Error{Problems: []Problem{{Text: err.Error()}}}
	}
	l.Plan, l.Quotas = plan, len(l.Spec.Quotas)
	l.Digest, err = digest(l, r.beside)
	if err != nil {
		return nil, &Error{Problems: []Problem{{Text: err.Error()}}}
	}
	return l, nil
}

// read parses and translates files, and translates resources. The llm blocks and the
// providers come first, since they decide what rules and quotas mean.
func (o Options) read(s snapshot, r *report) *builder {
	b := newBuilder(r)
	b.mergeDomains, b.strict = o.MergeDomains, o.Strict
	var natives []*native
	var ratelimits []*document
	for _, file := range s.files {
		switch d := parse(file, r, o.Strict); {
		case d == nil:
		case isRatelimit(d):
			ratelimits = append(ratelimits, d)
		default:
			natives = append(natives, readNative(d, r))
		}
	}
	for _, f := range natives {
		f.takeLLM(b)
		f.takeTrust(b)
		f.takeProviders(b)
		f.takeServer(b)
	}
	for _, f := range natives {
		f.translate(b)
	}
	for _, d := range ratelimits {
		readRatelimit(d, b)
	}
	for _, c := range s.resources {
		readRatelimit(resourceDocument(c, r), b)
	}
	if !r.failed() && len(s.files) > 0 && !s.controlled && len(b.quotas) == 0 && len(b.domains) == 0 {
		r.file(s.files[0].path, "nothing to decide by, expected at least one quota, rule or domain in all files")
	}
	return b
}

// digest returns 12 hex digits of a hash over what decides.
func digest(l *Loaded, beside *Background) (string, error) {
	h := sha256.New()
	to := json.NewEncoder(h)
	err := to.Encode(struct {
		Spec       limiter.Spec
		Vocabulary Vocabulary
		Gateways   []string                     `json:",omitempty"`
		Classes    map[string]string            `json:",omitempty"`
		Providers  map[string]*provider.Profile `json:",omitempty"`
	}{limiter.Spec{Quotas: l.Spec.Quotas}, l.Vocabulary, l.Gateways, l.ModelClasses, l.Providers})
	if err == nil {
		err = digestRules(to, l.Spec.Domains, beside)
	}
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

// digestRules writes the rules of domains, resting now and then.
func digestRules(to *json.Encoder, domains []limiter.DomainSpec, beside *Background) error {
	for _, d := range domains {
		rules := d.Rules
		d.Rules = nil
		if err := to.Encode(d); err != nil {
			return err
		}
		for i := range rules {
			beside.giveWay(i)
			if err := to.Encode(&rules[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
