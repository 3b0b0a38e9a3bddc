package server

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc/stats"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
)

// The defaults of Options.
const (
	// DefaultGRPCAddr is where gRPC is served: the port that proxies' examples name.
	DefaultGRPCAddr = "localhost:8081"
	// DefaultHTTPAddr is where HTTP is served.
	DefaultHTTPAddr = "localhost:8080"
	// DefaultDrainDelay is how long a stopping server goes on serving, so that health
	// checks notice before its port closes.
	DefaultDrainDelay = 5 * time.Second
	// DefaultStopTimeout is how long calls under way may take after that.
	DefaultStopTimeout = 25 * time.Second
	// DefaultMaxConnections bounds the connections of each port.
	DefaultMaxConnections = 4096
	// DefaultMaxConnectionsPerPeer bounds the connections of one peer to each port.
	DefaultMaxConnectionsPerPeer = 256
	// DefaultMaxConnectionAge is the age from which a gRPC connection takes no new calls.
	DefaultMaxConnectionAge = 30 * time.Minute
	// DefaultMaxConnectionAgeGrace is how long it then stays for streams: they end by
	// themselves before that, so that nothing on them is lost.
	DefaultMaxConnectionAgeGrace = maxSessionAge + 5*time.Minute
	// DefaultMaxInFlight bounds the calls in flight, on all connections together.
	DefaultMaxInFlight = 10_000
)

// Options say what to serve, and where. Store and Loaded must be set; all else has a
// default.
type Options struct {
	// GRPCAddr and HTTPAddr are where to listen, as host:port. Port 0 takes a free one.
	// Empty means DefaultGRPCAddr and DefaultHTTPAddr.
	GRPCAddr, HTTPAddr string
	// GRPCListener and HTTPListener are used instead of the addresses if they are set.
	// The server closes them.
	GRPCListener, HTTPListener net.Listener
	// Store is where counters live. The caller closes it after Run.
	Store Store
	// Loaded is the configuration to begin with.
	Loaded *config.Loaded
	// Paths are the files and directories that Loaded came from. They are watched, and
	// what they say next is put in force. None: nothing is watched.
	Paths []string
	// Options says how they are read.
	Reading config.Options
	// Collectors are shown with the server's own metrics.
	Collectors []prometheus.Collector
	// Logger gets the log. Nil: slog.Default.
	Logger *slog.Logger
	// Planned, unless nil, is called with each plan that follows the first, before it
	// decides.
	Planned func(*limiter.Plan)
	// DrainDelay is how long the server goes on serving after it has said that it does
	// not. 0 means DefaultDrainDelay; negative means not at all.
	DrainDelay time.Duration
	// StopTimeout bounds how long calls under way may take after that. 0 means
	// DefaultStopTimeout.
	StopTimeout time.Duration
	// Version is shown in the metrics.
	Version string
	// InsecurePlaintext allows listening without TLS on an address that other machines
	// can reach.
	InsecurePlaintext bool
	// TLS encrypts the gRPC port; and the HTTP port where other machines can reach it.
	TLS TLSFiles
	// MaxConnections bounds the connections of each port; more wait to be accepted. 0
	// means DefaultMaxConnections.
	MaxConnections int
	// MaxConnectionsPerPeer bounds the connections of one address to each port; more
	// are closed at once. Those from this machine are not counted. 0 means
	// DefaultMaxConnectionsPerPeer.
	MaxConnectionsPerPeer int
	// MaxInFlight bounds the calls in flight; more are refused at once. 0 means
	// DefaultMaxInFlight.
	MaxInFlight int
	// PlainHTTP leaves the HTTP port without TLS, whoever can reach it.
	PlainHTTP bool
	// BareErrors answers what is wrong at /json with the name of the status alone, as
	// envoyproxy/ratelimit does; the log then says more at the level of debugging.
	BareErrors bool
	// DebugAddr, unless empty, is where profiles and the rules in force are shown, as
	// host:port and without TLS.
	DebugAddr string
	// MaxConnectionAge is the age from which a gRPC connection takes no new calls, and
	// MaxConnectionAgeGrace how long calls under way on it may then take. 0 means
	// DefaultMaxConnectionAge and DefaultMaxConnectionAgeGrace.
	MaxConnectionAge, MaxConnectionAgeGrace time.Duration
	// Spans, unless nil, watches the calls over gRPC, so that they can be traced.
	Spans stats.Handler
	// ReadyWithConfig says that the server is not ready while its configuration is
	// Missing.
	ReadyWithConfig bool
	// CloseOwn leaves out weir's own services, which can read and change what limits count
	// (QuotaService and AdminService, also as JSON, and reflection), at a port that other
	// machines can reach and that does not ask them for certificates. What proxies and
	// probes ask is served: the rate limit service, access logs and health.
	CloseOwn bool
	// Ratelimit is for domains of files of envoyproxy/ratelimit.
	Ratelimit RatelimitOptions
}

