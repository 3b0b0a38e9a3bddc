package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/weir-project/weir/ratelimitstats"
	"github.com/weir-project/weir/server"
)

// The variables that say where figures go, of which at most one is true.
const (
	useStatsd     = "USE_STATSD"
	useDogStatsd  = "USE_DOG_STATSD"
	usePrometheus = "USE_PROMETHEUS"
)

// mogrifierPrefix begins the names of the variables of each mogrifier.
const mogrifierPrefix = "DOG_STATSD_MOGRIFIER_"

// stats reads the variables of metrics, and notes all that is wrong with them. It returns
// nil if nothing is to be sent; where nobody says otherwise, statsd is for who stands in
// alone. Options without a place to send to are for the standard output.
func (e *refEnv) stats(standsIn bool) *ratelimitstats.Options {
	before := len(e.problems)
	e.checkStats()
	to := e.statsSinks(standsIn)
	o := &ratelimitstats.Options{Tags: e.pairs("EXTRA_TAGS", e.text("EXTRA_TAGS")), FlushInterval: e.duration("STATS_FLUSH_INTERVAL")}
	if ratio, err := strconv.ParseFloat(e.text("NEAR_LIMIT_RATIO"), 32); err == nil {
		o.NearLimitRatio = float32(ratio)
	}
	statsd := net.JoinHostPort(strings.Trim(e.text("STATSD_HOST"), "[]"), e.port("STATSD_PORT"))
	switch {
	case to[useDogStatsd]:
		o.DogStatsd = &ratelimitstats.DogStatsd{Addr: statsd, Mogrifiers: e.mogrifiers()}
	case to[useStatsd]:
		o.Statsd = &ratelimitstats.Statsd{Network: strings.ToLower(e.text("STATSD_PROTOCOL")), Addr: statsd}
	case to[usePrometheus]:
		o.Prometheus = &ratelimitstats.Prometheus{
			Addr: e.text("PROMETHEUS_ADDR"), Path: e.text("PROMETHEUS_PATH"),
			Mapping: e.mapping(), Milliseconds: e.truth("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS"),
		}
	}
	chosen := standsIn || e.isSet(useStatsd, useDogStatsd, usePrometheus)
	if len(e.problems) > before || e.truth("DISABLE_STATS") || !chosen {
		return nil
	}
	return o
}

// checkStats checks each variable of metrics by itself.
func (e *refEnv) checkStats() {
	for _, g := range refVariables {
		for i := range g.variables {
			v := &g.variables[i]
			if v.by != readForStats || !e.isSet(v.name) {
				continue
			}
			if expected := v.wrong(e.values[v.name]); expected != "" {
				e.wrong(v.name, expected)
			}
		}
	}
	if d := e.values["STATS_FLUSH_INTERVAL"]; d != "" && e.known["STATS_FLUSH_INTERVAL"].wrong(d) == "" && e.duration("STATS_FLUSH_INTERVAL") == 0 {
		e.wrong("STATS_FLUSH_INTERVAL", "a duration above 0s, such as 10s")
	}
	if _, _, err := net.SplitHostPort(e.text("PROMETHEUS_ADDR")); err != nil {
		e.wrong("PROMETHEUS_ADDR", "host:port, or :port")
	}
	if !strings.HasPrefix(e.text("PROMETHEUS_PATH"), "/") {
		e.wrong("PROMETHEUS_PATH", "a path that begins with /")
	}
}

// statsSinks says where figures go, and refuses more than one place unless they are off.
func (e *refEnv) statsSinks(standsIn bool) map[string]bool {
	to := make(map[string]bool)
	var said []string
	for _, name := range []string{useDogStatsd, useStatsd, usePrometheus} {
		switch {
		case !e.truth(name) || !standsIn && !e.isSet(name):
			continue
		case e.isSet(name):
			said = append(said, fmt.Sprintf("%s=%q", name, e.text(name)))
		default:
			said = append(said, fmt.Sprintf("%s, which is %s by default,", name, e.text(name)))
		}
		to[name] = true
	}
	if len(said) > 1 && !e.truth("DISABLE_STATS") {
		e.problems = append(e.problems, strings.Join(said, " and ")+": expected one of them, and the others to be false")
	}
	return to
}

