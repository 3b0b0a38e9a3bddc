package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/config/xds"
	"github.com/weir-project/weir/ratelimitstats"
	"github.com/weir-project/weir/server"
)

// refSettings is the environment of envoyproxy/ratelimit, and how much of it is wanted. A
// nil one is none: its methods leave everything to weir's own settings.
type refSettings struct {
	env *refEnv
	// standsIn says that weir is in the place of envoyproxy/ratelimit, and takes its
	// defaults too; else it takes what is set.
	standsIn bool
	// strict says that weir decides and answers as envoyproxy/ratelimit also where its own
	// way is another.
	strict bool
	// openly says that somebody asked for plain text: its default here is no such wish.
	openly bool
	// dir is where rules are, if the environment says that; empty if it does not.
	dir string
	// reading is how they are read.
	reading config.Options
	// stats says what is counted by the names of envoyproxy/ratelimit, and where it goes;
	// nil if nothing is.
	stats *ratelimitstats.Options
	// control says how to ask a control plane, if the environment says that there is one.
	control xds.Options
}

func newRefSettings(environ []string, standsIn, strict bool) *refSettings {
	return &refSettings{env: readRefEnv(environ), standsIn: standsIn, strict: strict}
}

// take checks the environment as a whole, and fills the settings that neither flags nor
// WEIR_ variables set. Its error says everything that is wrong.
func (r *refSettings) take(s *settings) error {
	if r == nil {
		return nil
	}
	e := r.env
	if e.truth("GRPC_SERVER_USE_TLS") {
		for _, name := range []string{"GRPC_SERVER_TLS_CERT", "GRPC_SERVER_TLS_KEY"} {
			if !e.isSet(name) {
				e.problems = append(e.problems, name+" is not set: GRPC_SERVER_USE_TLS=true needs it, expected a PEM file")
			}
		}
		if e.isSet("GRPC_CLIENT_TLS_SAN") && r.clientCA() == "" {
			e.problems = append(e.problems, "GRPC_CLIENT_TLS_CACERT is not set: GRPC_CLIENT_TLS_SAN needs it, expected a PEM file")
		}
	}
	r.takeElsewhere()
	r.checkHeaders()
	if e.isSet("MEMCACHE_HOST_PORT") && e.isSet("MEMCACHE_SRV") {
		e.problems = append(e.problems, "MEMCACHE_HOST_PORT and MEMCACHE_SRV are both set, expected one of them")
	}
	if err := e.err(); err != nil {
		return err
	}
	for _, f := range r.flags() {
		if err := s.takeReference(f); err != nil {
			return err
		}
	}
	r.takePaths(s)
	return nil
}

// takeElsewhere has those variables read that are for a control plane and for figures.
func (r *refSettings) takeElsewhere() {
	r.stats = r.env.stats(r.standsIn)
	if !r.controlled() {
		return
	}
	o, _, err := xdsFromEnvironment(func(name string) (string, bool) {
		value, ok := r.env.values[name]
		return value, ok
	})
	if err != nil {
		r.env.problems = append(r.env.problems, strings.Split(err.Error(), "\n")...)
	}
	r.control = o
}

// controlled says whether rules come from a control plane.
func (r *refSettings) controlled() bool {
	return r != nil && strings.EqualFold(r.env.text("CONFIG_TYPE"), "GRPC_XDS_SOTW")
}

// checkHeaders refuses names that no header can have.
func (r *refSettings) checkHeaders() {
	for _, name := range []string{"LIMIT_LIMIT_HEADER", "LIMIT_REMAINING_HEADER", "LIMIT_RESET_HEADER"} {
		ok := true
		for _, c := range r.env.text(name) {
			ok = ok && (c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.ContainsRune("!#$%&'*+-.^_`|~", c))
		}
		if !ok {
			r.env.wrong(name, "the name of a header")
		}
	}
}

func (r *refSettings) clientCA() string {
	if ca := r.env.text("GRPC_CLIENT_TLS_CACERT"); ca != "" {
		return ca
	}
	return r.env.text("GRPC_SERVER_TLS_CA_CERT")
}

