package harness

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	weirv1 "github.com/weir-project/weir/proto/weir/v1"
	"github.com/weir-project/weir/proto/weir/v1/weirv1connect"
)

// startWithin bounds how long a program takes until it is ready: with the race
// detector on a busy machine.
const startWithin = 20 * time.Second

// WeirOptions say how weir is started. The zero value is the built-in plan.
type WeirOptions struct {
	// Config is the text of a configuration file. Empty: none.
	Config string
	// Paths are files and directories to serve as well.
	Paths []string
	// Args are further arguments, and Env further variables as in os.Environ.
	Args, Env []string
	// GRPCPort and HTTPPort are chosen if zero.
	GRPCPort, HTTPPort int
	// DrainDelay is how long weir keeps serving after SIGTERM. Zero: 50 ms.
	DrainDelay time.Duration
}

// Weir is a weir that runs as a process of its own.
type Weir struct {
	*Process
	GRPCPort, HTTPPort int
	// Admin and Quota speak JSON over the HTTP port.
	Admin weirv1connect.AdminServiceClient
	Quota weirv1connect.QuotaServiceClient

	options WeirOptions
}

// StartWeir starts `weir serve` and waits until it is ready.
func StartWeir(t testing.TB, o WeirOptions) *Weir {
	t.Helper()
	if o.GRPCPort == 0 {
		o.GRPCPort = FreePort(t)
	}
	if o.HTTPPort == 0 {
		o.HTTPPort = FreePort(t)
	}
	if o.DrainDelay == 0 {
		o.DrainDelay = 50 * time.Millisecond
	}
	if o.Config != "" {
		o.Paths, o.Config = append([]string{WriteFile(t, "weir.yaml", o.Config)}, o.Paths...), ""
	}
	w := &Weir{GRPCPort: o.GRPCPort, HTTPPort: o.HTTPPort, options: o}
	w.Admin = weirv1connect.NewAdminServiceClient(http.DefaultClient, w.HTTP())
	w.Quota = weirv1connect.NewQuotaServiceClient(http.DefaultClient, w.HTTP())
	w.start(t)
	return w
}

func (w *Weir) start(t testing.TB) {
	t.Helper()
	o := w.options
	args := append([]string{"serve"}, o.Paths...)
	args = append(args, "--grpc-addr", w.GRPC(), "--http-addr", Loopback(w.HTTPPort))
	env := append([]string{"WEIR_DRAIN_DELAY=" + o.DrainDelay.String(), "WEIR_LOG_LEVEL=debug"}, o.Env...)
	w.Process = Start(t, env, Binary(t), append(args, o.Args...)...)
	Eventually(t, startWithin, "weir is ready", func() error {
		if err := w.exited(); err != nil {
			t.Fatal(err)
		}
		_, err := Get(t, w.HTTP()+"/readyz")
		return err
	})
}

// Again starts weir once more, on the same ports and with the same configuration,
// after it has ended.
func (w *Weir) Again(t testing.TB) {
	t.Helper()
	if w.exited() == nil {
		t.Fatal("weir still runs")
	}
	w.start(t)
}

// GRPC is the address of the gRPC port.
func (w *Weir) GRPC() string { return Loopback(w.GRPCPort) }

// HTTP is the URL of the HTTP port, without a slash at its end.
func (w *Weir) HTTP() string { return "http://" + Loopback(w.HTTPPort) }

// HTTPAddr is the address of the HTTP port.
func (w *Weir) HTTPAddr() string { return Loopback(w.HTTPPort) }

// Dial returns a gRPC connection that is closed when the test ends.
func (w *Weir) Dial(t testing.TB) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(w.GRPC(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// State is one quota as weir shows it.
type State struct {
	// Open is the number of reservations that are open.
	Open uint64
	// Used is what is charged, by meter, in the longest window of each.
	Used map[string]uint64
}

// State returns the state of one organisation's quota; zero if nobody asked for it.
func (w *Weir) State(t testing.TB, name, org string) State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	res, err := w.Admin.ListQuotas(ctx, &weirv1.ListQuotasRequest{Name: name})
	if err != nil {
		t.Fatalf("ListQuotas: %v", err)
	}
	s := State{Used: map[string]uint64{}}
	for _, q := range res.GetQuotas() {
		if q.GetAttributes()["org"] != org {
			continue
		}
		s.Open = q.GetOpenReservations()
		longest := map[string]time.Duration{}
		for _, l := range q.GetLimits() {
			if window := l.GetWindow().AsDuration(); window > longest[l.GetMeter()] {
				longest[l.GetMeter()] = window
				s.Used[l.GetMeter()] = l.GetUsed()
			}
		}
	}
	return s
}

// Settled waits until no reservation of the quota is open and check holds, and
// returns the state that it saw.
func (w *Weir) Settled(t testing.TB, name, org string, check func(State) error) State {
	t.Helper()
	var s State
	Eventually(t, 10*time.Second, "the quota is settled", func() error {
		s = w.State(t, name, org)
		if s.Open > 0 {
			return fmt.Errorf("%d reservations are open, used %v", s.Open, s.Used)
		}
		return check(s)
	})
	return s
}

// Uses is a check that exactly these amounts are charged.
func Uses(requests, input, output uint64) func(State) error {
	return func(s State) error {
		want := map[string]uint64{"requests": requests, "input_tokens": input, "output_tokens": output}
		for meter, n := range want {
			if s.Used[meter] != n {
				return fmt.Errorf("used %v, want %v", s.Used, want)
			}
		}
		return nil
	}
}

// Metrics returns the metrics, by name and labels as they are written. Its error says
// that weir did not answer.
func (w *Weir) Metrics(t testing.TB) (map[string]float64, error) {
	t.Helper()
	text, err := Get(t, w.HTTP()+"/metrics")
	if err != nil {
		return nil, err
	}
	all := map[string]float64{}
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		name, value, _ := strings.Cut(s.Text(), "} ")
		if value == "" {
			name, value, _ = strings.Cut(s.Text(), " ")
		} else {
			name += "}"
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			all[name] = v
		}
	}
	return all, nil
}

// Sum adds up the metrics whose name with labels begins with prefix.
func Sum(metrics map[string]float64, prefix string) float64 {
	var sum float64
	for name, v := range metrics {
		if strings.HasPrefix(name, prefix) {
			sum += v
		}
	}
	return sum
}

// Get returns the body of a page, or an error if its status is not 200.
func Get(t testing.TB, url string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: %s: %s", url, res.Status, body)
	}
	return string(body), nil
}

// mustRead returns the text of a file of the repository.
func mustRead(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
