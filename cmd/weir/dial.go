package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// The addresses that serve listens on and the others ask, unless told otherwise.
const (
	defaultGRPCAddr = "127.0.0.1:8081"
	defaultHTTPAddr = "127.0.0.1:8080"
)

// dialFlags say where a running weir is and how to speak to it.
type dialFlags struct {
	addr                  string
	timeout               time.Duration
	ca, cert, key, server string
}

func addDialFlags(cmd *cobra.Command, timeout time.Duration) *dialFlags {
	d := &dialFlags{}
	cmd.Flags().StringVar(&d.addr, "grpc-addr", defaultGRPCAddr, "where weir serves gRPC")
	cmd.Flags().DurationVar(&d.timeout, "timeout", timeout, "how long to wait for the answer")
	fileFlag(cmd, &d.ca, "tls-ca", "certificates that the server's is signed by (PEM); turns TLS on")
	fileFlag(cmd, &d.cert, "tls-cert", "certificate to show the server (PEM); turns TLS on")
	fileFlag(cmd, &d.key, "tls-key", "private key of --tls-cert (PEM)")
	cmd.Flags().StringVar(&d.server, "tls-server-name", "", "name that the server's certificate must have, if not that of --grpc-addr")
	return d
}

// dial returns a connection, which connects when it is first used.
func (d *dialFlags) dial() (*grpc.ClientConn, error) {
	creds, err := d.credentials()
	if err != nil {
		return nil, err
	}
	addr, err := reachable(d.addr)
	if err != nil {
		return nil, usagef("--grpc-addr %q: %v", d.addr, err)
	}
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
}

// reachable returns addr, with a loopback address in place of the one that stands
// for all of the machine's: what serve listens on can be asked.
func reachable(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", errors.New("expected host:port, for example " + defaultGRPCAddr)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port), nil
}

func (d *dialFlags) credentials() (credentials.TransportCredentials, error) {
	if d.ca == "" && d.cert == "" && d.key == "" && d.server == "" {
		return insecure.NewCredentials(), nil
	}
	c := &tls.Config{ServerName: d.server, MinVersion: tls.VersionTLS12}
	if d.ca != "" {
		pem, err := os.ReadFile(d.ca)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--tls-ca: %s holds no PEM certificate", d.ca)
		}
	}
	if d.cert != "" || d.key != "" {
		pair, err := tls.LoadX509KeyPair(d.cert, d.key)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(c), nil
}

// explainFailure says what a failed call to the server means for a person.
func (d *dialFlags) explainFailure(err error) error {
	s := status.Convert(err)
	switch s.Code() {
	case codes.Unavailable:
		return fmt.Errorf("no weir answers at %s: %s; start one with weir serve, or name another with --grpc-addr", d.addr, dialError(s.Message()))
	case codes.DeadlineExceeded:
		return fmt.Errorf("no answer from %s within %s", d.addr, d.timeout)
	case codes.InvalidArgument:
		return usagef("%s", s.Message())
	default:
		return fmt.Errorf("%s: %s", s.Code(), s.Message())
	}
}

// dialError returns what went wrong out of the transport's account of it.
func dialError(message string) string {
	if _, cause, ok := strings.Cut(message, "Error while dialing: "); ok {
		message = strings.TrimSuffix(cause, `"`)
	}
	if i := strings.LastIndex(message, "connect: "); i >= 0 {
		message = message[i+len("connect: "):]
	}
	return message
}
