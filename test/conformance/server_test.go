package conformance

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/weir-project/weir/test/harness"
)

// server is a weir that a suite asks.
type server struct {
	*harness.Process
	grpcAddr, http string
	grpcPort       int
	weir           *harness.Weir // where it was started by its own name
	// dir is where its configuration lies.
	dir  string
	conn *grpc.ClientConn
	rls  rlsv3.RateLimitServiceClient
}

// layout is where the reference looks below RUNTIME_ROOT, and with what variables.
const (
	subdirectory = "ratelimit"
	appDirectory = "config"
)

// noSleep has a program with the race detector end when it ends, and not a second later.
const noSleep = "GORACE=atexit_sleep_ms=0"

// startServer starts weir for a suite, in one mode, and waits until it is ready.
func startServer(t *testing.T, s *suite, mode string) *server {
	t.Helper()
	root := t.TempDir()
	v := &server{dir: filepath.Join(root, subdirectory, appDirectory)}
	v.write(t, s.Files)
	env := []string{"WEIR_DRAIN_DELAY=50ms", noSleep}
	for _, k := range slices.Sorted(maps.Keys(s.Env)) {
		env = append(env, k+"="+s.Env[k])
	}
	grpcPort, httpPort := harness.FreePort(t), harness.FreePort(t)
	v.grpcPort = grpcPort
	if s.Start == asServe {
		v.serve(t, mode, env, grpcPort, httpPort)
	} else {
		v.ratelimit(t, s.Start, root, mode, env, grpcPort, httpPort)
	}
	conn, err := grpc.NewClient(v.grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	v.conn, v.rls = conn, rlsv3.NewRateLimitServiceClient(conn)
	return v
}

// serve starts weir by its own name.
func (v *server) serve(t *testing.T, mode string, env []string, grpcPort, httpPort int) {
	t.Helper()
	o := harness.WeirOptions{Paths: []string{v.dir}, Env: env, GRPCPort: grpcPort, HTTPPort: httpPort}
	if mode == compat {
		o.Args = []string{"--compat=ratelimit"}
	}
	w := harness.StartWeir(t, o)
	v.Process, v.grpcAddr, v.http, v.weir = w.Process, w.GRPC(), w.HTTP(), w
}

// ratelimit starts weir as the reference is started: by variables alone.
func (v *server) ratelimit(t *testing.T, start, root, mode string, env []string, grpcPort, httpPort int) {
	t.Helper()
	env = append(ratelimitEnv(t, root, grpcPort, httpPort), env...)
	if mode == compat {
		env = append(env, "WEIR_COMPAT=ratelimit")
	}
	if start == asVerb {
		v.Process = harness.Start(t, env, harness.Binary(t), "ratelimit")
	} else {
		v.Process = harness.Start(t, env, namedRatelimit(t))
	}
	v.grpcAddr, v.http = harness.Loopback(grpcPort), "http://"+harness.Loopback(httpPort)
	harness.Eventually(t, 20*time.Second, "weir is ready", func() error {
		select {
		case <-v.Done():
			t.Fatalf("it has ended:\n%s", v.Output())
		default:
		}
		_, err := harness.Get(t, v.http+"/healthcheck")
		return err
	})
}

// ratelimitEnv is the reference's environment, with ports of its own.
func ratelimitEnv(t *testing.T, root string, grpcPort, httpPort int) []string {
	t.Helper()
	return []string{
		"HOST=127.0.0.1", "PORT=" + strconv.Itoa(httpPort),
		"GRPC_HOST=127.0.0.1", "GRPC_PORT=" + strconv.Itoa(grpcPort),
		"DEBUG_HOST=127.0.0.1", "DEBUG_PORT=" + strconv.Itoa(harness.FreePort(t)),
		"RUNTIME_ROOT=" + root, "RUNTIME_SUBDIRECTORY=" + subdirectory, "RUNTIME_APPDIRECTORY=" + appDirectory,
		"RUNTIME_WATCH_ROOT=false", "USE_STATSD=false", "LOG_LEVEL=debug",
		"BACKEND_TYPE=redis", "REDIS_SOCKET_TYPE=tcp", "REDIS_URL=127.0.0.1:6379",
	}
}

var named struct {
	once sync.Once
	path string
	err  error
}

// namedRatelimit is the binary under the reference's name.
func namedRatelimit(t *testing.T) string {
	t.Helper()
	binary := harness.Binary(t)
	named.once.Do(func() {
		named.path = filepath.Join(filepath.Dir(binary), "ratelimit")
		named.err = os.Symlink(binary, named.path)
	})
	if named.err != nil {
		t.Fatal(named.err)
	}
	return named.path
}

// write changes files of the configuration; one with an empty text is moved away.
func (v *server) write(t *testing.T, files map[string]string) {
	t.Helper()
	writeFiles(t, v.dir, files)
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		switch {
		case err != nil:
		case text == "":
			err = os.Rename(path, path+".gone")
		default:
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

// callTimeout bounds one call.
const callTimeout = 10 * time.Second

// ask sends one request over gRPC.
func ask(ctx context.Context, rls rlsv3.RateLimitServiceClient, r *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, span, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	when := span{before: time.Now()}
	got, err := rls.ShouldRateLimit(ctx, r)
	when.after = time.Now()
	return got, when, err
}

// health returns the status of a service, or NOT_FOUND.
func (v *server) health(ctx context.Context, service string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	res, err := healthpb.NewHealthClient(v.conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	if status.Code(err) == codes.NotFound {
		return "NOT_FOUND", nil
	}
	if err != nil {
		return "", fmt.Errorf("health of %q: %w", service, err)
	}
	return res.GetStatus().String(), nil
}
