package xds

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/weir-project/weir/test/authority"
)

// files are those of a client in a directory.
type files struct {
	t *testing.T
	TLS
}

func newFiles(t *testing.T) *files {
	dir := t.TempDir()
	return &files{t, TLS{
		On: true, CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"), CAFile: filepath.Join(dir, "ca.crt"),
		ServerName: "control.example",
	}}
}

func (f *files) write(name string, b []byte) {
	f.t.Helper()
	if err := os.WriteFile(name+".new", b, 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		f.t.Fatal(err)
	}
}

// give writes a certificate that a signed.
func (f *files) give(a *authority.Authority, from, until time.Duration) {
	cert, key := a.Sign(2, from, until, "weir.example")
	f.write(f.KeyFile, key)
	f.write(f.CertFile, cert)
}

// mutual makes p show a certificate of that name, and demand one of the same authority.
func (p *plane) mutual(a *authority.Authority, name string, until time.Duration) {
	cert, key := a.Sign(2, -48*time.Hour, until, name)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		p.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.Cert)
	p.options = []grpc.ServerOption{grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}))}
}

// TestCertificates: the files of a client are missing, come, expire, and are replaced,
// while it runs. Each is said by the name of the file, and none needs a restart.
func TestCertificates(t *testing.T) {
	a := authority.New(t)
	p := newPlane(t)
	p.mutual(a, "control.example", time.Hour)
	p.set("1", edge("a", 10))
	p.start()
	f, files := newForce(), newFiles(t)
	_, log := run(t, Options{Server: p.addr, TLS: files.TLS}, f)

	log.want(t, "ca.crt: no such file or directory")
	files.write(files.CAFile, []byte("-----BEGIN NOTHING-----"))
	log.want(t, "ca.crt: no certificate in it, expected the authorities of the control plane in PEM")
	files.write(files.CAFile, a.PEM)
	log.want(t, "tls.crt: no such file or directory")
	files.give(a, -2*time.Hour, -time.Hour)
	log.want(t, "tls.crt: the certificate expired at 2")
	files.give(a, time.Hour, 2*time.Hour)
	log.want(t, "tls.crt: the certificate is not valid before 2")
	files.write(files.KeyFile, []byte("no key"))
	log.want(t, "no certificate to show")
	files.give(authority.New(t), -time.Hour, time.Hour) // of an authority that the server does not know
	log.want(t, "this side shows "+files.CertFile)
	log.want(t, "cause=tls")
	f.wantNone(t)

	files.give(a, -time.Hour, time.Hour)
	f.want(t, 10)
	p.wantAfter("1")

	// The authority is replaced on both sides; the client first has the old one.
	b := authority.New(t)
	p.stop()
	p.mutual(b, "control.example", time.Hour)
	p.set("2", edge("a", 20))
	p.start()
	log.want(t, "the other side is checked against "+files.CAFile)
	files.give(b, -time.Hour, time.Hour)
	files.write(files.CAFile, b.PEM)
	f.want(t, 20)
}

// TestServerCertificates: a server that is not who it should be is told nothing.
func TestServerCertificates(t *testing.T) {
	a := authority.New(t)
	for name, c := range map[string]struct {
		signer *authority.Authority
		name   string
		until  time.Duration
		want   string
	}{
		"another name":      {a, "other.example", time.Hour, "not control.example"},
		"expired":           {a, "control.example", -time.Hour, "certificate has expired or is not yet valid"},
		"another authority": {authority.New(t), "control.example", time.Hour, "certificate signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlane(t)
			p.mutual(c.signer, c.name, c.until)
			p.set("1", edge("a", 10))
			p.start()
			f, files := newForce(), newFiles(t)
			files.write(files.CAFile, a.PEM)
			files.give(a, -time.Hour, time.Hour)
			_, log := run(t, Options{Server: p.addr, TLS: files.TLS}, f)
			log.want(t, c.want)
			log.want(t, "cause=tls")
			select {
			case r := <-p.requests:
				t.Errorf("the server was asked: %v", r)
			default:
			}
			f.wantNone(t)
		})
	}
}

// TestNamesBySAN: without a name of its own the certificate must have the host of the
// address, and no certificate of a client is needed where the server wants none.
func TestNamesBySAN(t *testing.T) {
	a := authority.New(t)
	p := newPlane(t)
	p.mutual(a, "localhost", time.Hour)
	cert, key := a.Sign(2, -time.Hour, time.Hour, "localhost")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	p.options = []grpc.ServerOption{grpc.Creds(credentials.NewServerTLSFromCert(&pair))}
	p.set("1", edge("a", 10))
	p.start()
	_, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	f, files := newForce(), newFiles(t)
	files.write(files.CAFile, a.PEM)
	run(t, Options{Server: "localhost:" + port, TLS: TLS{On: true, CAFile: files.CAFile}}, f)
	f.want(t, 10)
}

// TestFilesEndTheWait: a client that waits long tries again as soon as its files are there.
func TestFilesEndTheWait(t *testing.T) {
	a := authority.New(t)
	p := newPlane(t)
	p.mutual(a, "control.example", time.Hour)
	p.set("1", edge("a", 10))
	p.start()
	f, files := newForce(), newFiles(t)
	_, log := run(t, Options{Server: p.addr, TLS: files.TLS, ConnectInterval: time.Hour, MaxInterval: time.Hour}, f)
	log.want(t, "ca.crt: no such file or directory")
	files.give(a, -time.Hour, time.Hour)
	files.write(files.CAFile, a.PEM)
	f.want(t, 10) // each new file ends the wait, the last one for good
}
