package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/server"
	"github.com/weir-project/weir/store/memory"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	grpcAddr, httpAddr       string
	drainDelay               time.Duration
	log                      *logFlags
	insecurePlaintext        bool
	tlsCert, tlsKey, tlsCA   string
	maxKeys, maxReservations int
	maxPerPeer               int
	stateDir                 string
	printConfig              bool
	compat                   choice
	reference                *refSettings // nil without the environment of envoyproxy/ratelimit
}

func newServeFlags() *serveFlags {
	return &serveFlags{log: newLogFlags(), compat: choice{of: []string{"ratelimit"}}}
}

func newServe(p *process) *cobra.Command {
	f := newServeFlags()
	cmd := &cobra.Command{
		Use:   "serve [FILE|DIR...]",
		Short: "Decide, for whoever asks",
		Long: `Decide, for whoever asks: Envoy over its rate limit service, programs over gRPC and JSON.

The files and directories are read as one configuration and watched: a valid change
is in force within a second, an invalid one is logged and the old one stays. With no
files weir learns what Anthropic grants each organisation and class of models; with an
admin key in ANTHROPIC_ADMIN_KEY it begins with what the Rate Limits API says.

Every flag can be a variable: --grpc-addr is WEIR_GRPC_ADDR, and so on; WEIR_CONFIG
names the files. It can be a line in the server block of a file, too: grpc_addr. Flags
win over variables, and variables over files. SIGHUP reads the files now. SIGTERM and
SIGINT drain and then stop; a second one stops at once.`,
		Example: `  weir serve
  weir serve weir.yaml
  weir serve /etc/weir --grpc-addr 0.0.0.0:8081 --tls-cert cert.pem --tls-key key.pem
  weir serve weir.yaml --print-config`,
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := readSettings(cmd, p.environ, args)
		if err != nil {
			return err
		}
		if f.compat.value != "" {
			f.reference = newRefSettings(p.environ, false, true)
		}
		return f.serve(cmd, s, p)
	}
	return cmd
}

// add adds the flags to cmd.
func (f *serveFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.grpcAddr, "grpc-addr", defaultGRPCAddr, "host:port for gRPC")
	flags.StringVar(&f.httpAddr, "http-addr", defaultHTTPAddr, "host:port for HTTP: JSON, health, metrics")
	flags.DurationVar(&f.drainDelay, "drain-delay", 5*time.Second, "how long to go on serving after saying not to be ready any more")
	choiceFlag(cmd, &f.log.format, "log-format", "", "how to log to the standard error; auto is text on a terminal")
	choiceFlag(cmd, &f.log.level, "log-level", "", "the least important lines to log")
	flags.BoolVar(&f.insecurePlaintext, "insecure-plaintext", false, "allow addresses other than loopback without TLS")
	fileFlag(cmd, &f.tlsCert, "tls-cert", "certificate to serve TLS with (PEM)")
	fileFlag(cmd, &f.tlsKey, "tls-key", "private key of --tls-cert (PEM)")
	fileFlag(cmd, &f.tlsCA, "tls-client-ca", "certificates that clients must be signed by (PEM)")
	flags.IntVar(&f.maxKeys, "max-keys", 1_000_000, "live keys; beyond them new ones of a rule share a counter")
	flags.IntVar(&f.maxReservations, "max-reservations", 1_000_000, "open reservations; beyond them calls are refused")
	flags.IntVar(&f.maxPerPeer, "max-connections-per-peer", server.DefaultMaxConnectionsPerPeer, "connections of one address, to each port; those from this machine are not counted")
	flags.StringVar(&f.stateDir, "state-dir", "", "directory that keeps what was learned over a restart")
	if err := cmd.MarkFlagDirname("state-dir"); err != nil {
		panic(fmt.Sprintf("flag state-dir was not added: %v", err))
	}
	flags.BoolVar(&f.printConfig, "print-config", false, "print each setting and where it came from, and the quotas and rules, and stop")
	choiceFlag(cmd, &f.compat, "compat", "", "ratelimit: decide and answer as envoyproxy/ratelimit does, also where weir's own way is another, and read its variables")
	if err := flags.SetAnnotation("tls-key", secretFlag, []string{"true"}); err != nil {
		panic(fmt.Sprintf("flag tls-key was not added: %v", err))
	}
}

// check refuses values that no server could run with.
func (f *serveFlags) check() error {
	switch {
	case f.drainDelay < 0:
		return usagef("--drain-delay is %s, expected 0s or more", f.drainDelay)
	case f.maxKeys < 1:
		return usagef("--max-keys is %d, expected 1 or more", f.maxKeys)
	case f.maxReservations < 1:
		return usagef("--max-reservations is %d, expected 1 or more", f.maxReservations)
	case f.maxPerPeer < 1:
		return usagef("--max-connections-per-peer is %d, expected 1 or more", f.maxPerPeer)
	case (f.tlsCert == "") != (f.tlsKey == ""):
		return usagef("--tls-cert and --tls-key need each other")
	case f.tlsCA != "" && f.tlsCert == "":
		return usagef("--tls-client-ca needs --tls-cert and --tls-key")
	}
	return nil
}

