package ratelimitstats

import (
	"strings"
	"testing"
	"time"
)

func TestTags(t *testing.T) {
	tags := sortTags(map[string]string{"zone": "eu.1:a|b", "env": "test", "": "x", "empty": ""})
	b := newBook(t, plainLines(tags), edge)
	b.Descriptor(hit("edge", "user", 0, 1))
	b.Answered(time.Millisecond)
	want(t, "in names", b.flush(0), `
		ratelimit.service.config_load_success.__env=test.__zone=eu_1_a_b:1|c
		ratelimit.service.rate_limit.edge.user.total_hits.__env=test.__zone=eu_1_a_b:1|c
		ratelimit.service.rate_limit.edge.user.within_limit.__env=test.__zone=eu_1_a_b:1|c
		ratelimit_server.ShouldRateLimit.total_requests.__env=test.__zone=eu_1_a_b:1|c
		ratelimit_server.ShouldRateLimit.response_time.__env=test.__zone=eu_1_a_b:1|ms`)

	b = newBook(t, dogLines(tags, nil), edge)
	b.Descriptor(hit("edge", "user", 0, 1))
	for range 10 {
		b.Answered(time.Millisecond)
	}
	want(t, "after values", b.flush(0), `
		ratelimit.service.config_load_success:1|c|#env:test,zone:eu_1_a_b
		ratelimit.service.rate_limit.edge.user.total_hits:1|c|#env:test,zone:eu_1_a_b
		ratelimit.service.rate_limit.edge.user.within_limit:1|c|#env:test,zone:eu_1_a_b
		ratelimit_server.ShouldRateLimit.total_requests:10|c|#env:test,zone:eu_1_a_b
		ratelimit_server.ShouldRateLimit.response_time:1|ms|@0.1|#env:test,zone:eu_1_a_b`)
}

func TestMogrifiers(t *testing.T) {
	make := func(pattern, name string, tags map[string]string) *Mogrifier {
		m, err := NewMogrifier(pattern, name, tags)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	mogrifiers := []*Mogrifier{
		make(`^ratelimit\.service\.rate_limit\.(.*)\.(.*)\.(.*)$`, "ratelimit.service.rate_limit.$3",
			map[string]string{"domain": "$1", "descriptor": "$2"}),
		make(`^ratelimit`, "never", nil),
	}
	b := newBook(t, dogLines([]Tag{{"env", "test"}}, mogrifiers), edge)
	b.Descriptor(hit("edge", "user", 0, 1))
	b.Descriptor(hit("edge", "user_a,b", 0, 1))
	want(t, "mogrified", b.flush(0), `
		never:1|c|#env:test
		ratelimit.service.rate_limit.total_hits:1|c|#env:test,descriptor:user,domain:edge
		ratelimit.service.rate_limit.within_limit:1|c|#env:test,descriptor:user,domain:edge
		ratelimit.service.rate_limit.total_hits:1|c|#env:test,descriptor:user_a_b,domain:edge
		ratelimit.service.rate_limit.within_limit:1|c|#env:test,descriptor:user_a_b,domain:edge
		never:1|g|#env:test`)
}

func TestBadMogrifiers(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		tags          map[string]string
		says          string
	}{
		{"", "x", nil, "the pattern is empty, expected a regular expression"},
		{"(", "x", nil, "missing closing )"},
		{"a", "", nil, "the name is empty, expected the name for what the pattern matches"},
		{"(a)", "$2", nil, `"$2" refers to $2, expected at most $1: the pattern has no more groups`},
		{"a", "x", map[string]string{"k": "$1"}, `"$1" refers to $1, expected at most $0`},
		{"a", "x", map[string]string{"k": ""}, `the tag "k" has the value "", expected a key and a value`},
		{"a", "$99999999999999999999", nil, `expected at most $0`},
	} {
		if _, err := NewMogrifier(tc.pattern, tc.name, tc.tags); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%q %q %v: %v, want %q", tc.pattern, tc.name, tc.tags, err, tc.says)
		}
	}
}

func FuzzMogrifiers(f *testing.F) {
	f.Add(`^a\.(.*)$`, "b.$1", "$0", "a.x:y")
	f.Add("(", "$1", "", "")
	f.Fuzz(func(t *testing.T, pattern, name, tag, stat string) {
		m, err := NewMogrifier(pattern, name, map[string]string{"k": tag})
		if err != nil {
			return
		}
		whole, tags, ok := m.apply(statName(stat), "")
		if ok && (strings.ContainsAny(whole, ":|\n") || strings.ContainsAny(tags, "|\n") || strings.Count(tags, ",") > 0) {
			t.Errorf("%q and %q mean something in a line", whole, tags)
		}
	})
}
