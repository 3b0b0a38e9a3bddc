package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/weir-project/weir/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// TestSuites asks weir all that testdata/suites says, in each mode.
func TestSuites(t *testing.T) {
	for _, s := range loadSuites(t) {
		for _, mode := range s.Modes {
			if !slices.ContainsFunc(s.Cases, func(c testCase) bool { return c.runs(mode) }) {
				continue
			}
			t.Run(s.name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				v := startServer(t, s, mode)
				for i := range s.Cases {
					if c := &s.Cases[i]; c.runs(mode) {
						t.Run(c.Name, func(t *testing.T) { c.run(t, v, mode) })
					}
				}
			})
		}
	}
}

// run runs a case within one window. Where that is a second, a case that met its end
// is run again, when the window and the one after it are over; where it is more, the
// case begins early enough.
func (c *testCase) run(t *testing.T, v *server, mode string) {
	unit := "hour"
	if c.Window != "" {
		unit = c.Window
	}
	window := windows[unit]
	early := 300 * time.Millisecond
	if window > time.Second {
		early = window - 10*time.Second
	}
	for try := 1; ; try++ {
		moveTo(wait{Unit: unit, To: early})
		began := time.Now()
		problem := c.timeline(t.Context(), t, v, mode)
		crossed := time.Now().UnixNano()/int64(window) != began.UnixNano()/int64(window)
		switch {
		case problem == "":
			return
		case crossed && window == time.Second && try < 5:
			time.Sleep(2500 * time.Millisecond)
			continue
		case crossed:
			problem += "\n(a window ended during the case)"
		}
		t.Fatalf("%s\norigin: %s", problem, c.Origin)
	}
}

// timeline runs the steps, and returns what was not as expected, or "".
func (c *testCase) timeline(ctx context.Context, t *testing.T, v *server, mode string) string {
	for i := range c.Steps {
		s := &c.Steps[i]
		if problem := s.run(ctx, t, v, mode); problem != "" {
			note := ""
			if s.Note != "" {
				note = " (" + s.Note + ")"
			}
			return fmt.Sprintf("step %d%s: %s", i+1, note, problem)
		}
	}
	return ""
}

// patience bounds what happens eventually.
const patience = 10 * time.Second

// run does a step, and returns what was not as expected, or "".
func (s *step) run(ctx context.Context, t *testing.T, v *server, mode string) string {
	e := s.in(mode)
	switch {
	case s.Ask != nil:
		return s.repeated(func() string { return e.ask(ctx, v, s.Ask) })
	case s.HTTP != nil:
		return s.repeated(func() string { return e.http(ctx, v, s.HTTP) })
	case s.Health != nil:
		return s.repeated(func() string {
			got, err := v.health(ctx, *s.Health)
			if err != nil || got != e.Serving {
				return fmt.Sprintf("health of %q: got %q, %v, want %s", *s.Health, got, err, e.Serving)
			}
			return ""
		})
	case s.Together != nil:
		return e.together(ctx, v, s.Together)
	case s.Wait != nil:
		moveTo(*s.Wait)
	case len(s.Write) > 0:
		v.write(t, s.Write)
	case s.Stop:
		v.Signal(syscall.SIGTERM)
	case s.Log != "":
		return eventually(func() string {
			if out := v.Output(); !strings.Contains(out, s.Log) {
				return fmt.Sprintf("weir has not written %q but:\n%s", s.Log, out)
			}
			return ""
		})
	}
	return ""
}

// repeated runs check as often as the step says.
func (s *step) repeated(check func() string) string {
	if s.Eventually {
		return eventually(check)
	}
	for i := range max(s.Times, 1) {
		if problem := check(); problem != "" {
			if s.Times > 1 {
				return fmt.Sprintf("time %d of %d: %s", i+1, s.Times, problem)
			}
			return problem
		}
	}
	return ""
}

func eventually(check func() string) string {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if problem := check(); problem == "" || time.Now().After(deadline) {
			return problem
		}
	}
}

