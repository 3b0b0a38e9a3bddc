package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	rlscommon "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// TestMain makes weir itself, also by the name of what it stands in for, two small clients
// and a provider's limits commands of the scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"weir":      main,
		"ratelimit": main,
		"post":      func() { exitWith(post(os.Args[1:])) },
		"rls":       func() { exitWith(askRLS(os.Args[1:])) },
		"limits":    func() { exitWith(serveLimits(os.Args[1:])) },
	})
}

// TestScripts runs testdata/script: each verb with its exit codes and messages.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     exits,
			"addresses": addresses,
			"serving":   serving,
			"signal":    signalAll,
			"edit":      edit,
			"until":     until,
			"identity":  identity,
			"hostport":  hostport,
			"leftover":  leftover,
			"gateway":   gatewayAt,
			"says":      says,
			"asked":     asked,
		},
	})
}

// exits CODE PROGRAM ARG... runs the program and expects that exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var failed *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &failed) {
		got = failed.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// until PATTERN PROGRAM ARG... runs the program again and again until its standard
// output matches.
func until(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile(args[0])
	var out []byte
	for range 600 {
		cmd := exec.Command(args[1], args[2:]...)
		cmd.Dir = ts.Getenv("WORK")
		cmd.Env = append(os.Environ(), "WEIR_GRPC_ADDR="+ts.Getenv("WEIR_GRPC_ADDR"))
		if out, _ = cmd.Output(); pattern.Match(out) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%s does not print %q, but %q", args[1], args[0], out)
}

// addresses NAME... sets each variable to a loopback address that nobody listens on.
func addresses(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer l.Close()
		ts.Setenv(name, l.Addr().String())
	}
}

// hostport ADDR HOST PORT sets two variables to the parts of an address.
func hostport(ts *testscript.TestScript, _ bool, args []string) {
	host, port, err := net.SplitHostPort(args[0])
	ts.Check(err)
	ts.Setenv(args[1], host)
	ts.Setenv(args[2], port)
}

// leftover PATH makes a Unix socket that nobody listens at any more.
func leftover(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: args[0], Net: "unix"})
	ts.Check(err)
	l.SetUnlinkOnClose(false)
	ts.Check(l.Close())
}

// serving ADDR waits until a weir there says that it serves; ! serving, that it does not.
func serving(ts *testscript.TestScript, neg bool, args []string) {
	conn, err := grpc.NewClient("passthrough:///"+args[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	ts.Check(err)
	defer conn.Close()
	health := grpc_health_v1.NewHealthClient(conn)
	last := "no answer"
	for range 600 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		answer, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(!neg))
		cancel()
		if last = fmt.Sprint(answer.GetStatus(), " ", err); (answer.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING) != neg {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%s: still %s", args[0], last)
}

// signal NAME sends a signal to all background commands.
func signalAll(ts *testscript.TestScript, _ bool, args []string) {
	sig, ok := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP}[args[0]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[0])
	}
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(sig))
	}
}

// edit FILE OLD NEW replaces text in a file.
func edit(ts *testscript.TestScript, _ bool, args []string) {
	before := ts.ReadFile(args[0])
	after := strings.Replace(before, args[1], args[2], 1)
	if before == after {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(after), 0o644))
}

// identity CERT KEY writes a certificate for 127.0.0.1, signed by itself, and its key.
func identity(ts *testscript.TestScript, _ bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "weir"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	for name, block := range map[string]*pem.Block{
		args[0]: {Type: "CERTIFICATE", Bytes: cert}, args[1]: {Type: "PRIVATE KEY", Bytes: der},
	} {
		ts.Check(os.WriteFile(ts.MkAbs(name), pem.EncodeToMemory(block), 0o600))
	}
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// post URL [BODY] prints the answer to a POST of JSON, or to a GET if there is no body.
func post(args []string) error {
	method, body := http.MethodGet, io.Reader(nil)
	if len(args) > 1 {
		method, body = http.MethodPost, bytes.NewReader([]byte(args[1]))
	}
	req, err := http.NewRequest(method, args[0], body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	fmt.Println(res.Status)
	_, err = io.Copy(os.Stdout, res.Body)
	return err
}

// serveLimits ADDR KEY FILE... answers like a provider's Rate Limits API: each file is a
// page, whose number is the cursor of the one before.
func serveLimits(args []string) error {
	return http.ListenAndServe(args[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi("0" + r.URL.Query().Get("page"))
		switch {
		case r.URL.Path != "/v1/organizations/rate_limits" || r.Header.Get("x-api-key") != args[1]:
			http.Error(w, r.Header.Get("x-api-key"), http.StatusUnauthorized)
		case err != nil || n >= len(args)-2:
			http.NotFound(w, r)
		default:
			http.ServeFile(w, r, args[2+n])
		}
	}))
}

// askRLS ADDR DOMAIN KEY=VALUE... prints the answer of Envoy's rate limit service.
func askRLS(args []string) error {
	target := args[0]
	if !strings.HasPrefix(target, "unix:") {
		target = "passthrough:///" + target
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	d := &rlscommon.RateLimitDescriptor{}
	for _, arg := range args[2:] {
		key, value, _ := strings.Cut(arg, "=")
		d.Entries = append(d.Entries, &rlscommon.RateLimitDescriptor_Entry{Key: key, Value: value})
	}
	answer, err := rlsv3.NewRateLimitServiceClient(conn).ShouldRateLimit(context.Background(),
		&rlsv3.RateLimitRequest{Domain: args[1], Descriptors: []*rlscommon.RateLimitDescriptor{d}})
	if err != nil {
		return err
	}
	fmt.Println(answer.GetOverallCode())
	return nil
}
