package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weir-project/weir/ratelimitstats"
)

// Where figures go, by what the environment says: for who stands in, and for others.
func TestStatsOfTheEnvironment(t *testing.T) {
	plain := func(change func(*ratelimitstats.Options)) *ratelimitstats.Options {
		o := &ratelimitstats.Options{NearLimitRatio: 0.8, FlushInterval: 10 * time.Second}
		change(o)
		return o
	}
	statsd := func(network, addr string) func(*ratelimitstats.Options) {
		return func(o *ratelimitstats.Options) { o.Statsd = &ratelimitstats.Statsd{Network: network, Addr: addr} }
	}
	byDefault := plain(statsd("tcp", "localhost:8125"))
	prometheus := &ratelimitstats.Prometheus{Addr: ":9090", Path: "/metrics"}
	for name, tc := range map[string]struct {
		environ        string
		standIn, serve *ratelimitstats.Options // nil: nothing is sent
	}{
		"nothing set":   {"", byDefault, nil},
		"statsd wanted": {"USE_STATSD=true", byDefault, byDefault},
		"statsd elsewhere": {
			"STATSD_HOST=fd00::1 STATSD_PORT=8126 STATSD_PROTOCOL=UDP STATS_FLUSH_INTERVAL=1s NEAR_LIMIT_RATIO=0.5 EXTRA_TAGS=env:test,zone:eu:1",
			&ratelimitstats.Options{
				NearLimitRatio: 0.5, FlushInterval: time.Second, Tags: map[string]string{"env": "test", "zone": "eu:1"},
				Statsd: &ratelimitstats.Statsd{Network: "udp", Addr: "[fd00::1]:8126"},
			}, nil,
		},
		"none":   {"DISABLE_STATS=true USE_STATSD=true USE_PROMETHEUS=true", nil, nil},
		"stdout": {"USE_STATSD=false", plain(func(*ratelimitstats.Options) {}), plain(func(*ratelimitstats.Options) {})},
		"dog": {
			"USE_STATSD=false USE_DOG_STATSD=true STATSD_HOST=agent",
			plain(func(o *ratelimitstats.Options) { o.DogStatsd = &ratelimitstats.DogStatsd{Addr: "agent:8125"} }),
			plain(func(o *ratelimitstats.Options) { o.DogStatsd = &ratelimitstats.DogStatsd{Addr: "agent:8125"} }),
		},
		"prometheus": {
			"USE_STATSD=0 USE_PROMETHEUS=1",
			plain(func(o *ratelimitstats.Options) { o.Prometheus = prometheus }),
			plain(func(o *ratelimitstats.Options) { o.Prometheus = prometheus }),
		},
		"prometheus elsewhere": {
			"USE_STATSD=false USE_PROMETHEUS=true PROMETHEUS_ADDR=localhost:1 PROMETHEUS_PATH=/m PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS=true",
			plain(func(o *ratelimitstats.Options) {
				o.Prometheus = &ratelimitstats.Prometheus{Addr: "localhost:1", Path: "/m", Milliseconds: true}
			}),
			plain(func(o *ratelimitstats.Options) {
				o.Prometheus = &ratelimitstats.Prometheus{Addr: "localhost:1", Path: "/m", Milliseconds: true}
			}),
		},
	} {
		for standsIn, want := range map[bool]*ratelimitstats.Options{true: tc.standIn, false: tc.serve} {
			e := readRefEnv(strings.Fields(tc.environ))
			got := e.stats(standsIn)
			if len(e.problems) > 0 {
				t.Errorf("%s: %q", name, e.problems)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s, standing in %t (-want +got):\n%s", name, standsIn, diff)
			}
		}
	}
	// Who does not stand in has no default that Prometheus could be in the way of.
	e := readRefEnv([]string{"USE_PROMETHEUS=true"})
	if o := e.stats(false); o == nil || o.Prometheus == nil || len(e.problems) > 0 {
		t.Errorf("USE_PROMETHEUS=true alone: %+v, %q", o, e.problems)
	}
}

// Mogrifiers are read in the order in which they are named, and the mapping from its file.
func TestStatsOfTheEnvironmentFromElsewhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mapping.yaml")
	if err := os.WriteFile(file, []byte("mappings: [{match: a.*, name: b, timer_type: histogram}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := readRefEnv([]string{
		"USE_STATSD=false", "USE_DOG_STATSD=true", "USE_DOG_STATSD_MOGRIFIERS=B, A",
		`DOG_STATSD_MOGRIFIER_A_PATTERN=^a\.(.*)$`, "DOG_STATSD_MOGRIFIER_A_NAME=x.$1", "DOG_STATSD_MOGRIFIER_A_TAGS=k:$1",
		"DOG_STATSD_MOGRIFIER_B_PATTERN=^b$", "DOG_STATSD_MOGRIFIER_B_NAME=y",
	})
	if o := e.stats(true); len(e.problems) > 0 || o == nil || len(o.DogStatsd.Mogrifiers) != 2 {
		t.Errorf("mogrifiers: %+v, %q", o, e.problems)
	}
	e = readRefEnv([]string{"USE_STATSD=false", "USE_PROMETHEUS=true", "PROMETHEUS_MAPPER_YAML=" + file})
	if o := e.stats(true); len(e.problems) > 0 || o == nil || o.Prometheus.Mapping == nil {
		t.Errorf("mapping: %+v, %q", o, e.problems)
	}
}