// pairs reads text, the value of a variable, as key:value,key:value.
func (e *refEnv) pairs(name, text string) map[string]string {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	pairs := make(map[string]string)
	for pair := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(pair, ":")
		if !ok || key == "" {
			e.problems = append(e.problems, fmt.Sprintf("%s=%q: expected key:value,key:value", name, text))
			return nil
		}
		pairs[key] = value
	}
	return pairs
}

// mogrifiers reads those that USE_DOG_STATSD_MOGRIFIERS names.
func (e *refEnv) mogrifiers() []*ratelimitstats.Mogrifier {
	var all []*ratelimitstats.Mogrifier
	for name := range strings.SplitSeq(e.text("USE_DOG_STATSD_MOGRIFIERS"), ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		prefix := mogrifierPrefix + name
		tags := e.pairs(prefix+"_TAGS", e.mogrify[prefix+"_TAGS"])
		m, err := ratelimitstats.NewMogrifier(e.mogrify[prefix+"_PATTERN"], e.mogrify[prefix+"_NAME"], tags)
		if err != nil {
			e.problems = append(e.problems, fmt.Sprintf("%s_PATTERN, _NAME and _TAGS: %v", prefix, err))
			continue
		}
		all = append(all, m)
	}
	return all
}

// mapping reads the file that makes Prometheus' names; nil if there is none.
func (e *refEnv) mapping() *ratelimitstats.Mapping {
	const name = "PROMETHEUS_MAPPER_YAML"
	path := e.text(name)
	if path == "" {
		return nil
	}
	file, err := os.ReadFile(path)
	if err != nil {
		e.wrong(name, "a file that can be read: "+err.Error())
		return nil
	}
	m, err := ratelimitstats.NewMapping(file)
	if err != nil {
		e.wrong(name, "a mapping file of statsd_exporter: "+strings.Join(strings.Fields(err.Error()), " "))
		return nil
	}
	return m
}

// statsUnused says what happens instead of what a variable of metrics says, if other
// variables leave it without effect.
func (e *refEnv) statsUnused(name string, standsIn bool) string {
	to := e.statsSinks(standsIn)
	switch {
	case e.truth("DISABLE_STATS") && name != "DISABLE_STATS":
		return "DISABLE_STATS=true: no figures are sent"
	case !standsIn && !e.isSet(useStatsd, useDogStatsd, usePrometheus):
		return "no figures are sent; USE_STATSD, USE_DOG_STATSD or USE_PROMETHEUS=true says where to"
	case name == "STATSD_PROTOCOL" && to[useDogStatsd]:
		return "DogStatsD is spoken to over UDP"
	case strings.HasPrefix(name, "STATSD_") && !to[useStatsd] && !to[useDogStatsd]:
		return "no figures go to statsd; USE_STATSD=true sends them there"
	case name == "USE_DOG_STATSD_MOGRIFIERS" && !to[useDogStatsd]:
		return "no figures go to DogStatsD; USE_DOG_STATSD=true sends them there"
	case strings.HasPrefix(name, "PROMETHEUS_") && !to[usePrometheus]:
		return "figures are at weir's own /metrics; USE_PROMETHEUS=true shows them by the names of envoyproxy/ratelimit"
	}
	return ""
}

// count has a server's requests counted, and sends what is counted until the function that
// it returns is called.
func (r *refSettings) count(o *server.Options, stdout io.Writer, log *slog.Logger) (func(), error) {
	if r == nil || r.stats == nil {
		return func() {}, nil
	}
	to := *r.stats
	to.Logger = log
	if to.Statsd == nil && to.DogStatsd == nil && to.Prometheus == nil {
		to.Writer = stdout
	}
	s, err := ratelimitstats.New(to)
	if err != nil {
		return nil, err
	}
	o.Ratelimit.Observer, o.Ratelimit.Service = s, s
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Run(ctx); err != nil {
			log.Error("metrics are not sent any more: restart to send them", slog.Any("error", err))
		}
	}()
	return func() {
		stop()
		<-ended
	}, nil
}
