package server

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
)

// word is what the key of a descriptor's entry means in an LLM domain.
type word uint8

// The words. Those up to lastAttribute say who asks for what, and are matched.
const (
	wordOther word = iota // any other key: an attribute of its own name
	wordOrg
	wordTenant
	wordModel
	wordProvider
	wordCredential
	wordWorkspace
	wordLongContext
	wordPriority

	wordInputTokens
	wordCachedInputTokens
	wordBodyBytes
	wordMaxTokens
	wordRequestID
	wordRetry
	wordMeter
	wordPhase

	wordReservation
	wordStatus
	wordDetails
	wordAttempts
	wordLastEvent
	wordCacheCreationInputTokens
	wordCacheReadInputTokens
	wordOutputTokens
	wordErrorType
	wordErrorMessage
	wordRetryAfter
	numWords

	lastAttribute = wordPriority
)

// attributeNames are the names under which quotas and rules know the attributes,
// whatever they are called on the wire.
var attributeNames = [lastAttribute + 1]string{
	wordOrg: "org", wordTenant: "tenant", wordModel: "model", wordProvider: "provider",
	wordCredential: "credential", wordWorkspace: "workspace", wordLongContext: "long_context",
	wordPriority: "priority",
}

// The values of the words meter and phase.
const (
	phaseAdmit  = "admit"
	phaseSettle = "settle"
)

// wordSet is a set of words.
type wordSet uint32

func (s wordSet) has(w word) bool       { return s&(1<<w) != 0 }
func (s wordSet) hasAny(o wordSet) bool { return s&o != 0 }

func words(ws ...word) wordSet {
	var s wordSet
	for _, w := range ws {
		s |= 1 << w
	}
	return s
}

var (
	// reportWords mark a descriptor as a report.
	reportWords = words(wordReservation, wordStatus, wordDetails)
	// usageWords mark it as one if the request is named.
	usageWords = words(wordCacheCreationInputTokens, wordCacheReadInputTokens, wordOutputTokens)
)

// vocabulary is a config.Vocabulary made fit for looking up. It is immutable.
type vocabulary struct {
	domains    []string
	words      map[string]word
	namespaces []string
	names      [numWords]string
}

func newVocabulary(v *config.Vocabulary) *vocabulary {
	c := &vocabulary{
		domains:    slices.Clone(v.Domains),
		namespaces: slices.Clone(v.MetadataNamespaces),
		words:      make(map[string]word, int(numWords)+2),
	}
	for w, name := range map[word]string{
		wordOrg: v.Org, wordTenant: v.Tenant, wordModel: v.Model, wordProvider: v.Provider,
		wordCredential: v.Credential, wordWorkspace: v.Workspace, wordLongContext: v.LongContext, wordPriority: v.Priority,
		wordInputTokens: v.InputTokens, wordCachedInputTokens: v.CachedInputTokens, wordBodyBytes: v.BodyBytes, wordMaxTokens: v.MaxTokens,
		wordRequestID: v.RequestID, wordRetry: v.Retry, wordMeter: v.Meter, wordPhase: v.Phase,
		wordReservation: v.Reservation, wordStatus: v.Status, wordDetails: v.Details, wordAttempts: v.Attempts, wordLastEvent: v.LastEvent,
		wordCacheCreationInputTokens: v.CacheCreationInputTokens, wordCacheReadInputTokens: v.CacheReadInputTokens, wordOutputTokens: v.OutputTokens,
		wordErrorType: v.ErrorType, wordErrorMessage: v.ErrorMessage, wordRetryAfter: v.RetryAfter,
	} {
		if name != "" {
			c.words[name] = w
			c.names[w] = name
		}
	}
	c.alias(config.MeterAlias, wordMeter)
	// The header of that name, passed on as it is.
	c.alias("retry-after", wordRetryAfter)
	return c
}

// vocabularies makes the vocabulary of a configuration fit for use, once. It is safe
// for concurrent use.
type vocabularies struct{ latest atomic.Pointer[vocabularyOf] }

type vocabularyOf struct {
	loaded     *config.Loaded
	vocabulary *vocabulary
}

// of returns the vocabulary of l.
func (s *vocabularies) of(l *config.Loaded) *vocabulary {
	if v := s.latest.Load(); v != nil && v.loaded == l {
		return v.vocabulary
	}
	v := &vocabularyOf{loaded: l, vocabulary: newVocabulary(&l.Vocabulary)}
	s.latest.Store(v)
	return v.vocabulary
}

// alias makes a second name of a word, unless it means something else already.
func (c *vocabulary) alias(name string, w word) {
	if _, taken := c.words[name]; !taken {
		c.words[name] = w
	}
}

// speaks says whether descriptors of domain are read by this vocabulary.
func (c *vocabulary) speaks(domain string) bool { return slices.Contains(c.domains, domain) }

// phrase is one descriptor, or one access log entry, read by a vocabulary: the value
// of each word, and which words there were.
type phrase struct {
	has    wordSet
	values [numWords]string
}

// say takes in one entry; where a word occurs twice the first one counts. It returns
// the word.
func (c *vocabulary) say(p *phrase, e limiter.Entry) word {
	w := c.words[e.Key]
	if w == wordMeter && !isMeter(e.Value) {
		w = wordOther // somebody's own key of that name
	}
	if !p.has.has(w) {
		p.has |= 1 << w
		p.values[w] = e.Value
	}
	return w
}

// isMeter says whether the value of a meter entry is one that weir can count.
func isMeter(value string) bool {
	if _, ok := limiter.ParseMeter(value); ok {
		return true
	}
	return value == cacheCreationMeter || value == cacheReadMeter
}

// The values of a meter entry that only reports have.
const (
	cacheCreationMeter = "cache_creation_input_tokens"
	cacheReadMeter     = "cache_read_input_tokens"
)

// role is what a descriptor is for.
type role uint8

const (
	rolePlain   role = iota // matched against the tree of rules
	roleAsk                 // asks for a call, alone or with others
	roleContext             // says more about the asks of the same request
	roleReport              // says how a call went
	roleNone                // nothing that could be charged
)

// role tells from its words what a descriptor is for.
func (p *phrase) role() role {
	phase := p.get(wordPhase)
	switch {
	case p.has&^words(wordOther) == 0:
		return rolePlain
	case p.has.hasAny(reportWords), phase == phaseSettle,
		p.has.has(wordRequestID) && p.has.hasAny(usageWords):
		return roleReport
	case phase == phaseAdmit && !p.has.has(wordMeter):
		return roleContext
	}
	return roleAsk
}

// maxText is how much of an error's text is read, in bytes.
const maxText = 1 << 10

// shorten cuts a text to maxText bytes, and not within a character.
func shorten(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "")
}
