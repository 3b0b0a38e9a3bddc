package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
	"github.com/weir-project/weir/store/memory"

	"github.com/weir-project/weir/test/authority"
)

func write(t *testing.T, dir, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sign makes a certificate for this machine, and its key.
func sign(a *authority.Authority, serial int64) (cert, key []byte) {
	return a.Sign(serial, -time.Hour, 24*time.Hour, "localhost", "127.0.0.1")
}

// filesOf writes a certificate that a signed, its key and a's own into dir.
func filesOf(t *testing.T, a *authority.Authority, dir string, serial int64) TLSFiles {
	t.Helper()
	cert, key := sign(a, serial)
	return TLSFiles{
		CertFile: write(t, dir, "cert.pem", cert), KeyFile: write(t, dir, "key.pem", key),
		ClientCAFile: write(t, dir, "ca.pem", a.PEM),
	}
}

func TestClientsShowTheirCertificates(t *testing.T) {
	ours, theirs := authority.New(t), authority.New(t)
	store := memory.New(limiter.Options{Shards: 1})
	defer store.Close()
	s, err := New(Options{
		Store: store, Loaded: loaded(t, opus(), "a", nil), GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0",
		TLS: filesOf(t, ours, t.TempDir(), 2), DrainDelay: -1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ours.PEM)
	pair := func(a *authority.Authority) []tls.Certificate {
		cert, key := sign(a, 3)
		p, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{p}
	}
	for name, c := range map[string]struct {
		config *tls.Config
		code   codes.Code
	}{
		"ours":    {&tls.Config{RootCAs: roots, Certificates: pair(ours)}, codes.OK},
		"theirs":  {&tls.Config{RootCAs: roots, Certificates: pair(theirs)}, codes.Unavailable},
		"none":    {&tls.Config{RootCAs: roots}, codes.Unavailable},
		"TLS 1.2": {&tls.Config{RootCAs: roots, Certificates: pair(ours), MaxVersion: tls.VersionTLS12}, codes.Unavailable},
	} {
		conn, err := grpc.NewClient(s.GRPCAddr().String(), grpc.WithTransportCredentials(credentials.NewTLS(c.config)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = weirv1.NewQuotaServiceClient(conn).Reserve(t.Context(), call("acme", 1, 1))
		if status.Code(err) != c.code {
			t.Errorf("%s: %v, want %v", name, err, c.code)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	// Probes on this machine need no certificate.
	if s.HTTPScheme() != "http" {
		t.Errorf("HTTP is served as %s on loopback", s.HTTPScheme())
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.HTTPAddr().String() + "/healthz")
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	_ = resp.Body.Close()
}

func TestAnIdentityIsReadAgainWhenItsFilesChange(t *testing.T) {
	ours, dir := authority.New(t), t.TempDir()
	files := filesOf(t, ours, dir, 7)
	synctest.Test(t, func(t *testing.T) {
		log := &logBuffer{}
		id, err := newIdentity(files, slog.New(slog.NewTextHandler(log, nil)), "h2")
		if err != nil {
			t.Fatal(err)
		}
		serial := func() int64 {
			cert, err := x509.ParseCertificate(id.current().Certificates[0].Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			return cert.SerialNumber.Int64()
		}
		if n := serial(); n != 7 {
			t.Fatalf("serial %d, want 7", n)
		}
		filesOf(t, ours, dir, 8)
		if n := serial(); n != 7 {
			t.Errorf("serial %d, want 7 until the files are looked at", n)
		}
		time.Sleep(recheckTLS)
		if n := serial(); n != 8 {
			t.Errorf("serial %d, want 8", n)
		}
		write(t, dir, "key.pem", []byte("no key"))
		time.Sleep(recheckTLS)
		if n := serial(); n != 8 || !strings.Contains(log.String(), "are not a certificate and its key") {
			t.Errorf("serial %d, want 8, and a word in the log:\n%s", n, log)
		}
		filesOf(t, ours, dir, 9)
		time.Sleep(recheckTLS)
		if n := serial(); n != 9 {
			t.Errorf("serial %d, want 9", n)
		}
	})
}

// A client's certificate must hold the name that is asked for, where one is.
func TestClientsAreWhoTheyMustBe(t *testing.T) {
	ours := authority.New(t)
	for name, welcome := range map[string]bool{"": true, "localhost": true, "127.0.0.1": true, "envoy.internal": false} {
		files := filesOf(t, ours, t.TempDir(), 2)
		files.ClientName, files.AllowTLS12 = name, true
		id, err := newIdentity(files, slog.New(slog.DiscardHandler), "h2")
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(sign(ours, 3))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(ours.Cert)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			here, there := net.Pipe()
			asked := make(chan error, 1)
			go func() {
				c := tls.Client(there, &tls.Config{
					RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{pair}, MinVersion: version, MaxVersion: version,
				})
				_, err := c.Read(make([]byte, 1)) // a server's alert comes after the handshake
				asked <- err
			}()
			err := tls.Server(here, id.server()).HandshakeContext(t.Context())
			if (err == nil) != welcome {
				t.Errorf("name %q, TLS %x: %v, want welcome %t", name, version, err, welcome)
			}
			_ = here.Close()
			if err := <-asked; welcome && err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("name %q, TLS %x: the client: %v", name, version, err)
			}
		}
	}
	if err := (TLSFiles{CertFile: "c", KeyFile: "k", ClientName: "envoy"}).check(); err == nil {
		t.Error("a name without an authority is accepted")
	}
}
