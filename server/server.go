package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/weir-project/weir/config"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// Server serves decisions. Its methods are safe for concurrent use.
type Server struct {
	options Options
	d       *decider
	ready   *readiness
	rls     *rls
	logs    *als

	grpcListener, httpListener net.Listener
	debugListener              net.Listener // nil if nothing is shown
	httpsOn                    bool
	grpc                       *grpc.Server
	http, debug                *http.Server

	// cut is ended when held callers and open streams are to be finished.
	cut    context.Context
	cutNow context.CancelFunc
	// stop is ended when everything is to end at once.
	stop    context.Context
	stopNow context.CancelFunc

	reloading sync.Mutex
	base      *config.Loaded // what the files say, without grants
	grants    []config.Grant
	lastError atomic.Pointer[string]
	reloader  *config.Reloader // runs only if files are watched
}

// New opens the ports and makes ready to serve; Run serves. The error says what is to
// be changed: a port that is taken, an address that must not be open, a bad key.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := checkEnvironment(); err != nil {
		return nil, err
	}
	s := &Server{options: o, ready: newReadiness(), base: o.Loaded}
	s.ready.configured(!o.ReadyWithConfig || !o.Loaded.Missing)
	s.cut, s.cutNow = context.WithCancel(context.Background())
	s.stop, s.stopNow = context.WithCancel(context.Background())
	m := newMetrics(o.Version)
	m.watchStore(o.Store)
	m.registry.MustRegister(o.Collectors...)
	s.d = newDecider(o.Store, o.Loaded, m, o.Logger, o.MaxInFlight)
	s.logs = newALS(s.d)
	s.rls = newRLS(s.d)
	s.rls.ratelimit = o.Ratelimit
	m.service = o.Ratelimit.Service
	s.tellLoaded(o.Loaded)
	s.reloader = o.Reading.NewReloader(o.Paths, o.Loaded, s.Apply, s.refuse)
	if err := s.listen(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) listen() (err error) {
	o := &s.options
	refused := newRefusedConnections(s.d.metrics, o.Logger, o.MaxConnectionsPerPeer).note
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	s.grpcListener, err = door{"gRPC", "--grpc-addr", o.GRPCAddr, o.GRPCListener}.open(o, refused)
	if err != nil {
		return err
	}
	s.httpListener, err = door{"HTTP", "--http-addr", o.HTTPAddr, o.HTTPListener}.open(o, refused)
	if err != nil {
		return err
	}
	if o.DebugAddr != "" {
		if err := s.listenDebug(refused); err != nil {
			return err
		}
	}
	if s.grpc, err = s.newGRPC(); err != nil {
		return err
	}
	s.http, err = s.newHTTP()
	return err
}

// Close frees the ports of a server that is not going to run. Run does it itself.
func (s *Server) Close() error {
	if s.grpc != nil {
		s.grpc.Stop()
	}
	var errs []error
	for _, l := range []net.Listener{s.grpcListener, s.httpListener, s.debugListener} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// newGRPC builds the gRPC server. There is no bound on the calls of a connection to the
// rate limit service: a proxy lets pass what it cannot send. Streams are bounded by
// maxStreams.
func (s *Server) newGRPC() (*grpc.Server, error) {
	options := []grpc.ServerOption{
		codecOption(),
		grpc.MaxRecvMsgSize(maxReceive),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(5 * time.Second),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 30 * time.Second, Timeout: 10 * time.Second,
			MaxConnectionIdle: 15 * time.Minute,
			MaxConnectionAge:  s.options.MaxConnectionAge, MaxConnectionAgeGrace: s.options.MaxConnectionAgeGrace,
		}),
		grpc.NumStreamWorkers(256),
		grpc.WaitForHandlers(true),
	}
	if s.options.Spans != nil {
		options = append(options, grpc.StatsHandler(s.options.Spans))
	}
	if s.options.TLS.on() {
		id, err := newIdentity(s.options.TLS, s.options.Logger, "h2")
		if err != nil {
			return nil, err
		}
		s.d.metrics.watchCertificate(id)
		options = append(options, grpc.Creds(credentials.NewTLS(id.server())))
	}
	g := grpc.NewServer(options...)
	s.rls.register(g)
	s.logs.register(g)
	behind := strict{Server: g, man: doorman{d: s.d, cut: s.cut, streams: s.logs.streams}}
	healthpb.RegisterHealthServer(behind, s.ready.grpc)
	if s.servesOwn(s.grpcListener, s.options.TLS.on()) {
		behind.RegisterService(sessionDesc(), grpcQuota{quotaService: &quotaService{d: s.d, cut: s.cut}})
		weirv1.RegisterAdminServiceServer(behind, s.admin())
		reflection.Register(behind)
	}
	return g, nil
}

// servesOwn says whether weir's own services are to be served at a listener; encrypted says
// whether it speaks TLS.
func (s *Server) servesOwn(l net.Listener, encrypted bool) bool {
	return !s.options.CloseOwn || local(l.Addr()) || encrypted && s.options.TLS.ClientCAFile != ""
}

// ServesOwn says at which of the ports weir's own services are served, see Options.CloseOwn.
func (s *Server) ServesOwn() (grpc, http bool) {
	return s.servesOwn(s.grpcListener, s.options.TLS.on()), s.servesOwn(s.httpListener, s.httpsOn)
}

// GRPCAddr is where gRPC is served.
func (s *Server) GRPCAddr() net.Addr { return s.grpcListener.Addr() }

// HTTPAddr is where HTTP is served.
func (s *Server) HTTPAddr() net.Addr { return s.httpListener.Addr() }

// HTTPScheme is "http", or "https" where the HTTP port speaks TLS.
func (s *Server) HTTPScheme() string {
	if s.httpsOn {
		return "https"
	}
	return "http"
}

