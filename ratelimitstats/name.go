package ratelimitstats

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// The roots of all names.
const (
	serviceRoot = "ratelimit.service"
	limitRoot   = serviceRoot + ".rate_limit."
	serverRoot  = "ratelimit_server.ShouldRateLimit"
)

// other is the name of what is one too many to have a name of its own.
const other = "other"

// The counters of a series of limits, in the order of their names. Their values are hits.
const (
	totalHits = iota
	overLimit
	nearLimit
	overLimitLocally // never counted: no answer comes from a cache of refusals
	withinLimit
	shadowMode
	negativeHits
)

// The counters of the service.
const (
	configLoadSuccess = iota
	configLoadError
	globalShadowMode
	serviceError
	storeError
	seriesFolded
)

// The names of the counters, below that of their series.
var (
	limitNames = []string{
		totalHits: "total_hits", overLimit: "over_limit", nearLimit: "near_limit",
		overLimitLocally: "over_limit_with_local_cache", withinLimit: "within_limit",
		shadowMode: "shadow_mode", negativeHits: "total_negative_hits",
	}
	domainNames  = []string{"domain_not_found"}
	serverNames  = []string{"total_requests"}
	serviceNames = []string{
		configLoadSuccess: "config_load_success", configLoadError: "config_load_error",
		globalShadowMode: "global_shadow_mode",
		serviceError:     "call.should_rate_limit.service_error",
		storeError:       "call.should_rate_limit.redis_error",
		seriesFolded:     "series_folded",
	}
)

// responseTime is the name of the timer, and runtimeSeries that of the gauge.
const (
	responseTime  = "response_time"
	runtimeSeries = "runtime_series"
)

// ipv4 is what looks like an address: its dots would be levels of a name.
var ipv4 = regexp.MustCompile(`\d{1,3}(\.\d{1,3}){3}`)

// statName returns s as a part of a name: without the characters that mean something in
// the lines of statsd, the dots in addresses, or anything that is no text.
func statName(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "_")
	}
	s = strings.Map(func(r rune) rune {
		if r == ':' || r == '|' || r < ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, s)
	return ipv4.ReplaceAllStringFunc(s, func(address string) string {
		return strings.ReplaceAll(address, ".", "_")
	})
}

// Tag is a key and a value that every metric has.
type Tag struct{ Key, Value string }

// sortTags returns the tags of m that have a key and a value, by key, with nothing in the
// values that means something in a line.
func sortTags(m map[string]string) []Tag {
	clean := strings.NewReplacer(".", "_", ":", "_", "|", "_")
	var tags []Tag
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if key != "" && m[key] != "" {
			tags = append(tags, Tag{key, clean.Replace(m[key])})
		}
	}
	return tags
}