// refFlag is the value that the environment gives to a flag.
type refFlag struct {
	flag, value string
	from        string // the variables that say so; empty if it is a default
}

// flags returns what the environment says about settings that are flags, too; defaults
// only if weir stands in.
func (r *refSettings) flags() []refFlag {
	e := r.env
	all := []refFlag{
		r.address("http-addr", "HOST", "PORT", defaultHTTPAddr),
		r.address("grpc-addr", "GRPC_HOST", "GRPC_PORT", defaultGRPCAddr),
		r.word("log-level", "LOG_LEVEL", map[string]string{"trace": "debug", "warning": "warn", "fatal": "error", "panic": "error"}),
		r.word("log-format", "LOG_FORMAT", nil),
	}
	if r.standsIn {
		all = append(all, refFlag{flag: "insecure-plaintext", value: "true"})
	}
	if e.truth("GRPC_SERVER_USE_TLS") {
		all = append(all,
			refFlag{"tls-cert", e.text("GRPC_SERVER_TLS_CERT"), "GRPC_SERVER_TLS_CERT"},
			refFlag{"tls-key", e.text("GRPC_SERVER_TLS_KEY"), "GRPC_SERVER_TLS_KEY"})
		if ca := r.clientCA(); ca != "" {
			from := "GRPC_CLIENT_TLS_CACERT"
			if !e.isSet(from) {
				from = "GRPC_SERVER_TLS_CA_CERT"
			}
			all = append(all, refFlag{"tls-client-ca", ca, from})
		}
	}
	return slices.DeleteFunc(all, func(f refFlag) bool { return !r.standsIn && f.from == "" })
}

// address joins a host and a port. Where only one is set the other is the default: that
// of weir, unless weir stands in.
func (r *refSettings) address(flag, host, port, own string) refFlag {
	h, p, err := net.SplitHostPort(own)
	if err != nil {
		panic("a default address is none: " + own)
	}
	var from []string
	if r.standsIn || r.env.isSet(host) {
		h = r.env.text(host)
	}
	if r.standsIn || r.env.isSet(port) {
		p = r.env.port(port)
	}
	for _, name := range []string{host, port} {
		if r.env.isSet(name) {
			from = append(from, name)
		}
	}
	return refFlag{flag, net.JoinHostPort(strings.Trim(h, "[]"), p), strings.Join(from, ", ")}
}

// word returns the value of a variable whose words are those of a flag, but for some.
func (r *refSettings) word(flag, name string, differs map[string]string) refFlag {
	word := strings.ToLower(r.env.text(name))
	if d := differs[word]; d != "" {
		word = d
	}
	f := refFlag{flag: flag, value: word}
	if r.env.isSet(name) {
		f.from = name
	}
	return f
}

// takeReference gives a flag the value that the environment of envoyproxy/ratelimit has
// for it, unless the command line or a WEIR_ variable has one.
func (s *settings) takeReference(f refFlag) error {
	flag := s.cmd.Flags().Lookup(f.flag)
	if flag.Changed || s.fromEnv[f.flag] != "" {
		return nil
	}
	if err := flag.Value.Set(f.value); err != nil {
		return usagef("%s=%q: %v", f.from, f.value, err)
	}
	if f.from != "" {
		s.fromEnv[f.flag] = f.from
	}
	return nil
}

// takePaths finds out where rules are, unless arguments or WEIR_CONFIG say so.
func (r *refSettings) takePaths(s *settings) {
	e := r.env
	r.reading = config.Options{
		Strict:       r.strict,
		MayBeEmpty:   r.standsIn,
		MergeDomains: e.truth("MERGE_DOMAIN_CONFIG"),
		DotFiles:     (r.standsIn || e.isSet("RUNTIME_IGNOREDOTFILES")) && !e.truth("RUNTIME_IGNOREDOTFILES"),
	}
	if len(s.paths) > 0 || r.controlled() || !r.standsIn && !e.isSet("RUNTIME_ROOT", "RUNTIME_SUBDIRECTORY", "RUNTIME_APPDIRECTORY") {
		return
	}
	sub := e.text("RUNTIME_SUBDIRECTORY")
	if sub == "" && e.truth("RUNTIME_WATCH_ROOT") {
		return
	}
	r.dir = filepath.Join(e.text("RUNTIME_ROOT"), sub, e.text("RUNTIME_APPDIRECTORY"))
	s.paths, s.pathsFrom = []string{r.dir}, "env RUNTIME_ROOT, RUNTIME_SUBDIRECTORY, RUNTIME_APPDIRECTORY"
}