// serve loads, listens, says so, and runs until it is told to stop.
func (f *serveFlags) serve(cmd *cobra.Command, s *settings, p *process) error {
	signals := notify()
	defer signals.stop()
	loaded, log, err := f.prepare(cmd, s, p)
	if err != nil {
		return err
	}
	if f.printConfig {
		return printSettings(cmd, s, loaded)
	}
	plane, loaded, err := f.reference.begin(cmd.Context(), s, loaded, signals, log)
	if loaded == nil || err != nil {
		return err
	}
	defer plane.stop()
	defer tuneCollector(os.Getenv, availableMemory("/"))()
	store := memory.New(limiter.Options{MaxKeys: f.maxKeys, MaxReservations: f.maxReservations})
	defer store.Close()
	o := f.options(s, loaded, store, log)
	o.Planned, o.Collectors = func(p *limiter.Plan) { store.Resume(p) }, plane.collectors()
	if err := f.reference.options(&o); err != nil {
		return err
	}
	endTracing, err := f.reference.trace(&o, log)
	if err != nil {
		return err
	}
	defer endTracing()
	stopCounting, err := f.reference.count(&o, p.stdout, log)
	if err != nil {
		return err
	}
	defer stopCounting()
	srv, err := server.New(o)
	if err != nil {
		return err
	}
	defer keepLearned(store, loaded.Plan, f.stateDir, log)()
	ownGRPC, ownHTTP := srv.ServesOwn()
	f.announce(p, log, banner{
		ownGRPC: ownGRPC, ownHTTP: ownHTTP,
		version: thisBuild().Version, store: store.Name(), loaded: loaded,
		grpc: srv.GRPCAddr().String(), http: srv.HTTPAddr().String(), scheme: srv.HTTPScheme(),
	})
	defer keepGrants(p.environ, srv, log)()
	plane.attach(srv)
	return signals.run(cmd.Context(), srv, log)
}

// prepare loads the configuration, completes the settings, and logs what is odd about
// the environment.
func (f *serveFlags) prepare(cmd *cobra.Command, s *settings, p *process) (*config.Loaded, *slog.Logger, error) {
	if err := f.reference.take(s); err != nil {
		return nil, nil, err
	}
	loaded, invalid := f.reference.load(s)
	if loaded != nil {
		if err := s.takeFile(loaded.Server); err != nil {
			return nil, nil, err
		}
	}
	if f.reference != nil {
		f.reference.openly = f.insecurePlaintext && s.says("insecure-plaintext")
	}
	if err := f.check(); err != nil {
		return nil, nil, err
	}
	log, err := f.log.logger(p.stderr)
	if err != nil {
		return nil, nil, err
	}
	for _, w := range strangers(cmd.Root(), p.environ) {
		log.Warn("unknown environment variable", "name", w.name, "did_you_mean", w.near)
	}
	f.reference.note(s, loaded, log)
	switch {
	case invalid != nil && (loaded == nil || f.printConfig):
		return nil, nil, invalid
	case invalid != nil:
		log.Error("the configuration is invalid: until it is valid, calls are answered with an error", "error", invalid)
	}
	return loaded, log, nil
}

func (f *serveFlags) options(s *settings, loaded *config.Loaded, store server.Store, log *slog.Logger) server.Options {
	drain := f.drainDelay
	if drain == 0 {
		drain = -1 // the server's word for none at all
	}
	return server.Options{
		GRPCAddr:          f.grpcAddr,
		HTTPAddr:          f.httpAddr,
		Store:             store,
		Loaded:            loaded,
		Paths:             s.paths,
		Logger:            log,
		DrainDelay:        drain,
		Version:           thisBuild().Version,
		InsecurePlaintext: f.insecurePlaintext,

		MaxConnectionsPerPeer: f.maxPerPeer,
		TLS:                   server.TLSFiles{CertFile: f.tlsCert, KeyFile: f.tlsKey, ClientCAFile: f.tlsCA},
	}
}

// announce prints the banner, or logs the same in one line where JSON was asked for.
func (f *serveFlags) announce(p *process, log *slog.Logger, b banner) {
	if f.log.format.value != "json" {
		b.print(p.stdout)
	}
	if f.log.json(p.stderr) {
		log.Info("weir serves", "version", b.version, "store", b.store, "plan", b.loaded.Digest,
			"sources", strings.Join(b.loaded.Sources, " "), "grpc", b.grpc, "http", b.http)
	}
}

// printSettings prints each setting with its source, and what the files amount to: as a
// file of its own, with the defaults filled in.
func printSettings(cmd *cobra.Command, s *settings, loaded *config.Loaded) error {
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, row := range s.list() {
		fmt.Fprintf(t, "%s\t%s\t%s\n", row.name, row.value, row.source)
	}
	fmt.Fprintf(t, "plan\t%s\t%s, %s\n", loaded.Digest, plural(loaded.Quotas, "quota"), plural(loaded.Rules, "rule"))
	if err := t.Flush(); err != nil {
		return err
	}
	decides, err := loaded.Render()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "\n# What decides, with the defaults filled in:\n%s", decides)
	return err
}

// runner is what the signals act upon.
type runner interface {
	Run(ctx context.Context) error
	Reload()
}