// All that is wrong is said at once: the variable, its value, and what was expected.
func TestWrongStatsOfTheEnvironment(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "mapping.yaml")
	if err := os.WriteFile(bad, []byte("mapping: []"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		environ  []string
		problems []string
	}{
		{
			[]string{
				"USE_STATSD=yes", "STATSD_PORT=http", "STATSD_PROTOCOL=sctp", "EXTRA_TAGS=env", "STATS_FLUSH_INTERVAL=10", "NEAR_LIMIT_RATIO=80",
				"PROMETHEUS_ADDR=9090", "PROMETHEUS_PATH=metrics", "PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS=ms",
			},
			[]string{
				`USE_STATSD="yes": expected true or false`,
				`STATSD_PORT="http": expected a port, from 0 to 65535`,
				`STATSD_PROTOCOL="sctp": expected one of tcp, udp`,
				`PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS="ms": expected true or false`,
				`STATS_FLUSH_INTERVAL="10": expected a duration of 0s or more, such as 500ms, 10s or 24h`,
				`NEAR_LIMIT_RATIO="80": expected a number from 0 to 1`,
				`PROMETHEUS_ADDR="9090": expected host:port, or :port`,
				`PROMETHEUS_PATH="metrics": expected a path that begins with /`,
				`EXTRA_TAGS="env": expected key:value,key:value`,
			},
		},
		{[]string{"STATS_FLUSH_INTERVAL=0s"}, []string{`STATS_FLUSH_INTERVAL="0s": expected a duration above 0s, such as 10s`}},
		{
			[]string{"USE_PROMETHEUS=true"},
			[]string{`USE_STATSD, which is true by default, and USE_PROMETHEUS="true": expected one of them, and the others to be false`},
		},
		{
			[]string{"USE_DOG_STATSD=1", "USE_STATSD=1", "USE_PROMETHEUS=1"},
			[]string{`USE_DOG_STATSD="1" and USE_STATSD="1" and USE_PROMETHEUS="1": expected one of them, and the others to be false`},
		},
		{
			[]string{"USE_STATSD=false", "USE_DOG_STATSD=true", "USE_DOG_STATSD_MOGRIFIERS=A,B,C", "DOG_STATSD_MOGRIFIER_B_PATTERN=(", "DOG_STATSD_MOGRIFIER_C_TAGS=x"},
			[]string{
				"DOG_STATSD_MOGRIFIER_A_PATTERN, _NAME and _TAGS: the pattern is empty, expected a regular expression",
				"DOG_STATSD_MOGRIFIER_B_PATTERN, _NAME and _TAGS: the pattern \"(\" is no regular expression: error parsing regexp: missing closing ): `(`",
				`DOG_STATSD_MOGRIFIER_C_TAGS="x": expected key:value,key:value`,
				"DOG_STATSD_MOGRIFIER_C_PATTERN, _NAME and _TAGS: the pattern is empty, expected a regular expression",
			},
		},
		{
			[]string{"USE_STATSD=false", "USE_PROMETHEUS=true", "PROMETHEUS_MAPPER_YAML=/nowhere/m.yaml"},
			[]string{`PROMETHEUS_MAPPER_YAML="/nowhere/m.yaml": expected a file that can be read: open /nowhere/m.yaml: no such file or directory`},
		},
		{
			[]string{"USE_STATSD=false", "USE_PROMETHEUS=true", "PROMETHEUS_MAPPER_YAML=" + bad},
			[]string{`PROMETHEUS_MAPPER_YAML="` + bad + `": expected a mapping file of statsd_exporter: yaml: unmarshal errors: line 1: field mapping not found in type mapper.MetricMapper`},
		},
	} {
		e := readRefEnv(tc.environ)
		if o := e.stats(true); o != nil {
			t.Errorf("%v: %+v is not nil", tc.environ, o)
		}
		slices.Sort(tc.problems)
		slices.Sort(e.problems)
		if diff := cmp.Diff(tc.problems, e.problems); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tc.environ, diff)
		}
	}
}

// What other variables leave without effect is named, with what happens instead.
func TestUnusedStatsOfTheEnvironment(t *testing.T) {
	for _, tc := range []struct {
		environ, name string
		standsIn      bool
		instead       string
	}{
		{"STATSD_HOST=x", "STATSD_HOST", true, ""},
		{"STATSD_HOST=x", "STATSD_HOST", false, "no figures are sent; USE_STATSD"},
		{"USE_STATSD=false STATSD_HOST=x", "STATSD_HOST", true, "no figures go to statsd"},
		{"USE_STATSD=false USE_DOG_STATSD=true STATSD_HOST=x", "STATSD_HOST", true, ""},
		{"USE_STATSD=false USE_DOG_STATSD=true STATSD_PROTOCOL=udp", "STATSD_PROTOCOL", true, "DogStatsD is spoken to over UDP"},
		{"USE_DOG_STATSD_MOGRIFIERS=A", "USE_DOG_STATSD_MOGRIFIERS", true, "no figures go to DogStatsD"},
		{"PROMETHEUS_PATH=/x", "PROMETHEUS_PATH", true, "figures are at weir's own /metrics"},
		{"USE_STATSD=false USE_PROMETHEUS=true PROMETHEUS_PATH=/x", "PROMETHEUS_PATH", true, ""},
		{"DISABLE_STATS=true EXTRA_TAGS=a:b", "EXTRA_TAGS", true, "DISABLE_STATS=true: no figures are sent"},
		{"DISABLE_STATS=true", "DISABLE_STATS", true, ""},
		{"EXTRA_TAGS=a:b", "EXTRA_TAGS", true, ""},
	} {
		got := readRefEnv(strings.Fields(tc.environ)).statsUnused(tc.name, tc.standsIn)
		if !strings.HasPrefix(got, tc.instead) || (tc.instead == "") != (got == "") {
			t.Errorf("%s: %q, want %q", tc.environ, got, tc.instead)
		}
	}
}
