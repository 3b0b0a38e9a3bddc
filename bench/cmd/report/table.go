package main

import (
	"fmt"
	"io"

	"github.com/weir-project/weir/bench/internal/stats"
)

// row is one line of the report.
type row struct {
	claim, bar, measured string
	verdict              verdict
}

// verdict says whether a bar was kept.
type verdict string

const (
	kept   verdict = "kept"
	missed verdict = "**missed**"
	shown  verdict = "" // there is no bar
)

// atMost judges a value against its bar.
func atMost(value, bar float64) verdict {
	if value <= bar {
		return kept
	}
	return missed
}

func printTable(w io.Writer, rows []row) {
	fmt.Fprint(w, "| what | bar | measured | |\n|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", r.claim, r.bar, r.measured, r.verdict)
	}
}

// microseconds writes a spread of durations given in nanoseconds.
func microseconds(s stats.Spread) string {
	return fmt.Sprintf("%.2f µs (%.2f–%.2f)", s.Median/1e3, s.Min/1e3, s.Max/1e3)
}

// ratio writes a spread of plain numbers.
func ratio(s stats.Spread) string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Min, s.Max)
}

// milliseconds writes a spread of durations given in nanoseconds.
func milliseconds(s stats.Spread) string {
	return fmt.Sprintf("%.2f ms (%.2f–%.2f)", s.Median/1e6, s.Min/1e6, s.Max/1e6)
}