// withDefaults returns o, filled in and checked.
func (o Options) withDefaults() (Options, error) {
	switch {
	case o.Store == nil:
		return o, errors.New("server: no store: set Options.Store")
	case o.Loaded == nil || o.Loaded.Plan == nil:
		return o, errors.New("server: no configuration: set Options.Loaded")
	case o.MaxConnections < 0 || o.MaxConnectionsPerPeer < 0 || o.MaxInFlight < 0:
		return o, errors.New("server: Options.MaxConnections, Options.MaxConnectionsPerPeer and Options.MaxInFlight are 0 or more")
	case o.MaxConnectionAge < 0 || o.MaxConnectionAgeGrace < 0:
		return o, errors.New("server: Options.MaxConnectionAge and Options.MaxConnectionAgeGrace are 0s or more")
	}
	if err := o.TLS.check(); err != nil {
		return o, err
	}
	o.GRPCAddr = cmp.Or(o.GRPCAddr, DefaultGRPCAddr)
	o.HTTPAddr = cmp.Or(o.HTTPAddr, DefaultHTTPAddr)
	o.DrainDelay = cmp.Or(o.DrainDelay, DefaultDrainDelay)
	o.StopTimeout = cmp.Or(o.StopTimeout, DefaultStopTimeout)
	o.MaxConnections = cmp.Or(o.MaxConnections, DefaultMaxConnections)
	o.MaxConnectionsPerPeer = cmp.Or(o.MaxConnectionsPerPeer, DefaultMaxConnectionsPerPeer)
	o.MaxConnectionAge = cmp.Or(o.MaxConnectionAge, DefaultMaxConnectionAge)
	o.MaxConnectionAgeGrace = cmp.Or(o.MaxConnectionAgeGrace, DefaultMaxConnectionAgeGrace)
	o.MaxInFlight = cmp.Or(o.MaxInFlight, DefaultMaxInFlight)
	o.Version = cmp.Or(o.Version, "unknown")
	o.Ratelimit.Headers = o.Ratelimit.Headers.withDefaults()
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, nil
}

// strictPathSwitch turns gRPC's check of method paths off. With it off, a path without
// its first slash passes whatever authorises by path.
const strictPathSwitch = "GRPC_GO_EXPERIMENTAL_DISABLE_STRICT_PATH_CHECKING"

func checkEnvironment() error {
	if v, set := os.LookupEnv(strictPathSwitch); set && v != "" && !strings.EqualFold(v, "false") {
		return fmt.Errorf("server: the environment sets %s=%s, which lets calls around authorisation: unset it", strictPathSwitch, v)
	}
	return nil
}

// door is a port to be opened.
type door struct {
	name, flag, addr string
	given            net.Listener
}

// open listens. refused is told of connections that are one too many for their peer.
func (p door) open(o *Options, refused func(netip.Addr)) (net.Listener, error) {
	l := p.given
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", p.addr); err != nil {
			return nil, p.explain(err)
		}
	}
	if !local(l.Addr()) && !o.TLS.on() && !o.InsecurePlaintext {
		err := fmt.Errorf("%s: %s can be reached from other machines, and without TLS anybody there can read and spend:"+
			" listen on localhost, give --tls-cert and --tls-key, or say --insecure-plaintext", p.flag, l.Addr())
		return nil, errors.Join(err, l.Close())
	}
	return netutil.LimitListener(newPeerBound(l, o.MaxConnectionsPerPeer, refused), o.MaxConnections), nil
}

func (p door) explain(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		_, port, _ := net.SplitHostPort(p.addr)
		return fmt.Errorf("port %s, for %s, is taken by another process: stop that one, or choose another port with %s", port, p.name, p.flag)
	}
	if errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("this user may not listen on %s: choose a port above 1023 with %s", p.addr, p.flag)
	}
	return fmt.Errorf("%s: cannot listen for %s on %q: %w", p.flag, p.name, p.addr, err)
}

// local says whether only this machine can reach an address.
func local(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}
