package server

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/store/memory"
)

// serviceLog counts what a RatelimitServiceObserver is told.
type serviceLog struct {
	loaded, failed, answered, storeErrors atomic.Int64
}

func (l *serviceLog) Loaded(*config.Loaded)  { l.loaded.Add(1) }
func (l *serviceLog) LoadFailed()            { l.failed.Add(1) }
func (l *serviceLog) Answered(time.Duration) { l.answered.Add(1) }
func (l *serviceLog) StoreError()            { l.storeErrors.Add(1) }

func (l *serviceLog) counts() [4]int64 {
	return [4]int64{l.loaded.Load(), l.failed.Load(), l.answered.Load(), l.storeErrors.Load()}
}

// Who watches the service is told of configurations, of calls over gRPC, whatever their
// answer, and of a store that does not decide.
func TestWhoWatchesTheServiceIsTold(t *testing.T) {
	log := new(serviceLog)
	for name, step := range map[string]struct {
		store Store
		first *config.Loaded
		do    func(*world)
		want  [4]int64 // loaded, failed, answered, store errors
	}{
		"nothing":            {nil, nil, func(*world) {}, [4]int64{1, 0, 0, 0}},
		"none to begin with": {nil, config.NotLoaded(), func(*world) {}, [4]int64{0, 0, 0, 0}},
		"a configuration":    {nil, nil, func(w *world) { w.server.Apply(loaded(w.t, opus(), "bbbbbbbbbbbb", nil)) }, [4]int64{2, 0, 0, 0}},
		"an invalid one":     {nil, nil, func(w *world) { w.server.refuse(errors.New("weir.yaml:1: no")) }, [4]int64{1, 1, 0, 0}},
		"a call":             {nil, nil, func(w *world) { w.ask("edge", "user=ann") }, [4]int64{1, 0, 1, 0}},
		"one in error":       {nil, nil, func(w *world) { w.ask("", "user=ann") }, [4]int64{1, 0, 1, 0}},
		"one over JSON":      {nil, nil, func(w *world) { w.fetch("POST", "/json", `{"domain":"edge"}`) }, [4]int64{1, 0, 0, 0}},
		"a store that fails": {brokenStore{errors.New("down")}, nil, func(w *world) { w.ask("edge", "user=ann") }, [4]int64{1, 0, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			*log = serviceLog{}
			o := Options{Store: step.store, Loaded: step.first, Ratelimit: RatelimitOptions{Service: log}}
			inBubble(t, o, func(t *testing.T, w *world) {
				step.do(w)
				if got := log.counts(); got != step.want {
					t.Errorf("loaded, failed, answered, store errors: %v, want %v", got, step.want)
				}
			})
		})
	}
}

// ask asks over the port of proxies; the answer does not matter.
func (w *world) ask(domain string, descriptors ...string) {
	w.t.Helper()
	_, _ = rlsv3.NewRateLimitServiceClient(w.conn).ShouldRateLimit(w.t.Context(), request(domain, descriptors...))
}

// Files that are invalid from the start are a configuration that could not be loaded; a
// control plane that has said nothing yet is none.
func TestWhoWatchesIsToldOfAFirstConfigurationThatFails(t *testing.T) {
	for _, tc := range []struct {
		paths []string
		want  [4]int64
	}{{nil, [4]int64{}}, {[]string{"invalid.yaml"}, [4]int64{0, 1, 0, 0}}} {
		log := new(serviceLog)
		store := memory.New(limiter.Options{Shards: 1})
		defer store.Close()
		s, err := New(Options{
			Store: store, Loaded: config.NotLoaded(), Paths: tc.paths, GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0",
			Ratelimit: RatelimitOptions{Service: log},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if got := log.counts(); got != tc.want {
			t.Errorf("files %v: %v, want %v", tc.paths, got, tc.want)
		}
	}
}
