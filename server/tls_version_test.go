package server

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/weir-project/weir/test/authority"
)

// Who offers only older versions of TLS is turned away, and the log says why, now and then.
func TestTheLogSaysThatAClientIsTooOld(t *testing.T) {
	ours := authority.New(t)
	files := filesOf(t, ours, t.TempDir(), 2)
	for _, tc := range []struct {
		client   uint16 // its newest version
		allow12  bool
		welcome  bool
		complain string
	}{
		{client: tls.VersionTLS13, welcome: true},
		{client: tls.VersionTLS12, complain: `offers="at most TLS 1.2" wants="TLS 1.3"`},
		{client: tls.VersionTLS12, allow12: true, welcome: true},
		{client: tls.VersionTLS11, allow12: true, complain: `offers="at most TLS 1.1" wants="TLS 1.2"`},
	} {
		log := &logBuffer{}
		files.ClientCAFile, files.AllowTLS12 = "", tc.allow12
		id, err := newIdentity(files, slog.New(slog.NewTextHandler(log, nil)), "h2")
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := handshake(t, ours, id, tc.client); (err == nil) != tc.welcome {
				t.Errorf("%+v: %v", tc, err)
			}
		}
		said := strings.Count(log.String(), "tls_maximum_protocol_version: TLSv1_3")
		if tc.welcome && said != 0 || !tc.welcome && said != 1 || !strings.Contains(log.String(), tc.complain) {
			t.Errorf("%+v: the log says\n%s", tc, log)
		}
		id.told = id.told.Add(-retellTooOld)
		if _ = handshake(t, ours, id, tc.client); strings.Count(log.String(), "turned away") != 2*said {
			t.Errorf("%+v: a minute later, the log says\n%s", tc, log)
		}
	}
}

// handshake shakes hands with a client of that version, and returns the server's error.
func handshake(t *testing.T, ours *authority.Authority, id *identity, newest uint16) error {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(ours.Cert)
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c := tls.Client(there, &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS10, MaxVersion: newest})
		_, _ = c.Read(make([]byte, 1))
	}()
	err := tls.Server(here, id.server()).HandshakeContext(t.Context())
	_ = here.Close()
	<-done
	return err
}
