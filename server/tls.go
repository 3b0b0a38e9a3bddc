package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TLSFiles name the files of a server's identity. They are read again when they
// change. The zero value means no TLS.
type TLSFiles struct {
	// CertFile and KeyFile are the certificate chain and its key, in PEM.
	CertFile, KeyFile string
	// ClientCAFile, if set, makes every client show a certificate that these
	// authorities have signed.
	ClientCAFile string
	// ClientName, if set, is a name that must be in the certificate of every client: of a
	// host, as clients would check that of a server, or an address. It needs ClientCAFile.
	ClientName string
	// AllowTLS12 accepts that version too: some proxies do not offer a newer one to whom
	// they call unless told to.
	AllowTLS12 bool
}

// on says whether TLS is asked for.
func (f TLSFiles) on() bool { return f.CertFile != "" }

func (f TLSFiles) check() error {
	switch {
	case (f.CertFile == "") != (f.KeyFile == ""):
		return errors.New("server: a certificate needs its key, and a key its certificate: give both --tls-cert and --tls-key")
	case f.ClientName != "" && f.ClientCAFile == "":
		return errors.New("server: names in certificates of clients mean something only where it is known who signs them: give TLSFiles.ClientCAFile too")
	case f.ClientCAFile != "" && !f.on():
		return errors.New("server: client certificates are checked over TLS only: give --tls-cert and --tls-key too")
	}
	return nil
}

// oldest is the lowest version of TLS that is spoken.
func (f TLSFiles) oldest() uint16 {
	if f.AllowTLS12 {
		return tls.VersionTLS12
	}
	return tls.VersionTLS13
}

// verifyClient checks the name of a client whose chain of certificates is good.
func (f TLSFiles) verifyClient(c tls.ConnectionState) error {
	if f.ClientName == "" {
		return nil
	}
	if len(c.PeerCertificates) == 0 {
		return errors.New("the client shows no certificate")
	}
	return c.PeerCertificates[0].VerifyHostname(f.ClientName)
}

// recheckTLS is how often the files are looked at, while there are handshakes.
const recheckTLS = 10 * time.Second

// identity is what a server shows and asks for in a handshake, kept up to date with
// its files. It is safe for concurrent use.
type identity struct {
	files  TLSFiles
	protos []string
	log    *slog.Logger

	mu      sync.Mutex
	config  *tls.Config
	read    [3][]byte
	checked time.Time
	told    time.Time // that a client is too old
}

// newIdentity reads the files. protos are the application protocols to offer.
func newIdentity(files TLSFiles, log *slog.Logger, protos ...string) (*identity, error) {
	id := &identity{files: files, protos: protos, log: log, checked: time.Now()}
	if err := id.load(); err != nil {
		return nil, err
	}
	return id, nil
}

// server returns a configuration that asks id at every handshake.
func (id *identity) server() *tls.Config {
	return &tls.Config{
		MinVersion: id.files.oldest(),
		NextProtos: id.protos,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if slices.Max(append(hello.SupportedVersions, 0)) < id.files.oldest() {
				id.tellTooOld(hello)
			}
			return id.current(), nil
		},
	}
}

// retellTooOld is how often the log says that clients are too old.
const retellTooOld = time.Minute

// tellTooOld says why the handshake is about to fail: the client learns no more than that
// it did, and many proxies show that as an upstream that is not there.
func (id *identity) tellTooOld(hello *tls.ClientHelloInfo) {
	id.mu.Lock()
	defer id.mu.Unlock()
	now := time.Now()
	if now.Sub(id.told) < retellTooOld {
		return
	}
	id.told = now
	offered := "nothing that is known"
	if len(hello.SupportedVersions) > 0 {
		offered = "at most " + tls.VersionName(slices.Max(hello.SupportedVersions))
	}
	peer := ""
	if hello.Conn != nil {
		peer = hello.Conn.RemoteAddr().String()
	}
	id.log.Warn("a client was turned away: it offers only older versions of TLS. Envoy calls with TLS 1.2 at most unless its cluster says "+
		"common_tls_context: {tls_params: {tls_maximum_protocol_version: TLSv1_3}}",
		slog.String("peer", peer), slog.String("offers", offered), slog.String("wants", tls.VersionName(id.files.oldest())))
}

// current returns what the files say, or what they said while they were last right.
func (id *identity) current() *tls.Config {
	id.mu.Lock()
	defer id.mu.Unlock()
	if now := time.Now(); now.Sub(id.checked) >= recheckTLS {
		id.checked = now
		if err := id.load(); err != nil {
			id.log.Error("the TLS files are not usable, the earlier ones stay in use", slog.String("error", err.Error()))
		}
	}
	return id.config
}

// watchCertificate shows when the certificate of id ends.
func (m *metrics) watchCertificate(id *identity) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_tls_certificate_expiry_timestamp_seconds", Help: "When the certificate that is shown ends, in Unix seconds.",
	}, func() float64 { return float64(id.current().Certificates[0].Leaf.NotAfter.Unix()) }))
}

// load reads the files and, where they have changed, uses them.
func (id *identity) load() error {
	var read [3][]byte
	for i, name := range []string{id.files.CertFile, id.files.KeyFile, id.files.ClientCAFile} {
		if name == "" {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("server: %w", err)
		}
		read[i] = b
	}
	if id.config != nil && bytes.Equal(read[0], id.read[0]) && bytes.Equal(read[1], id.read[1]) && bytes.Equal(read[2], id.read[2]) {
		return nil
	}
	pair, err := tls.X509KeyPair(read[0], read[1])
	if err != nil {
		return fmt.Errorf("server: %s and %s are not a certificate and its key: %w", id.files.CertFile, id.files.KeyFile, err)
	}
	c := &tls.Config{MinVersion: id.files.oldest(), NextProtos: id.protos, Certificates: []tls.Certificate{pair}, VerifyConnection: id.files.verifyClient}
	if id.files.ClientCAFile != "" {
		c.ClientCAs = x509.NewCertPool()
		if !c.ClientCAs.AppendCertsFromPEM(read[2]) {
			return fmt.Errorf("server: %s holds no certificate in PEM", id.files.ClientCAFile)
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	id.config, id.read = c, read
	return nil
}
