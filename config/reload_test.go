package config_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/config"
)

// patience is how long a reload is waited for: far longer than it takes.
const patience = 20 * time.Second

// silence is how long nothing must happen for it to count as nothing.
const silence = 400 * time.Millisecond

// watched is a Reloader at work, and what it said.
type watched struct {
	t        *testing.T
	reloader *config.Reloader
	applied  chan *config.Loaded
	failed   chan error
}

// watchPaths loads paths, and watches them until the test ends.
func watchPaths(t *testing.T, paths ...string) *watched {
	t.Helper()
	return watchWith(t, config.Options{}, paths...)
}

// watchWith is watchPaths for paths that are read as o says.
func watchWith(t *testing.T, o config.Options, paths ...string) *watched {
	t.Helper()
	first, err := o.Load(paths, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{t: t, applied: make(chan *config.Loaded, 100), failed: make(chan error, 100)}
	w.reloader = o.NewReloader(paths, first,
		func(l *config.Loaded) { w.applied <- l }, func(err error) { w.failed <- err })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.reloader.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v, want canceled", err)
		}
	})
	return w
}

// wantAmount waits for a configuration whose only limit is of that amount.
func (w *watched) wantAmount(amount uint64) *config.Loaded {
	w.t.Helper()
	select {
	case l := <-w.applied:
		if got := l.Spec.Quotas[0].Limits[0].Amount; got != amount {
			w.t.Fatalf("applied %d, want %d", got, amount)
		}
		return l
	case err := <-w.failed:
		w.t.Fatalf("failed, want %d: %v", amount, err)
	case <-time.After(patience):
		w.t.Fatalf("nothing happened, want %d", amount)
	}
	return nil
}

// wantFailure waits for an invalid state.
func (w *watched) wantFailure(text string) {
	w.t.Helper()
	select {
	case l := <-w.applied:
		w.t.Fatalf("applied %v, want an error with %q", l.Spec, text)
	case err := <-w.failed:
		if !strings.Contains(err.Error(), text) {
			w.t.Fatalf("failed with %v, want %q", err, text)
		}
	case <-time.After(patience):
		w.t.Fatalf("nothing happened, want an error with %q", text)
	}
}

// wantSilence waits, and nothing may happen.
func (w *watched) wantSilence() {
	w.t.Helper()
	select {
	case l := <-w.applied:
		w.t.Fatalf("applied %v, want nothing", l.Spec)
	case err := <-w.failed:
		w.t.Fatalf("failed with %v, want nothing", err)
	case <-time.After(silence):
	}
}

// quota is a file with one limit.
func quota(amount int) string {
	return fmt.Sprintf("quotas: [{name: a, limits: {requests_per_minute: %d}}]\n", amount)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestReloadInPlace: a file is edited, broken, left broken, and mended.
func TestReloadInPlace(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "d/a.yaml", quota(1))
	w := watchPaths(t, "d")
	w.wantSilence()

	write(t, "d/a.yaml", quota(2))
	second := w.wantAmount(2)

	write(t, "d/a.yaml", "quotas: [")
	w.wantFailure("d/a.yaml:1:1: not valid YAML")
	w.wantSilence()

	write(t, "d/a.yaml", quota(2))
	if mended := w.wantAmount(2); mended.Digest != second.Digest {
		t.Errorf("digest %s after mending, want %s as before", mended.Digest, second.Digest)
	}

	write(t, "d/a.yaml", quota(2)) // the same bytes
	w.wantSilence()

	write(t, "d/b.yaml", "domain: edge\n") // a new file
	w.wantAmount(2)
	must(t, os.Remove("d/b.yaml"))
	w.wantAmount(2)
	must(t, os.Remove("d/a.yaml"))
	w.wantFailure("d: no *.yaml or *.yml file in this directory")
}

// TestReloadByRename: a file is replaced as editors and deployments do, and one file
// alone is watched without looking at its neighbours.
func TestReloadByRename(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "d/a.yaml", quota(1))
	w := watchPaths(t, "d/a.yaml")
	write(t, "d/neighbour.yaml", "broken: [")
	w.wantSilence()

	write(t, "d/.a.yaml.tmp", quota(2))
	must(t, os.Rename("d/.a.yaml.tmp", "d/a.yaml"))
	w.wantAmount(2)

	must(t, os.Rename("d/a.yaml", "d/a.yaml~"))
	w.wantFailure("d/a.yaml: cannot be read: no such file or directory")

	write(t, "d/a.yaml", quota(3))
	w.wantAmount(3)
}

// TestReloadOfKubernetes: a mounted ConfigMap changes by one rename of a link to a
// directory; the links to the files stay as they are.
func TestReloadOfKubernetes(t *testing.T) {
	for _, path := range []string{"mount", "mount/a.yaml"} {
		t.Run(path, func(t *testing.T) {
			t.Chdir(t.TempDir())
			publish := func(version, text string) {
				write(t, "mount/.."+version+"/a.yaml", text)
				must(t, os.Symlink(".."+version, "mount/..data_tmp"))
				must(t, os.Rename("mount/..data_tmp", "mount/..data"))
			}
			publish("v1", quota(1))
			must(t, os.Symlink("..data/a.yaml", "mount/a.yaml"))
			w := watchPaths(t, path)
			for n := 2; n <= 4; n++ {
				publish(fmt.Sprintf("v%d", n), quota(n))
				must(t, os.RemoveAll(fmt.Sprintf("mount/..v%d", n-1)))
				w.wantAmount(uint64(n))
			}
			publish("v5", "nonsense")
			w.wantFailure("mount/a.yaml:1:1: the file is")
			publish("v6", quota(6))
			w.wantAmount(6)
			w.wantSilence()
		})
	}
}

