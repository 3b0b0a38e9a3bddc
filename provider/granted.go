package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/weir-project/weir/limiter"
)

// Granted is what a provider says that it grants an organisation for one class of
// models.
type Granted struct {
	// Class is the name of the class: that of ModelClass, if its models have one together,
	// and else the provider's name for it.
	Class string
	// Models are its models, with their aliases.
	Models []string
	// Limits are those per minute, at most one for each meter.
	Limits []limiter.LimitSpec
}

// GrantedPage is one page of what a provider grants.
type GrantedPage struct {
	Granted []Granted
	// Next is the cursor of the next page, empty on the last one.
	Next string
}

// The bounds of what is read of a page. What is beyond them is an error: a part of the
// limits would be taken for all of them.
const (
	maxGranted       = 256
	maxGrantedModels = 256 // of one class
	maxGrantedText   = 256
	maxCursor        = 4096
)

// anthropicPage is a page of Anthropic's Rate Limits API, as far as it matters.
type anthropicPage struct {
	Data *[]struct {
		ID        string `json:"id"`
		GroupType string `json:"group_type"`
		Group     struct {
			DisplayName string `json:"display_name"`
		} `json:"group"`
		Models []string `json:"models"`
		Limits []struct {
			Type  string      `json:"type"`
			Value json.Number `json:"value"`
		} `json:"limits"`
	} `json:"data"`
	Next *string `json:"next_page"`
}

// ParseAnthropicLimits reads a page of Anthropic's Rate Limits API. Groups that are not
// of models are left out, and so are limits of other kinds. The error says what is wrong
// with the page and quotes nothing of it.
func ParseAnthropicLimits(page []byte) (GrantedPage, error) {
	var p anthropicPage
	if err := json.Unmarshal(page, &p); err != nil {
		return GrantedPage{}, errors.New("the page is not JSON of the expected form")
	}
	if p.Data == nil {
		return GrantedPage{}, errors.New("the page has no list of limits")
	}
	var out GrantedPage
	if p.Next != nil {
		out.Next = *p.Next
	}
	if len(out.Next) > maxCursor {
		return GrantedPage{}, fmt.Errorf("a cursor of %d bytes, expected at most %d", len(out.Next), maxCursor)
	}
	for i := range *p.Data {
		e := &(*p.Data)[i]
		if e.GroupType != "model_group" || len(e.Models) == 0 {
			continue
		}
		g := Granted{Class: grantedClass(e.Models, e.Group.DisplayName, e.ID), Models: e.Models}
		values := make(map[string]uint64, len(e.Limits))
		for _, l := range e.Limits {
			// 0 says that it is not granted at all, which a refusal says better.
			if n, err := strconv.ParseUint(l.Value.String(), 10, 64); err == nil && n > 0 && n <= limiter.MaxAmount {
				values[l.Type] = n
			}
		}
		g.Limits = minuteLimits(values)
		if err := g.check(); err != nil {
			return GrantedPage{}, err
		}
		if out.Granted = append(out.Granted, g); len(out.Granted) > maxGranted {
			return GrantedPage{}, fmt.Errorf("more than %d classes of models", maxGranted)
		}
	}
	return out, nil
}

// grantedLimitsTable says by which of its limits a meter is kept; the first that is
// there counts.
var grantedLimitsTable = []struct {
	meter limiter.Meter
	types []string
}{
	{limiter.Requests, []string{"requests_per_minute"}},
	{limiter.InputTokens, []string{"input_tokens_per_minute_cache_aware", "input_tokens_per_minute"}},
	{limiter.OutputTokens, []string{"output_tokens_per_minute"}},
}

func minuteLimits(values map[string]uint64) []limiter.LimitSpec {
	var limits []limiter.LimitSpec
	for _, row := range grantedLimitsTable {
		for _, name := range row.types {
			if n, ok := values[name]; ok {
				limits = append(limits, limiter.LimitSpec{Meter: row.meter, Amount: n, Window: time.Minute})
				break
			}
		}
	}
	return limits
}

// grantedClass names a class by its models, if they agree or if one is known to share
// its limits, and else by what the provider calls it.
func grantedClass(models []string, names ...string) string {
	class := ModelClass("anthropic", models[0])
	for _, m := range models {
		own := ModelClass("anthropic", m)
		if own != ModelName(m) {
			class = own // known to be of several, of which some are new
			break
		}
		if own != class {
			class = ""
		}
	}
	for _, name := range append([]string{class}, names...) {
		if name != "" {
			return name
		}
	}
	return models[0]
}

func (g *Granted) check() error {
	if len(g.Models) > maxGrantedModels {
		return fmt.Errorf("a class of %d models, expected at most %d", len(g.Models), maxGrantedModels)
	}
	long := func(s string) bool { return len(s) > maxGrantedText }
	if long(g.Class) || slices.ContainsFunc(g.Models, long) {
		return fmt.Errorf("a name of more than %d bytes", maxGrantedText)
	}
	return nil
}
