package provider

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-project/weir/limiter"
)

// Profile is what is known of one upstream. One that Named returned, or that was
// checked, is read-only and safe for concurrent use.
type Profile struct {
	// Name is the provider's name in configurations.
	Name string
	// Rules say what failures mean. The first one that fits decides; what none fits is
	// of class unknown.
	Rules []Rule
	// Types are the statuses that errors have when they come before the answer. By them
	// errors inside a stream are read, which have no status of their own.
	Types []TypeStatus
	// Meters are how refusals name a meter. The first one found decides.
	Meters []MeterText
	// Numbers are the words before numbers in refusals.
	Numbers []NumberText
	// Waits are the words before a wait in error texts: the last resort, where no
	// header says it.
	Waits []string
	// Untils are the words before the date on which a budget comes back.
	Untils []string
	// Headers are the rate-limit headers.
	Headers []HeaderRule
	// Refunds say, by class, what is not counted of a call that failed before the
	// upstream was at work on it.
	Refunds [limiter.ClassUnknown + 1]Refund
	// Weights say how often an output token counts, by model; once where none fits.
	Weights []ModelWeight
	// CountsCacheReads says that input tokens read from the cache count, where the
	// configuration of a quota does not say.
	CountsCacheReads bool
	// CacheReadModels are parts of the names of models, in lower case, of which they count
	// also where those of others do not.
	CacheReadModels []string
	// ReservesMaxTokens says that the upstream holds max_tokens from the start of a call,
	// where the configuration of a quota does not say.
	ReservesMaxTokens bool
	// JointTokens says that input and output share one limit.
	JointTokens bool
}

// Rule says what failures of some statuses mean. All that it names must fit.
type Rule struct {
	// From and To are the first and the last status.
	From, To int
	// Code is the error's type or code, in lower case. It fits also where it stands in
	// the message. Empty fits any.
	Code string
	// Text is what stands in the message, in lower case. Empty fits any.
	Text string
	// Class is what it means.
	Class limiter.Class
	// Meter is the meter whose limit refused, if HasMeter; otherwise the message may name it.
	Meter    limiter.Meter
	HasMeter bool
	// Begun says that the upstream may have been at work on the call.
	Begun bool
	// Mute says that a wait that comes with it is not meant for it.
	Mute bool
	// Narrow says that what is spent is not the organisation's money, which pays for all
	// models, but an allowance of one model, or of a part of the organisation.
	Narrow bool
}

// TypeStatus is the status of an error type, which is in lower case.
type TypeStatus struct {
	Type   string
	Status int
}

// MeterText is how a refusal names a meter: by a text in its message, or by its error
// type, both in lower case.
type MeterText struct {
	Text, Type string
	Meter      limiter.Meter
}

// Number is what a number in a refusal means.
type Number uint8

// The numbers.
const (
	// NumberLimit is the limit per minute.
	NumberLimit Number = iota
	// NumberRequested is what the call asked for.
	NumberRequested
	// NumberRamp is the limit per minute in force while use grows too fast.
	NumberRamp
	// NumberRampNext is what it becomes.
	NumberRampNext
	numNumbers
)

// NumberText is the text before a number, in lower case, and what the number means.
type NumberText struct {
	Text   string
	Number Number
}

// Part is what a header says.
type Part uint8

// The parts.
const (
	// PartAside: something about a limit that is none of a minute's.
	PartAside Part = iota
	// PartLimit and PartRemaining: the limit of a meter per minute, and what is left.
	PartLimit
	PartRemaining
	// PartReset: when the meter is whole again, as a date, a wait or seconds since 1970.
	PartReset
	// PartWindowRemaining and PartWindowReset: what is left of a window of unknown
	// length, and when the next one begins.
	PartWindowRemaining
	PartWindowReset
	// PartWaitSeconds, PartWaitMillis and PartWaitDate: how long a refused call is to
	// wait. The meter means nothing.
	PartWaitSeconds
	PartWaitMillis
	PartWaitDate
	numParts
)

// HeaderRule is what a header says of a meter. The name is in lower case; at its end a *
// stands for anything.
type HeaderRule struct {
	Name  string
	Part  Part
	Meter limiter.Meter
}

// ModelWeight is how often an output token counts for models whose name has Text in it,
// in lower case.
type ModelWeight struct {
	Text   string
	Weight uint64
}

// Bounds of what a Profile may have.
const (
	maxEntries = 256
	maxWord    = 256
	maxWeight  = 1000
)

