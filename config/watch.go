package config

import (
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// watch gives a sign when something happens in one of a set of directories.
type watch struct {
	watcher *fsnotify.Watcher // nil if the system has none to give
	signs   chan struct{}
	wanted  chan wanted
	done    chan struct{}
	// inodes are the directories that are watched, as they were found under their
	// names.
	inodes map[string]os.FileInfo
}

// wanted says which names in which directories matter; see snapshot.dirs.
type wanted map[string]map[string]bool

// newWatch returns a watch of nothing yet. It must be closed.
func newWatch() *watch {
	w := &watch{
		signs: make(chan struct{}, 1), wanted: make(chan wanted), done: make(chan struct{}),
		inodes: map[string]os.FileInfo{},
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		// The bound on watches of this user is reached. Polling serves as well.
		close(w.done)
		return w
	}
	w.watcher = watcher
	go w.listen()
	return w
}

// close ends the watch and its goroutine.
func (w *watch) close() {
	if w.watcher != nil {
		_ = w.watcher.Close() // nothing was written to it
	}
	<-w.done
}

// listen turns events into signs until the watch is closed.
func (w *watch) listen() {
	defer close(w.done)
	var of wanted
	for {
		select {
		case of = <-w.wanted:
			continue
		case e, ok := <-w.watcher.Events:
			if !ok {
				return
			}
			if !of.has(e.Name) {
				continue
			}
		case _, ok := <-w.watcher.Errors:
			// Most likely events were lost: that is a sign too.
			if !ok {
				return
			}
		}
		select {
		case w.signs <- struct{}{}:
		default:
		}
	}
}

// has says whether what happened to a name matters.
func (d wanted) has(name string) bool {
	if d[name] != nil {
		return true
	}
	names := d[filepath.Dir(name)]
	return names[anyName] || names[filepath.Base(name)]
}

// follow watches dirs and no others. It returns whether it began to watch one: what
// happened there before gave no sign.
func (w *watch) follow(dirs wanted) (began bool) {
	if w.watcher == nil {
		return false
	}
	w.wanted <- dirs
	for dir := range w.inodes {
		if dirs[dir] == nil {
			_ = w.watcher.Remove(dir) // it may have gone by itself
			delete(w.inodes, dir)
		}
	}
	// A directory that went took its watch with it, and another that comes in its place
	// may get the same inode.
	watched := map[string]bool{}
	for _, dir := range w.watcher.WatchList() {
		watched[dir] = true
	}
	for dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil {
			continue
		}
		if old := w.inodes[dir]; old != nil {
			if watched[dir] && os.SameFile(old, info) {
				continue
			}
			_ = w.watcher.Remove(dir)
		}
		// Where it cannot be watched, polling finds what changes.
		if err := w.watcher.Add(dir); err == nil {
			w.inodes[dir] = info
			began = true
		} else {
			delete(w.inodes, dir)
		}
	}
	return began
}
