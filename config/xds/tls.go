package xds

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// fileError says which of the files of TLS cannot be used, and why.
type fileError struct{ file, reason string }

func (e *fileError) Error() string { return e.file + ": " + e.reason }

// credentials reads the files as they are now.
func (t *TLS) credentials(now time.Time) (credentials.TransportCredentials, error) {
	if !t.On {
		return insecure.NewCredentials(), nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := readFile(t.CAFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &fileError{t.CAFile, "no certificate in it, expected the authorities of the control plane in PEM"}
		}
	}
	if t.CertFile != "" {
		pair, err := t.pair(now)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(c), nil
}

// pair reads the certificate that this process shows. One that nobody would accept is
// refused here, where it can be said which file it is.
func (t *TLS) pair(now time.Time) (tls.Certificate, error) {
	cert, err := readFile(t.CertFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := readFile(t.KeyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	switch {
	case err != nil:
		return pair, &fileError{t.CertFile, fmt.Sprintf("with the key %s no certificate to show: %s", t.KeyFile, strings.TrimPrefix(err.Error(), "tls: "))}
	case now.After(pair.Leaf.NotAfter):
		return pair, &fileError{t.CertFile, "the certificate expired at " + pair.Leaf.NotAfter.UTC().Format(time.RFC3339)}
	case now.Before(pair.Leaf.NotBefore):
		return pair, &fileError{t.CertFile, "the certificate is not valid before " + pair.Leaf.NotBefore.UTC().Format(time.RFC3339)}
	}
	return pair, nil
}

// maxFile bounds a file in PEM, in bytes.
const maxFile = 4 << 20

func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, &fileError{name, pathReason(err)}
	case !info.Mode().IsRegular():
		return nil, &fileError{name, "not a regular file, expected one in PEM"}
	case info.Size() > maxFile:
		return nil, &fileError{name, fmt.Sprintf("too large, expected at most %d bytes", maxFile)}
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, &fileError{name, pathReason(err)}
	}
	return b, nil
}

func pathReason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

// state tells apart what the files were at different times, without reading them. It is
// empty if there are none.
func (t *TLS) state() string {
	if !t.On {
		return ""
	}
	var b strings.Builder
	for _, name := range []string{t.CertFile, t.KeyFile, t.CAFile} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			fmt.Fprintf(&b, "%s;", pathReason(err))
			continue
		}
		fmt.Fprintf(&b, "%d,%d;", info.Size(), info.ModTime().UnixNano())
	}
	return b.String()
}

// explain adds to what a handshake failed with which files had a part in it.
func (t *TLS) explain(text string) string {
	if !t.On || !strings.Contains(text, "tls: ") && !strings.Contains(text, "x509: ") {
		return text
	}
	var files []string
	if t.CertFile != "" {
		files = append(files, "this side shows "+t.CertFile)
	}
	if t.CAFile != "" {
		files = append(files, "the other side is checked against "+t.CAFile)
	}
	if len(files) == 0 {
		return text
	}
	return text + " (" + strings.Join(files, "; ") + ")"
}
