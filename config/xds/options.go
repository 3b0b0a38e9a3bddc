package xds

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// The defaults of Options.
const (
	// DefaultServer is where the control plane is asked.
	DefaultServer = "localhost:18000"
	// DefaultNodeID is the name under which this process asks.
	DefaultNodeID = "default"
	// DefaultConnectInterval is the first wait for a server that cannot be reached.
	DefaultConnectInterval = 3 * time.Second
	// DefaultInitialInterval is the first wait after a stream has failed.
	DefaultInitialInterval = 10 * time.Second
	// DefaultMaxInterval bounds both.
	DefaultMaxInterval = 60 * time.Second
	// DefaultGrowth is by how much a wait is longer than the one before.
	DefaultGrowth = 2
	// DefaultMaxMessageBytes bounds a response: as much as all files of a configuration
	// may have.
	DefaultMaxMessageBytes = 16 << 20
	// LargestMessageBytes bounds what that bound can be set to.
	LargestMessageBytes = 1 << 30
)

// Options say whom to ask, as whom, and how. The zero value is a client of DefaultServer
// in plain text; every field has a default.
type Options struct {
	// Server is the control plane's address, host:port, or any other target of gRPC.
	Server string
	// NodeID and Metadata say who asks.
	NodeID   string
	Metadata map[string]string
	// Version is weir's own, for the control plane to see.
	Version string
	// Headers are sent with each stream. Several values of a name are several headers.
	Headers []Header
	// TLS encrypts the connection. The zero value means plain text.
	TLS TLS
	// MaxMessageBytes bounds one response, up to LargestMessageBytes. What is longer is
	// not read, and the stream is opened again.
	MaxMessageBytes int
	// ConnectInterval and InitialInterval are how long a server that cannot be reached,
	// or whose stream ended, is left alone after the first failure in a row.
	ConnectInterval, InitialInterval time.Duration
	// MaxInterval bounds these times, which grow by Growth (above 1) with each failure.
	MaxInterval time.Duration
	Growth      float64
	// Steady turns jitter off: else each wait is shortened by up to a half, by chance, so
	// that many clients of a server that comes back do not come back at once.
	Steady bool
	// StartWithout says that the process is to serve before there is a configuration.
	// The client itself does not heed it.
	StartWithout bool
	// Logger gets the log. Nil: slog.Default.
	Logger *slog.Logger
}

// Header is one header of a stream's request.
type Header struct{ Name, Value string }

// TLS says how the control plane and this process know each other. The files are read
// whenever a connection is made, so that they can be replaced at any time.
type TLS struct {
	// On turns TLS on.
	On bool
	// CertFile and KeyFile are the certificate chain that this process shows, and its
	// key, in PEM. Both or none.
	CertFile, KeyFile string
	// CAFile holds the authorities that may have signed the control plane's certificate.
	// Empty: those of the system.
	CAFile string
	// ServerName is the name that the control plane's certificate must have (subject
	// alternative name). Empty: the host of Options.Server.
	ServerName string
}

// withDefaults returns o, filled in and checked.
func (o Options) withDefaults() (Options, error) {
	o.Server = cmp.Or(o.Server, DefaultServer)
	o.NodeID = cmp.Or(o.NodeID, DefaultNodeID)
	o.MaxMessageBytes = cmp.Or(o.MaxMessageBytes, DefaultMaxMessageBytes)
	o.ConnectInterval = cmp.Or(o.ConnectInterval, DefaultConnectInterval)
	o.InitialInterval = cmp.Or(o.InitialInterval, DefaultInitialInterval)
	o.MaxInterval = cmp.Or(o.MaxInterval, DefaultMaxInterval)
	o.Growth = cmp.Or(o.Growth, DefaultGrowth)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	switch {
	case o.MaxMessageBytes < 0 || o.MaxMessageBytes > LargestMessageBytes:
		return o, fmt.Errorf("xds: Options.MaxMessageBytes is %d, expected 1 to %d", o.MaxMessageBytes, LargestMessageBytes)
	case o.ConnectInterval < 0 || o.InitialInterval < 0 || o.MaxInterval < 0:
		return o, errors.New("xds: a negative interval, expected more than 0s")
	case !(o.Growth > 1):
		return o, fmt.Errorf("xds: Options.Growth is %v, expected more than 1", o.Growth)
	case (o.TLS.CertFile == "") != (o.TLS.KeyFile == ""):
		return o, errors.New("xds: a certificate needs its key, and a key its certificate")
	}
	for _, h := range o.Headers {
		if err := CheckHeader(h); err != nil {
			return o, fmt.Errorf("xds: %w", err)
		}
	}
	return o, CheckServer(o.Server)
}

// CheckServer says what is wrong with an address of a control plane.
func CheckServer(address string) error {
	if strings.Contains(address, ":///") || strings.HasPrefix(address, "unix:") {
		return nil // a target of gRPC, which says itself what is wrong with it
	}
	host, port, err := net.SplitHostPort(address)
	switch {
	case strings.Contains(address, "://"):
		return fmt.Errorf("the address is %q, expected host:port without a scheme", address)
	case err != nil || host == "":
		return fmt.Errorf("the address is %q, expected host:port", address)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("the port of %q is not one, expected 1 to 65535", address)
	}
	return nil
}

// CheckHeader says what is wrong with a header. Those that gRPC itself sets are refused.
func CheckHeader(h Header) error {
	name := strings.ToLower(h.Name)
	valid := name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
	switch {
	case !valid:
		return fmt.Errorf("the header name %q, expected nothing but letters, digits and any of - _ . in it", h.Name)
	case strings.HasPrefix(name, "grpc-"), name == "content-type", name == "te", name == "user-agent":
		return fmt.Errorf("the header %s belongs to gRPC, expected another", name)
	}
	for _, r := range h.Value {
		if r < ' ' || r > '~' {
			return fmt.Errorf("the value of the header %s holds %q, expected printable ASCII", name, r)
		}
	}
	return nil
}