// load reads the configuration. Who stands in starts with an invalid one, too: what is
// returned beside the error is then not nil.
func (r *refSettings) load(s *settings) (*config.Loaded, error) {
	switch {
	case r == nil:
		return config.Load(s.paths, nil)
	case r.controlled():
		return r.reading.LoadBefore(s.paths)
	case !r.standsIn:
		return r.reading.Load(s.paths, nil)
	case len(s.paths) == 0:
		return r.reading.Nothing(), nil
	}
	return r.reading.LoadFirst(s.paths)
}

// note says in the log what is not as who knows envoyproxy/ratelimit would expect.
func (r *refSettings) note(s *settings, l *config.Loaded, log *slog.Logger) {
	if r == nil {
		return
	}
	r.env.note(log)
	r.noteUnused(log)
	if r.dir != "" {
		noteUnread(r.dir, log)
	}
	switch {
	case !r.standsIn || l.Missing || len(l.Sources) > 0:
	case len(s.paths) == 0:
		log.Warn("no rules, everything is allowed: set RUNTIME_SUBDIRECTORY to say where they are")
	default:
		log.Warn("no rules, everything is allowed: there are no files called *.yaml or *.yml", "in", someOf(s.paths, 4))
	}
}

// noteUnused names variables that have no effect because of what others say.
func (r *refSettings) noteUnused(log *slog.Logger) {
	e := r.env
	for _, g := range refVariables {
		for i := range g.variables {
			v := &g.variables[i]
			if !e.isSet(v.name) || v.isDefault(e.text(v.name)) {
				continue
			}
			instead := ""
			switch {
			case v.by == readForXDS && !r.controlled():
				instead = "rules come from files; CONFIG_TYPE=GRPC_XDS_SOTW takes them from a control plane"
			case v.name == "FORCE_START_WITHOUT_INITIAL_CONFIG" && !r.controlled():
				instead = "files are there or not, and the start waits for none"
			case v.by == readForStats:
				instead = e.statsUnused(v.name, r.standsIn)
			case strings.HasPrefix(v.name, "RUNTIME_") && r.controlled():
				instead = "rules come from the control plane"
			case strings.HasPrefix(v.name, "RUNTIME_") && r.dir == "" && v.name != "RUNTIME_IGNOREDOTFILES":
				instead = "rules are where the command line or WEIR_CONFIG say, or nowhere without RUNTIME_SUBDIRECTORY"
			case (strings.HasPrefix(v.name, "GRPC_SERVER_TLS_") || strings.HasPrefix(v.name, "GRPC_CLIENT_TLS_")) && !e.truth("GRPC_SERVER_USE_TLS"):
				instead = "gRPC is served without TLS; GRPC_SERVER_USE_TLS=true turns it on"
			case strings.HasPrefix(v.name, "TRACING_") && !e.truth("TRACING_ENABLED"):
				instead = "nothing is traced; TRACING_ENABLED=true turns it on"
			case (v.name == "GRPC_HOST" || v.name == "GRPC_PORT") && e.isSet("GRPC_UDS"):
				instead = "gRPC is served at GRPC_UDS"
			case strings.HasPrefix(v.name, "LIMIT_") && strings.HasSuffix(v.name, "_HEADER") && !e.truth("LIMIT_RESPONSE_HEADERS_ENABLED"):
				instead = "no headers are added; LIMIT_RESPONSE_HEADERS_ENABLED=true adds them"
			}
			if instead != "" {
				withoutEffect(log, v.name, instead)
			}
		}
	}
}