// Apply puts a configuration in force, with what the provider granted. Calls under way
// finish with the one that they started with.
func (s *Server) Apply(l *config.Loaded) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	if changed := config.ChangedSettings(s.d.loaded.Load().Server, l.Server); len(changed) > 0 {
		s.options.Logger.Warn("the server block has changed: restart to put it in force",
			slog.String("settings", strings.Join(changed, " ")))
	}
	s.tellLoaded(l)
	s.base = l
	next, err := l.WithGrants(s.grants, s.d.loaded.Load().Plan)
	if err != nil {
		s.options.Logger.Error("the configuration is in force without what the provider grants", slog.String("error", err.Error()))
		next = l
	}
	s.put(next)
	s.lastError.Store(nil)
}

// Grant adds to the configuration in force, and to those that follow, what the provider
// says that it grants, in place of what it said before. Counters, and what was learned,
// stay where limits are as they were. On an error nothing changes. It keeps grants.
func (s *Server) Grant(grants []config.Grant) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	current := s.d.loaded.Load()
	next, err := s.base.WithGrants(grants, current.Plan)
	if err != nil {
		return err
	}
	s.grants = grants
	if next.Digest != current.Digest {
		s.put(next)
	}
	return nil
}

// tellLoaded tells who watches the rate limit service of a configuration, or that there
// are files and none of them to begin with.
func (s *Server) tellLoaded(l *config.Loaded) {
	w := s.options.Ratelimit.Service
	switch {
	case w == nil:
	case !l.Missing:
		w.Loaded(l)
	case len(s.options.Paths) > 0:
		w.LoadFailed()
	}
}

func (s *Server) put(l *config.Loaded) {
	if s.options.Planned != nil {
		s.options.Planned(l.Plan)
	}
	s.d.apply(l)
	s.ready.configured(!s.options.ReadyWithConfig || !l.Missing)
	s.options.Logger.Info("configuration in force", slog.String("plan", l.Digest),
		slog.Int("quotas", l.Quotas), slog.Int("rules", l.Rules))
}

// refuse notes that the configuration on disk cannot be put in force.
func (s *Server) refuse(err error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	text := err.Error()
	s.noteRefusal(text)
	if l := s.d.loaded.Load(); l.Missing {
		s.options.Logger.Error("the configuration on disk is still invalid, and there is none in force", slog.String("error", text))
	} else {
		s.options.Logger.Error("the configuration on disk is invalid, the earlier one stays in force",
			slog.String("plan", l.Digest), slog.String("error", text))
	}
}

// Reload reads the watched files now, and does not wait for it: a running server puts
// in force what they say, or logs what is wrong with them. Without files it does
// nothing.
func (s *Server) Reload() {
	if len(s.options.Paths) > 0 {
		s.reloader.Reload()
	}
}

// Stop ends a running server at once: calls under way fail. Run then returns.
func (s *Server) Stop() { s.stopNow() }

// Run serves until ctx ends, and then drains: it says that it is not serving, goes on
// serving for the drain delay, ends log streams and sessions, answers who is held, and
// returns when the calls under way have ended, or have had StopTimeout. The error says
// what kept it from serving. Run is called once.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 4)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { failed <- s.serveGRPC() })
	running.Go(func() { failed <- s.serveHTTP() })
	if s.debug != nil {
		running.Go(func() { failed <- s.serveDebug() })
	}
	running.Go(func() { s.watchOverflow(ctx) })
	if len(s.options.Paths) > 0 {
		running.Go(func() { s.watch(ctx) })
	}
	s.ready.set(true)
	var err error
	select {
	case err = <-failed:
		s.stopNow()
	case <-ctx.Done():
	case <-s.stop.Done():
	}
	cancel()
	s.drain()
	s.d.paces.end()
	return err
}

func (s *Server) serveGRPC() error {
	if err := s.grpc.Serve(s.grpcListener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("server: serving gRPC on %s: %w", s.GRPCAddr(), err)
	}
	return nil
}

func (s *Server) serveHTTP() error {
	if err := s.http.Serve(s.httpListener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("server: serving HTTP on %s: %w", s.HTTPAddr(), err)
	}
	return nil
}

// watch puts in force what the files say, until ctx ends.
func (s *Server) watch(ctx context.Context) {
	err := s.reloader.Run(ctx)
	if err != nil && ctx.Err() == nil {
		s.options.Logger.Error("the configuration is not watched any more: restart to change it", slog.String("error", err.Error()))
	}
}

// drain ends the server in the order in which nobody notices.
func (s *Server) drain() {
	log := s.options.Logger
	s.ready.set(false)
	if delay := s.options.DrainDelay; delay > 0 && s.stop.Err() == nil {
		log.Info("draining: not serving any more, but answering", slog.Duration("drain_delay", delay))
		pause := time.NewTimer(delay)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-s.stop.Done():
		}
	}
	if s.debug != nil {
		_ = s.debug.Close() // a profile that somebody takes is not waited for
	}
	s.logs.drain()
	s.cutNow()
	bound, cancel := context.WithTimeout(s.stop, s.options.StopTimeout)
	defer cancel()
	var ending sync.WaitGroup
	ending.Go(s.grpc.GracefulStop)
	ending.Go(func() {
		if err := s.http.Shutdown(bound); err != nil {
			_ = s.http.Close() // what is left is cut; there is nobody to tell
		}
	})
	ended := make(chan struct{})
	go func() {
		ending.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-bound.Done():
		log.Warn("stopping with calls under way")
		s.grpc.Stop()
		<-ended
	}
	s.stopNow()
	// Whoever counts what it sent can tell whether anything was lost.
	log.Info("stopped", slog.Uint64("access_log_entries", s.logs.entries()))
}
