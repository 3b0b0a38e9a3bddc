package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
)

const (
	// maxWalkDepth bounds how deep directories are followed.
	maxWalkDepth = 16
	// maxEntries bounds the directory entries that are looked at, so that pointing
	// weir at a whole file system ends in an error and not in a long silence.
	maxEntries = 100_000
)

// source is a file as it was read.
type source struct {
	path string
	data []byte
}

// fingerprint identifies the bytes of a set of files, and what was wrong with
// reading them.
type fingerprint [sha256.Size]byte

// snapshot is what the paths held at one time.
type snapshot struct {
	files []source
	// dirs are the directories in which a change can change the snapshot.
	dirs  wanted
	state fingerprint
	// partial says that a bound was reached: the files are not all there are.
	partial bool
	// absent is a path that is not there, and need not be; empty if all are.
	absent string
	// resources are those of a control plane, by name; controlled says that there is one,
	// whose word it may be that nothing is limited.
	resources  []*ratelimitv3.RateLimitConfig
	controlled bool
}

// gather reads the files that paths name; what cannot be read is reported to r.
func (o Options) gather(paths []string, r *report) snapshot {
	g := gatherer{Options: o, report: r, seen: map[string]bool{}, dirs: wanted{}}
	for _, p := range paths {
		g.path(filepath.Clean(p))
	}
	for _, f := range g.found {
		g.read(f)
	}
	return snapshot{files: g.files, absent: g.absent, dirs: g.dirs, state: stateOf(g.files, r), partial: g.full}
}

// stateOf returns the fingerprint of files and of the problems of reading them.
func stateOf(files []source, r *report) fingerprint {
	h := sha256.New()
	write := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	for _, f := range files {
		write([]byte(f.path))
		write(f.data)
	}
	for _, p := range r.problems {
		write([]byte(p.String()))
	}
	return fingerprint(h.Sum(nil))
}

// gatherer walks directories and reads files, within the bounds.
type gatherer struct {
	Options
	report  *report
	seen    map[string]bool // cleaned file names, and real names of directories
	dirs    wanted
	found   []string
	files   []source
	entries int
	total   int
	full    bool   // a bound was reached and reported
	absent  string // see snapshot
}

// path looks at one path as it was given.
func (g *gatherer) path(p string) {
	g.watch(filepath.Dir(p), filepath.Base(p))
	g.links(filepath.Dir(p))
	info, err := os.Stat(p)
	switch {
	case err != nil && g.MayBeEmpty && errors.Is(err, fs.ErrNotExist):
		g.absent = p
	case err != nil:
		g.report.file(p, "cannot be read: %s", reason(err))
	case info.IsDir():
		before := len(g.found)
		g.walk(p, 0)
		if len(g.found) == before && !g.MayBeEmpty && !g.full && !g.report.failed() {
			g.report.file(p, "no *.yaml or *.yml file in this directory, expected at least one")
		}
	default:
		g.add(p)
	}
}

// links notes that the links among dir and its parents matter: releases are often
// switched by swapping one.
func (g *gatherer) links(dir string) {
	for dir != filepath.Dir(dir) {
		if info, err := os.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			g.watch(filepath.Dir(dir), filepath.Base(dir))
		}
		dir = filepath.Dir(dir)
	}
}

// walk collects the YAML files below dir. Links are followed, but none twice.
// Names that begin with a dot are left out: so is what Kubernetes keeps behind the
// links of a mounted ConfigMap. Files of such names are read if DotFiles is set.
func (g *gatherer) walk(dir string, depth int) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		g.report.file(dir, "cannot be read: %s", reason(err))
		return
	}
	if g.seen[real] {
		return
	}
	g.seen[real] = true
	g.watch(dir, anyName)
	entries, err := os.ReadDir(dir)
	if err != nil {
		g.report.file(dir, "cannot be read: %s", reason(err))
		return
	}
	for _, e := range entries {
		if g.full {
			return
		}
		if g.entries++; g.entries > maxEntries {
			g.bound(dir, "more than %d files in all, expected a directory of configuration", maxEntries)
			return
		}
		if !strings.HasPrefix(e.Name(), ".") || g.DotFiles && e.Type().IsRegular() {
			g.entry(filepath.Join(dir, e.Name()), depth)
		}
	}
}

// entry looks at one entry of a directory.
func (g *gatherer) entry(p string, depth int) {
	ext := filepath.Ext(p)
	yaml := ext == ".yaml" || ext == ".yml"
	info, err := os.Stat(p)
	switch {
	case err != nil && yaml:
		g.report.file(p, "cannot be read: %s", reason(err))
	case err != nil:
	case info.IsDir() && depth+1 >= maxWalkDepth:
		g.bound(p, "directories are nested too deep, expected at most %d levels", maxWalkDepth)
	case info.IsDir():
		g.walk(p, depth+1)
	case yaml:
		g.add(p)
	}
}

// add notes a file to be read.
func (g *gatherer) add(p string) {
	if g.seen[p] || g.full {
		return
	}
	if len(g.found) == MaxFiles {
		g.bound(p, "too many files, expected at most %d", MaxFiles)
		return
	}
	g.seen[p] = true
	g.found = append(g.found, p)
	if real, err := filepath.EvalSymlinks(p); err == nil && real != p {
		// Any of the links on the way may be swapped; those of Kubernetes are
		// beside the file.
		g.watch(filepath.Dir(p), anyName)
		g.watch(filepath.Dir(real), anyName)
	}
}

// read reads one file.
func (g *gatherer) read(p string) {
	data, err := readBounded(p)
	if err != nil {
		g.report.file(p, "%s", err.Error())
		return
	}
	if g.total += len(data); g.total > MaxTotalBytes {
		if !g.full {
			g.bound(p, "the files are too large together, expected at most %d bytes", MaxTotalBytes)
		}
		return
	}
	g.files = append(g.files, source{path: p, data: data})
}

// bound reports that a bound was reached; the rest is not looked at.
func (g *gatherer) bound(p, format string, args ...any) {
	g.full = true
	g.report.file(p, format, args...)
}

// anyName stands for all names of a directory.
const anyName = "*"

// watch notes that what happens to name in dir matters. If dir is not there, the
// nearest of its parents that is will see it come.
func (g *gatherer) watch(dir, name string) {
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			if g.dirs[dir] == nil {
				g.dirs[dir] = map[string]bool{}
			}
			g.dirs[dir][name] = true
			return
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return
		}
		dir, name = parent, filepath.Base(dir)
	}
}

// readBounded reads a regular file of at most MaxFileBytes. Anything else is left
// unopened: to open a pipe could wait forever.
func readBounded(p string) ([]byte, error) {
	info, err := os.Stat(p)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %s", reason(err))
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file, expected a YAML file or a directory of them")
	}
	f, err := os.Open(p)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %s", reason(err))
	}
	defer f.Close()
	var b bytes.Buffer
	b.Grow(int(min(info.Size(), MaxFileBytes)) + bytes.MinRead)
	if _, err := b.ReadFrom(io.LimitReader(f, MaxFileBytes+1)); err != nil {
		return nil, fmt.Errorf("cannot be read: %s", reason(err))
	}
	data := b.Bytes()
	if len(data) > MaxFileBytes {
		return nil, fmt.Errorf("too large, expected at most %d bytes; split it into several files of one directory", MaxFileBytes)
	}
	return data, nil
}

// reason returns what the operating system said, without the path that a problem
// names anyway.
func reason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}
