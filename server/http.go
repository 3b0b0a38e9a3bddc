package server

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/weir-project/weir/proto/weir/v1/weirv1connect"
)

// newHTTP builds the HTTP server. It encrypts where the gRPC port does and others can
// reach it: on this machine alone, probes and scrapes need no key.
func (s *Server) newHTTP() (*http.Server, error) {
	if s.options.TLS.on() && !s.options.PlainHTTP && !local(s.httpListener.Addr()) {
		id, err := newIdentity(s.options.TLS, s.options.Logger, "http/1.1")
		if err != nil {
			return nil, err
		}
		s.httpListener = tls.NewListener(s.httpListener, id.server())
		s.httpsOn = true
	}
	return &http.Server{
		Handler:           s.httpHandler(),
		ReadHeaderTimeout: 3 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      maxHold + 15*time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelDebug),
	}, nil
}

func (s *Server) httpHandler() http.Handler {
	mux := http.NewServeMux()
	man := doorman{d: s.d, cut: s.cut}
	handlers := []connect.HandlerOption{
		connect.WithInterceptors(connect.UnaryInterceptorFunc(man.connect)),
		connect.WithReadMaxBytes(maxMessage),
	}
	if s.servesOwn(s.httpListener, s.httpsOn) {
		mux.Handle(weirv1connect.NewQuotaServiceHandler(connectQuota{&quotaService{d: s.d, cut: s.cut}}, handlers...))
		mux.Handle(weirv1connect.NewAdminServiceHandler(s.admin(), handlers...))
	}
	mux.HandleFunc("/json", s.serveJSON)
	mux.HandleFunc("/healthcheck", s.serveReady("OK", ""))
	mux.HandleFunc("/readyz", s.serveReady("ready\n", "not ready\n"))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") })
	mux.Handle("/metrics", promhttp.HandlerFor(s.d.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/{$}", s.serveIndex)
	handler := http.NewCrossOriginProtection().Handler(s.bounded(mux))
	if local(s.httpListener.Addr()) {
		handler = localNames(handler)
	}
	return s.recovered(handler)
}

// bounded reads the body before anybody looks at it: it is short, and a caller who
// sends it slowly holds nobody up. Once it is there, a held answer may take longer
// than reading may.
func (s *Server) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
		if err != nil {
			if long := (*http.MaxBytesError)(nil); errors.As(err, &long) {
				text(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("body: got more than %d bytes, expected at most that many\n", maxMessage))
				return
			}
			text(w, http.StatusBadRequest, "body: it did not arrive as announced\n")
			return
		}
		// A connection that knows no deadlines has none to take off.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		r.Body = io.NopCloser(bytes.NewReader(body))
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// localNames refuses names that are not this machine's: a web page could otherwise
// point a name of its own here, and read along.
func localNames(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.ToLower(strings.Trim(host, "[]"))
		if host != "" && host != "localhost" && !strings.HasSuffix(host, ".localhost") && net.ParseIP(host) == nil {
			text(w, http.StatusMisdirectedRequest, "host: got "+quoted(r.Host)+", expected localhost or an address: this server serves this machine alone\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// recovered catches panics, as doorman does for gRPC.
func (s *Server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			s.d.metrics.panics.Inc()
			s.options.Logger.ErrorContext(r.Context(), "a call panicked",
				"path", quoted(r.URL.Path), "panic", p, "stack", string(debug.Stack()))
			text(w, http.StatusInternalServerError, "internal error: weir has a bug, which it logged\n")
		}()
		next.ServeHTTP(w, r)
	})
}

// serveJSON answers what a proxy would ask, as envoyproxy/ratelimit does: 200, 429, or
// 400 for whatever is wrong; the method does not matter.
func (s *Server) serveJSON(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	req := &rlsv3.RateLimitRequest{}
	if err == nil {
		if err = protojson.Unmarshal(body, req); len(body) == 0 {
			err = errors.New("the body is empty")
		}
	}
	if err != nil {
		s.badJSON(w, "body: "+err.Error()+", expected an envoy.service.ratelimit.v3.RateLimitRequest as JSON")
		return
	}
	resp, err := s.rls.decideJSON(r.Context(), req)
	if err != nil {
		s.badJSON(w, messageOf(err))
		return
	}
	code := http.StatusInternalServerError
	switch resp.GetOverallCode() {
	case rlsv3.RateLimitResponse_OK:
		code = http.StatusOK
	case rlsv3.RateLimitResponse_OVER_LIMIT:
		code = http.StatusTooManyRequests
	case rlsv3.RateLimitResponse_UNKNOWN:
	}
	out, err := protojson.Marshal(resp)
	if err != nil {
		text(w, http.StatusInternalServerError, "the answer cannot be written as JSON\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(out) // the caller left; there is nobody to tell
}

// badJSON answers that a request to /json cannot be decided, and why.
func (s *Server) badJSON(w http.ResponseWriter, why string) {
	if s.options.BareErrors {
		s.options.Logger.Debug("a request to /json is wrong", slog.String("error", why))
		text(w, http.StatusBadRequest, "Bad Request\n")
		return
	}
	text(w, http.StatusBadRequest, "Bad Request: "+why+"\n")
}

// serveReady says whether new work is welcome.
func (s *Server) serveReady(yes, no string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if s.ready.ready.Load() {
			text(w, http.StatusOK, yes)
			return
		}
		text(w, http.StatusInternalServerError, no)
	}
}

const index = `weir %s, plan %s

POST /weir.v1.QuotaService/Reserve         ask for a call; also Report, Renew, Release (Connect, JSON)
POST /weir.v1.AdminService/ListQuotas      live state; also ListRules, GetPlan, Explain, ResetLimit, ClearGate
POST /json                                 a RateLimitRequest as JSON; 200 or 429
GET  /healthz /readyz /healthcheck         alive; ready for work
GET  /metrics                              for Prometheus

Sessions and Envoy's protocols are on the gRPC port, %s.
`

func (s *Server) serveIndex(w http.ResponseWriter, _ *http.Request) {
	text(w, http.StatusOK, fmt.Sprintf(index, s.options.Version, s.d.loaded.Load().Digest, s.GRPCAddr()))
}

func text(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = io.WriteString(w, body) // the caller left; there is nobody to tell
}
