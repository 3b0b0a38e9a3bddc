package config

import (
	"context"
	"sync"
	"time"
)

// The pace of a Reloader.
const (
	// quiet is how long the files must be left alone before they are read: an
	// editor or a ConfigMap makes several changes at once.
	quiet = 100 * time.Millisecond
	// patience bounds how long somebody who never leaves them alone is waited for.
	patience = 2 * time.Second
	// pollEvery is how often the files are read without any sign of a change: some
	// file systems give none.
	pollEvery = 30 * time.Second
	// pollUnwatched is the same where nothing can be watched at all.
	pollUnwatched = 2 * time.Second
)

// Watch keeps a configuration up to date until ctx ends: it is the Run of a
// [Reloader] that nobody else needs.
func Watch(ctx context.Context, paths []string, first *Loaded, apply func(*Loaded), fail func(error)) error {
	return NewReloader(paths, first, apply, fail).Run(ctx)
}

// Reloader keeps a configuration up to date with its files: edits in place, files
// that are renamed over others, directories that come and go, and the links that
// Kubernetes swaps. It reads a change only when the files have come to rest, and all
// of them anew. Its methods are safe for concurrent use; Run is called once.
type Reloader struct {
	paths   []string
	options Options
	apply   func(*Loaded)
	fail    func(error)
	asked   chan struct{}

	// mu guards current, rejected and refused, and what is called while they change.
	mu      sync.Mutex
	current *Loaded
	// rejected says that the files are not those in force, because they were not valid.
	rejected bool
	// refused says that what the control plane sent last is not in force.
	refused bool
	// seen is the state of the files that was applied or reported last.
	seen fingerprint
	poll time.Duration // in place of pollEvery, for tests
}

// NewReloader returns a Reloader of the files that paths name, which starts from
// first, a result of Load with the same paths (nil: nothing was loaded yet).
//
// It calls apply with each new valid configuration, also with one that decides like
// the last (see [Loaded.Digest]), and fail with an [*Error] for each new state of
// the files that is not valid; the last valid configuration then stays the current
// one. Both are called from the goroutines of Run and Put, one call at a time, and must
// not call Put.
func NewReloader(paths []string, first *Loaded, apply func(*Loaded), fail func(error)) *Reloader {
	return Options{}.NewReloader(paths, first, apply, fail)
}

// NewReloader is [NewReloader] for files that are read as o says.
func (o Options) NewReloader(paths []string, first *Loaded, apply func(*Loaded), fail func(error)) *Reloader {
	r := &Reloader{
		paths: paths, options: o, apply: apply, fail: fail,
		asked: make(chan struct{}, 1), current: first, poll: pollEvery,
	}
	if first != nil {
		r.seen = first.read.state
	}
	return r
}

// Reload asks for a check now, and does not wait for it. The check ends in one call
// of apply or fail, even if nothing has changed. Several that nobody has begun are
// one.
func (r *Reloader) Reload() {
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

// Run watches the files until ctx ends, and returns ctx's error.
func (r *Reloader) Run(ctx context.Context) error {
	w := newWatch()
	defer w.close()
	poll := time.NewTicker(r.pollPeriod(w))
	defer poll.Stop()
	// What changed between Load and the first look is found by looking once more
	// when everything is watched.
	rest := time.NewTimer(0)
	defer rest.Stop()
	var since time.Time // of the first sign that has not been looked into
	for {
		force := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.signs:
			if since.IsZero() {
				since = time.Now()
			}
			rest.Reset(min(quiet, max(0, patience-time.Since(since))))
			continue
		case <-r.asked:
			force = true
		case <-rest.C:
		case <-poll.C:
		}
		since = time.Time{}
		if r.check(ctx, w, force) {
			rest.Reset(quiet)
		}
	}
}

func (r *Reloader) pollPeriod(w *watch) time.Duration {
	if w.watcher == nil {
		return min(r.poll, pollUnwatched)
	}
	return r.poll
}

// check reads the files and acts on them, if they are not as they were. It returns
// whether it should be called again, because it has only now begun to watch some of
// what it read.
func (r *Reloader) check(ctx context.Context, w *watch, force bool) (again bool) {
	problems := &report{}
	s := r.options.gather(r.paths, problems)
	again = w.follow(s.dirs)
	if s.state == r.seen && !force {
		return again
	}
	if s, problems = r.settle(ctx, s, problems); ctx.Err() != nil {
		return false
	}
	again = w.follow(s.dirs) || again // what has gone meanwhile may come back
	r.seen = s.state
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil {
		s.resources, s.controlled = r.current.read.resources, r.current.read.controlled
	}
	next, err := r.options.build(r.paths, s, problems, r.current)
	r.rejected = err != nil
	if err != nil {
		r.fail(err)
		return again
	}
	r.current = next
	r.apply(next)
	return again
}

// settle reads the files until they are twice the same, and returns the last state:
// somebody may be in the middle of writing them.
func (r *Reloader) settle(ctx context.Context, s snapshot, problems *report) (snapshot, *report) {
	for deadline := time.Now().Add(patience); ; {
		select {
		case <-ctx.Done():
			return s, problems
		case <-time.After(quiet / 2):
		}
		p := &report{}
		next := r.options.gather(r.paths, p)
		if next.state == s.state || time.Now().After(deadline) {
			return next, p
		}
		s, problems = next, p
	}
}