// ask sends one request, and returns what was not as expected, or "".
func (e *expected) ask(ctx context.Context, v *server, tree map[string]any) string {
	r, err := parseRequest(tree)
	if err != nil {
		return err.Error()
	}
	got, when, err := ask(ctx, v.rls, r)
	if e.Error == nil {
		if err != nil {
			return fmt.Sprintf("%v: got error %v", r, err)
		}
		if diff := e.differs(got, when); diff != "" {
			return fmt.Sprintf("asked %s\ngot   %s\n%s", protojson.MarshalOptions{}.Format(r), protojson.MarshalOptions{}.Format(got), diff)
		}
		return ""
	}
	if err == nil {
		return fmt.Sprintf("%v: got %v, want error %+v", r, got, *e.Error)
	}
	return e.Error.differs(err)
}

// differs says how an error is not as expected, or "".
func (g *grpcError) differs(err error) string {
	s, _ := status.FromError(err)
	if s.Code().String() != g.Code || g.Text != "" && s.Message() != g.Text || !strings.Contains(s.Message(), g.Has) {
		return fmt.Sprintf("got error %s %q, want %+v", s.Code(), s.Message(), *g)
	}
	return ""
}

// http makes one call, and returns what was not as expected, or "".
func (e *expected) http(ctx context.Context, v *server, call *httpCall) string {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, call.Method, v.http+call.Path, strings.NewReader(call.Body))
	if err != nil {
		return err.Error()
	}
	when := span{before: time.Now()}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	when.after = time.Now()
	switch {
	case err != nil:
		return err.Error()
	case res.StatusCode != e.Status:
		return fmt.Sprintf("%s %s: got %s: %s, want %d", call.Method, call.Path, res.Status, body, e.Status)
	case e.Body != nil && string(body) != *e.Body:
		return fmt.Sprintf("%s %s: got body %q, want %q", call.Method, call.Path, body, *e.Body)
	case !strings.Contains(string(body), e.BodyHas):
		return fmt.Sprintf("%s %s: got body %q, want %q in it", call.Method, call.Path, body, e.BodyHas)
	case !strings.HasPrefix(res.Header.Get("content-type"), e.Type):
		return fmt.Sprintf("%s %s: got content-type %q, want %q", call.Method, call.Path, res.Header.Get("content-type"), e.Type)
	case e.Answer == nil && e.Shows == nil:
		return ""
	}
	got := &rlsv3.RateLimitResponse{}
	if err := protojson.Unmarshal(body, got); err != nil {
		return fmt.Sprintf("%v: %s", err, body)
	}
	return e.differs(got, when)
}

// connections is how many of them ask together.
const connections = 4

// together sends many requests at once, and returns what was not as expected, or "".
func (e *expected) together(ctx context.Context, v *server, what *together) string {
	text, err := json.Marshal(what.Ask)
	if err != nil {
		return err.Error()
	}
	var clients []rlsv3.RateLimitServiceClient
	for range connections {
		conn, err := grpc.NewClient(v.grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		clients = append(clients, rlsv3.NewRateLimitServiceClient(conn))
	}
	var admitted, failed atomic.Int64
	var all sync.WaitGroup
	for i := range what.Count {
		all.Go(func() {
			r := &rlsv3.RateLimitRequest{}
			mine := strings.ReplaceAll(string(text), "$i", strconv.Itoa(i))
			if err := protojson.Unmarshal([]byte(mine), r); err != nil {
				failed.Add(1)
				return
			}
			got, _, err := ask(ctx, clients[i%connections], r)
			switch {
			case err != nil:
				failed.Add(1)
			case got.GetOverallCode() == rlsv3.RateLimitResponse_OK:
				admitted.Add(1)
			}
		})
	}
	all.Wait()
	if failed.Load() != 0 || admitted.Load() != int64(*e.Admitted) {
		return fmt.Sprintf("%d of %d admitted, %d failed, want %d admitted", admitted.Load(), what.Count, failed.Load(), *e.Admitted)
	}
	return ""
}

// moveTo waits until the clock stands where it should within a window.
func moveTo(w wait) {
	unit := windows[w.Unit]
	until := time.Now().Truncate(unit).Add(time.Duration(w.Next) * unit)
	for {
		into := time.Since(until)
		switch {
		case into < w.From:
			time.Sleep(w.From - into)
		case w.Next == 0 && into >= w.To:
			until = until.Add(unit)
		default:
			return
		}
	}
}