// options adds to o what no flag says.
func (r *refSettings) options(o *server.Options) error {
	if r == nil {
		return nil
	}
	e := r.env
	o.Reading = r.reading
	o.PlainHTTP, o.BareErrors = r.standsIn, r.standsIn || r.strict
	o.CloseOwn = r.standsIn && !r.openly
	o.ReadyWithConfig = e.truth("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED")
	if r.standsIn || e.isSet("GRPC_MAX_CONNECTION_AGE") {
		o.MaxConnectionAge = orForever(e.duration("GRPC_MAX_CONNECTION_AGE"))
	}
	if r.standsIn || e.isSet("GRPC_MAX_CONNECTION_AGE_GRACE") {
		o.MaxConnectionAgeGrace = orForever(e.duration("GRPC_MAX_CONNECTION_AGE_GRACE"))
	}
	if o.TLS.ClientCAFile != "" {
		o.TLS.ClientName = e.text("GRPC_CLIENT_TLS_SAN")
	}
	o.TLS.AllowTLS12 = r.standsIn || e.truth("GRPC_SERVER_USE_TLS")
	if e.isSet("DEBUG_HOST", "DEBUG_PORT") {
		o.DebugAddr = r.debugAddr()
	}
	o.Ratelimit.ShadowMode = e.truth("SHADOW_MODE")
	o.Ratelimit.QuotaMode = e.truth("QUOTA_MODE")
	o.Ratelimit.DynamicMetadata = e.truth("RESPONSE_DYNAMIC_METADATA")
	o.Ratelimit.Headers = server.RatelimitHeaders{
		Enabled: e.truth("LIMIT_RESPONSE_HEADERS_ENABLED"),
		Limit:   e.text("LIMIT_LIMIT_HEADER"), Remaining: e.text("LIMIT_REMAINING_HEADER"), Reset: e.text("LIMIT_RESET_HEADER"),
	}
	if path := e.text("GRPC_UDS"); path != "" {
		l, err := listenSocket(path)
		if err != nil {
			return err
		}
		o.GRPCListener = l
	}
	return nil
}

// orForever returns d, or what gRPC takes for no bound where d is 0.
func orForever(d time.Duration) time.Duration {
	if d == 0 {
		return math.MaxInt64
	}
	return d
}

// trace begins to trace calls, if the environment wants that, until the returned function
// is called.
func (r *refSettings) trace(o *server.Options, log *slog.Logger) (stop func(), err error) {
	if r == nil || !r.env.truth("TRACING_ENABLED") {
		return func() {}, nil
	}
	e := r.env
	t := tracing{
		service: e.text("TRACING_SERVICE_NAME"), namespace: e.text("TRACING_SERVICE_NAMESPACE"), instance: e.text("TRACING_SERVICE_INSTANCE_ID"),
		grpc: strings.EqualFold(e.text("TRACING_EXPORTER_PROTOCOL"), "grpc"), rate: e.fraction("TRACING_SAMPLING_RATE"),
	}
	o.Spans, stop, err = t.start(log)
	return stop, err
}

// debugAddr is where debugging is served, of whose host and port at least one is set.
func (r *refSettings) debugAddr() string {
	host := r.env.text("DEBUG_HOST")
	if !r.standsIn && !r.env.isSet("DEBUG_HOST") {
		host = "localhost"
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), r.env.port("DEBUG_PORT"))
}

// listenSocket listens at a Unix socket. One that nobody listens at any more, which a
// process that was killed leaves behind, is replaced.
func listenSocket(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
		conn, err := net.DialTimeout("unix", path, time.Second)
		switch {
		case err == nil:
			_ = conn.Close() // it was only to see whether somebody answers
			return nil, fmt.Errorf("GRPC_UDS=%q: another process serves there: stop that one, or choose another path", path)
		case errors.Is(err, syscall.ECONNREFUSED):
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("GRPC_UDS=%q: %w", path, err)
			}
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("GRPC_UDS=%q: cannot listen for gRPC there: %w", path, err)
	}
	return l, nil
}
