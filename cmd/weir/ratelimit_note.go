package main

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// note says in the log, one line each, which variables of envoyproxy/ratelimit have no
// effect and what weir does instead, and which were perhaps meant for it. It shows no
// values: some are secrets.
func (e *refEnv) note(log *slog.Logger) {
	for _, g := range refVariables {
		for i := range g.variables {
			v := &g.variables[i]
			if v.instead == "" {
				continue
			}
			// Where counters live is told whatever the variable says: the limits of several
			// replicas add up.
			if value, set := e.values[v.name]; v.name == "BACKEND_TYPE" || set && !v.isDefault(value) {
				withoutEffect(log, v.name, v.instead)
			}
		}
	}
	for _, s := range e.strange {
		log.Warn("unknown environment variable", "name", s.name, "did_you_mean", s.near)
	}
}

func withoutEffect(log *slog.Logger, name, instead string) {
	log.Warn("environment variable without effect", "name", name, "instead", instead)
}

// isDefault says whether a value that is right means the same as the default.
func (v *refVariable) isDefault(value string) bool {
	switch v.is {
	case asTruth:
		got, _ := strconv.ParseBool(value)
		want, _ := strconv.ParseBool(v.def)
		return got == want
	case asDuration:
		got, _ := time.ParseDuration(value)
		want, _ := time.ParseDuration(v.def)
		return got == want
	case asText, asNumber, asPort, asFraction, asWord:
	}
	return strings.EqualFold(value, v.def)
}

// maxUnread bounds how many directory entries are looked at for files that are not read.
const maxUnread = 1000

// noteUnread warns of files below dir that envoyproxy/ratelimit would read, whatever they
// are called, and that weir does not.
func noteUnread(dir string, log *slog.Logger) {
	var unread []string
	seen := 0
	// What cannot be read here is reported by whoever reads the configuration.
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if seen++; seen > maxUnread {
			return filepath.SkipAll
		}
		switch {
		case err != nil:
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != dir:
			return filepath.SkipDir
		case strings.HasPrefix(d.Name(), "."):
		default:
			ext := filepath.Ext(path)
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && ext != ".yaml" && ext != ".yml" {
				unread = append(unread, path)
			}
		}
		return nil
	})
	if len(unread) > 0 {
		log.Warn("only files called *.yaml and *.yml are read", "not_read", someOf(unread, 4))
	}
}