// Check says what is wrong with a profile that somebody wrote, if anything is, and in
// which of its parts.
func (p *Profile) Check() error {
	if n := max(len(p.Rules), len(p.Types), len(p.Meters), len(p.Numbers), len(p.Waits), len(p.Untils), len(p.Headers), len(p.Weights), len(p.CacheReadModels)); n > maxEntries {
		return fmt.Errorf("provider %q: a list of %d entries, want at most %d", p.Name, n, maxEntries)
	}
	for i, r := range p.Rules {
		switch {
		case r.From < 100 || r.To > 999 || r.From > r.To:
			return p.wrong("rules", i, fmt.Sprintf("statuses %d to %d, want a range within 100 to 999", r.From, r.To))
		case r.Class == limiter.ClassUnset || r.Class > limiter.ClassUnknown:
			return p.wrong("rules", i, "no class")
		case r.HasMeter && r.Meter > limiter.Tokens:
			return p.wrong("rules", i, "no meter")
		}
	}
	for i, t := range p.Types {
		if t.Status < 100 || t.Status > 999 {
			return p.wrong("types", i, fmt.Sprintf("status %d, want one from 100 to 999", t.Status))
		}
	}
	for i, n := range p.Numbers {
		if n.Number >= numNumbers {
			return p.wrong("numbers", i, "no meaning")
		}
	}
	for i, h := range p.Headers {
		if h.Part >= numParts || h.Meter > limiter.Tokens {
			return p.wrong("headers", i, "no meter or no part")
		}
	}
	for i, w := range p.Weights {
		if w.Weight < 1 || w.Weight > maxWeight {
			return p.wrong("weights", i, fmt.Sprintf("weight %d, want 1 to %d", w.Weight, maxWeight))
		}
	}
	return p.checkWords()
}

func (p *Profile) wrong(list string, i int, what string) error {
	return fmt.Errorf("provider %q: %s[%d]: %s", p.Name, list, i, what)
}

// checkWords checks the texts that are looked for.
func (p *Profile) checkWords() error {
	bad := func(list string, i int, needed bool, word string) error {
		switch {
		case needed && word == "":
			return p.wrong(list, i, "no text")
		case len(word) > maxWord:
			return p.wrong(list, i, fmt.Sprintf("a text of %d bytes, want at most %d", len(word), maxWord))
		case strings.ContainsFunc(word, func(c rune) bool { return 'A' <= c && c <= 'Z' }):
			return p.wrong(list, i, fmt.Sprintf("text %q, want lower case", word))
		}
		return nil
	}
	var err error
	each := func(list string, n int, needed bool, word func(int) string) {
		for i := range n {
			if err == nil {
				err = bad(list, i, needed, word(i))
			}
		}
	}
	each("rules", len(p.Rules), false, func(i int) string { return p.Rules[i].Code })
	each("rules", len(p.Rules), false, func(i int) string { return p.Rules[i].Text })
	each("types", len(p.Types), true, func(i int) string { return p.Types[i].Type })
	each("meters", len(p.Meters), true, func(i int) string { return p.Meters[i].Text + p.Meters[i].Type })
	each("numbers", len(p.Numbers), true, func(i int) string { return p.Numbers[i].Text })
	each("waits", len(p.Waits), true, func(i int) string { return p.Waits[i] })
	each("untils", len(p.Untils), true, func(i int) string { return p.Untils[i] })
	each("headers", len(p.Headers), true, func(i int) string { return strings.TrimSuffix(p.Headers[i].Name, "*") })
	each("cache read models", len(p.CacheReadModels), true, func(i int) string { return p.CacheReadModels[i] })
	each("weights", len(p.Weights), true, func(i int) string { return p.Weights[i].Text })
	return err
}

var profilesTable = []*Profile{
	&anthropicTable, &openaiTable, &azureTable, &bedrockTable, &vertexTable, &geminiTable,
	&groqTable, &mistralTable, &openrouterTable, &genericTable,
}

// Named returns the profile of the provider of that name: Anthropic's for none, and the
// generic one, which knows the common forms of all, for one that has no profile.
func Named(name string) *Profile {
	if name == "" {
		return &anthropicTable
	}
	for _, p := range profilesTable {
		if p.Name == name {
			return p
		}
	}
	return &genericTable
}

// Names returns the names of all profiles. The caller owns the result.
func Names() []string {
	names := make([]string, 0, len(profilesTable))
	for _, p := range profilesTable {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return names
}
