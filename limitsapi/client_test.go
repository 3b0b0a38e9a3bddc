package limitsapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-project/weir/provider"
)

const adminKey = "sk-ant-admin01-very-secret"

// entry is one group of the answer.
func entry(model string, requests int) string {
	return fmt.Sprintf(`{"type":"rate_limit","id":"rl_%[1]s","group_type":"model_group","models":[%[1]q],"limits":[{"type":"requests_per_minute","value":%[2]d}]}`, model, requests)
}

func pageOf(next string, entries ...string) string {
	cursor := "null"
	if next != "" {
		cursor = fmt.Sprintf("%q", next)
	}
	return `{"data":[` + strings.Join(entries, ",") + `],"next_page":` + cursor + `}`
}

// serve answers like the API: with the key alone, on its path.
func serve(t *testing.T, answer http.HandlerFunc) *Client {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet || r.URL.Path != "/v1/organizations/rate_limits" || r.Header.Get("anthropic-version") != "2023-06-01":
			http.NotFound(w, r)
		case r.Header.Get("x-api-key") != adminKey:
			http.Error(w, `{"type":"error"}`, http.StatusUnauthorized)
		default:
			answer(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	c, err := New(srv.URL+"/", adminKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func classesOf(granted []provider.Granted) (names []string) {
	for _, g := range granted {
		names = append(names, g.Class)
	}
	return names
}

func TestAllPagesAreRead(t *testing.T) {
	pages := map[string]string{
		"":      pageOf("a/b&c", entry("claude-a", 1)),
		"a/b&c": pageOf("3", entry("claude-b", 2), `{"group_type":"batch","models":null}`),
		"3":     pageOf("", entry("claude-c", 3)),
	}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, pages[r.URL.Query().Get("page")]) })
	got, err := c.Granted(t.Context())
	if diff := cmp.Diff([]string{"claude-a", "claude-b", "claude-c"}, classesOf(got)); err != nil || diff != "" {
		t.Errorf("%v, classes (-want +got):\n%s", err, diff)
	}
}

// endless is a body that never ends.
type endless struct{ read atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.read.Add(int64(len(p)))
	return copy(p, bytes.Repeat([]byte(" "), len(p))), nil
}

func TestWhatCannotBeReadIsAnError(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a redirect was followed, with the key %q", r.Header.Get("x-api-key"))
	}))
	defer elsewhere.Close()
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no: "+r.Header.Get("x-api-key"), code) }
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"not accepted": {status(401), "status 401: the key is not accepted, expected an admin key"},
		"an error":     {status(500), "status 500"},
		"too many":     {status(429), "status 429"},
		"garbage":      {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>", r.Header.Get("x-api-key")) }, "the page is not JSON of the expected form"},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			fmt.Fprint(w, "{")
		}, "no answer: the connection failed"},
		"redirected": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, "status 307"},
		"no end of pages": {
			func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, pageOf("again")) }, "more than 100 pages",
		},
		"no end of classes": {
			func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprint(w, pageOf("again", entry("a", 1), entry("b", 1), entry("c", 1)))
			}, "more than 256 classes of models",
		},
		"100 MB": {
			func(w http.ResponseWriter, _ *http.Request) { _, _ = io.CopyN(w, &endless{}, 100<<20) }, "a page of more than 1048576 bytes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := serve(t, c.answer).Granted(t.Context())
			if err == nil || err.Error() != c.want || got != nil {
				t.Errorf("got %v, error %v, want the error %q", got, err, c.want)
			}
		})
	}
}

func TestWherePlainTextMayGo(t *testing.T) {
	for base, ok := range map[string]bool{
		"": true, "https://gateway.example/anthropic": true, "http://localhost:9": true, "http://127.0.0.1:9": true, "http://[::1]:9": true,
		"http://gateway.example": false, "http://10.0.0.1": false, "ftp://localhost": false, "localhost:9": false, "https://": false, "://": false,
	} {
		if c, err := New(base, adminKey, nil); (err == nil) != ok {
			t.Errorf("base %q: %v, want ok %v", base, err, ok)
		} else if ok && c.address.Path != "/v1/organizations/rate_limits" && c.address.Path != "/anthropic/v1/organizations/rate_limits" {
			t.Errorf("base %q leads to %s", base, c.address)
		}
	}
}

// roundTrip is a transport without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answered(status int, body io.Reader) *http.Response {
	return &http.Response{StatusCode: status, Body: io.NopCloser(body), Header: http.Header{}}
}

func TestASlowServerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New("", adminKey, roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, fmt.Errorf("with %s: %w", r.Header.Get("x-api-key"), r.Context().Err())
		}))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = c.Granted(t.Context())
		if took := time.Since(began); err == nil || err.Error() != "no answer in time" || took != Timeout {
			t.Errorf("error %v after %v, want none in time after %v", err, took, Timeout)
		}
	})
}

// TestKeeper is a timeline: what the API answers, what is applied, what is logged.
func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var log bytes.Buffer
		status, asked := 200, 0
		c, err := New("", adminKey, roundTrip(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			if r.Header.Get("x-api-key") != adminKey || r.URL.Host != "api.anthropic.com" {
				t.Errorf("asked %s with %v", r.URL, r.Header)
			}
			if status == 0 {
				return nil, errors.New("broken, with " + adminKey)
			}
			return answered(status, strings.NewReader(pageOf("", entry("claude-a", asked)))), nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		applied := 0
		half := func() float64 { return 0.5 } // of the spread: every 63 minutes, and 5:15 after a failure
		k := &Keeper{Client: c, chance: half, Logger: slog.New(slog.NewTextHandler(&log, nil)), Apply: func(g []provider.Granted) error {
			applied++
			if g[0].Limits[0].Amount != uint64(asked) {
				t.Errorf("applied %v at answer %d", g, asked)
			}
			return nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { k.Run(ctx); close(ended) }()
		for i, step := range []struct {
			status         int // from now on
			after          time.Duration
			asked, applied int
			lines          int
		}{
			{200, 0, 1, 1, 1},
			{200, 62 * time.Minute, 1, 1, 1},
			{200, 2 * time.Minute, 2, 2, 1},
			{500, 63 * time.Minute, 3, 2, 2}, // what is known stays; said once
			{500, 5 * time.Minute, 4, 2, 2},
			{0, 5 * time.Minute, 5, 2, 3},
			{200, 5 * time.Minute, 6, 3, 4}, // and once that it works again
			{200, 62 * time.Minute, 6, 3, 4},
			{200, 2 * time.Minute, 7, 4, 4},
		} {
			mu.Lock()
			status = step.status
			mu.Unlock()
			time.Sleep(step.after)
			synctest.Wait()
			if lines := strings.Count(log.String(), "\n"); asked != step.asked || applied != step.applied || lines != step.lines {
				t.Errorf("step %d: asked %d, applied %d, %d lines; want %+v\n%s", i, asked, applied, lines, step, log.String())
			}
		}
		cancel()
		<-ended
		if strings.Contains(log.String(), adminKey) {
			t.Errorf("the key is in the log:\n%s", log.String())
		}
	})
}
