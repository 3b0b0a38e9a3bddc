package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
)

// logFlags say how to log.
type logFlags struct {
	format choice
	level  choice
}

func newLogFlags() *logFlags {
	return &logFlags{
		format: choice{value: "auto", of: []string{"auto", "text", "json"}},
		level:  choice{value: "info", of: []string{"debug", "info", "warn", "error"}},
	}
}

// json says whether log lines to w are JSON: by choice, or because nobody reads
// them as they come.
func (f *logFlags) json(w io.Writer) bool {
	return f.format.value == "json" || f.format.value == "auto" && !isTerminal(w)
}

// logger returns a logger to w.
func (f *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.level.value)); err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	o := &slog.HandlerOptions{Level: level}
	if f.json(w) {
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return slog.New(slog.NewTextHandler(w, o)), nil
}

// isTerminal says whether w is a terminal, or another device that shows characters.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