// TestReloadOfLinkedDirectory: a release is switched by swapping a link, which the
// path is, or which is on the way to it.
func TestReloadOfLinkedDirectory(t *testing.T) {
	for _, path := range []string{"current", "current/config", "current/config/a.yaml"} {
		t.Run(path, func(t *testing.T) {
			t.Chdir(t.TempDir())
			write(t, "one/config/a.yaml", quota(1), "two/config/a.yaml", quota(2))
			must(t, os.Symlink("one", "current"))
			w := watchPaths(t, path)
			must(t, os.Symlink("two", "next"))
			must(t, os.Rename("next", "current"))
			w.wantAmount(2)
			write(t, "two/config/a.yaml", quota(3))
			w.wantAmount(3)
			write(t, "one/config/a.yaml", quota(4)) // no longer ours
			w.wantSilence()
		})
	}
}

// TestReloadOfDirectoryThatGoes: the directory is removed, and comes again.
func TestReloadOfDirectoryThatGoes(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "x/d/a.yaml", quota(1))
	w := watchPaths(t, "x/d")
	for n := 2; n <= 3; n++ {
		must(t, os.RemoveAll("x/d"))
		w.wantFailure("x/d: cannot be read: no such file or directory")
		write(t, "x/d/a.yaml", quota(n))
		w.wantAmount(uint64(n))
		write(t, "x/d/a.yaml", quota(n*10)) // the new directory is watched
		w.wantAmount(uint64(n * 10))
	}
	must(t, os.RemoveAll("x"))
	w.wantFailure("x/d: cannot be read: no such file or directory")
	write(t, "x/d/a.yaml", quota(5))
	w.wantAmount(5)
	must(t, os.Rename("x", "y"))
	w.wantFailure("x/d: cannot be read: no such file or directory")
	write(t, "x/d/a.yaml", quota(6))
	w.wantAmount(6)
}

// TestReloadOfPartialWrites: a file that is being written in pieces is read when it
// is whole, though each piece for itself would be valid.
func TestReloadOfPartialWrites(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "d/a.yaml", quota(1))
	w := watchPaths(t, "d")
	f, err := os.Create("d/a.yaml")
	must(t, err)
	for _, piece := range []string{"quotas:\n", "- name: a\n", "  limits: {requests_per_minute: 7}\n", "- name: b\n", "  limits: {requests_per_minute: 8}\n"} {
		_, err := f.WriteString(piece)
		must(t, err)
		time.Sleep(20 * time.Millisecond)
	}
	must(t, f.Close())
	if l := w.wantAmount(7); l.Quotas != 2 {
		t.Errorf("got %d quotas, want both", l.Quotas)
	}
	w.wantSilence()
}

// TestReloadWhileLoading: a change between Load and Run is found.
func TestReloadWhileLoading(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "a.yaml", quota(1))
	first := mustLoad(t, "a.yaml")
	write(t, "a.yaml", quota(2))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var got uint64
	err := config.Watch(ctx, []string{"a.yaml"}, first, func(l *config.Loaded) {
		got = l.Spec.Quotas[0].Limits[0].Amount
		cancel()
	}, func(err error) { t.Error(err) })
	if !errors.Is(err, context.Canceled) || got != 2 {
		t.Errorf("got %d, %v, want 2 and canceled", got, err)
	}
}

// TestReloadOnRequest: who asks gets an answer, also if nothing has changed.
func TestReloadOnRequest(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "a.yaml", quota(1))
	w := watchPaths(t, "a.yaml")
	w.wantSilence()
	w.reloader.Reload()
	w.wantAmount(1)
	write(t, "a.yaml", "")
	w.wantFailure("a.yaml: empty")
	w.reloader.Reload()
	w.wantFailure("a.yaml: empty")
}

// TestReloadOfBuiltinPlan: without files there is nothing to watch, and whoever asks
// gets the built-in plan.
func TestReloadOfBuiltinPlan(t *testing.T) {
	w := watchPaths(t)
	w.wantSilence()
	w.reloader.Reload()
	select {
	case l := <-w.applied:
		if !l.Spec.Quotas[0].Learn || l.Sources[0] != config.Builtin {
			t.Errorf("applied %+v of %q, want the built-in plan", l.Spec, l.Sources)
		}
	case err := <-w.failed:
		t.Errorf("failed: %v", err)
	case <-time.After(patience):
		t.Error("nothing happens")
	}
}

// A directory that may be empty is not thought to be so while it is gone: a release that is
// switched by removing one link and making another lets nothing pass meanwhile.
func TestWhatHasGoneStaysInForce(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "one/a.yaml", quota(1))
	write(t, "two/a.yaml", quota(2))
	link := func(to string) {
		if err := os.Symlink(to, "current"); err != nil {
			t.Fatal(err)
		}
	}
	link("one")
	w := watchWith(t, config.Options{MayBeEmpty: true}, "current")
	if err := os.Remove("current"); err != nil {
		t.Fatal(err)
	}
	w.wantFailure("current: is not there any more")
	link("two")
	w.wantAmount(2)
}
