package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// signals are those that the process gets, from notify on.
type signals struct{ c chan os.Signal }

// notify begins to catch signals. One that comes before run waits for it.
func notify() *signals {
	s := &signals{c: make(chan os.Signal, 8)}
	signal.Notify(s.c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	return s
}

// stop leaves the signals to their defaults.
func (s *signals) stop() { signal.Stop(s.c) }

// until returns a context that the first SIGTERM or SIGINT ends, for what comes before
// run. release ends it, and says whether a signal did.
func (s *signals) until(parent context.Context) (ctx context.Context, release func() (stopped bool)) {
	ctx, cancel := context.WithCancel(parent)
	done, stopped := make(chan struct{}), false
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case got := <-s.c:
				if got != syscall.SIGHUP {
					stopped = true
					cancel()
					return
				}
			}
		}
	}()
	return ctx, func() bool {
		cancel()
		<-done
		return stopped
	}
}

// run runs r until it ends: the first SIGTERM or SIGINT lets it drain, the second
// one does not wait for it. SIGHUP makes it read its files.
func (s *signals) run(ctx context.Context, r runner, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	draining := false
	for {
		select {
		case err := <-ended:
			return err
		case got := <-s.c:
			switch {
			case got == syscall.SIGHUP:
				r.Reload()
			case draining:
				log.Warn("stopped at once by a second signal", "signal", got.String())
				return &silentError{exitFailure}
			default:
				draining = true
				log.Info("stopping; a second signal stops at once", "signal", got.String())
				cancel()
			}
		}
	}
}
