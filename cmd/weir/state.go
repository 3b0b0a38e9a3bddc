package main

import (
	"log/slog"
	"time"

	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/store/memory"
)

// saveEvery is how often what was learned is written down: what a crash loses takes
// about as long to learn again.
const saveEvery = 30 * time.Second

// keepLearned restores what was learned before, from dir, and writes down what is
// learned from now on, until the returned function is called. Trouble with the files is
// logged, once while it lasts; it stops nothing.
func keepLearned(store *memory.Store, plan *limiter.Plan, dir string, log *slog.Logger) (stop func()) {
	if dir == "" {
		return func() {}
	}
	n, err := store.Load(dir, plan)
	if err != nil {
		log.Warn("what was learned before is not all there", "error", err)
	}
	if n > 0 {
		log.Info("what was learned before is restored", "quotas", n, "dir", dir)
	}
	failing := false
	save := func() {
		err := store.Save(dir)
		if err != nil && !failing {
			log.Error("what was learned cannot be written down", "error", err)
		}
		failing = err != nil
	}
	save() // says at the start if it cannot
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(saveEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				save()
			case <-quit:
				save()
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
