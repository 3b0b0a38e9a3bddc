package simulate

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Arrival is one request of a trace.
type Arrival struct {
	// At is since the first.
	At time.Duration
	// Input and Output are in tokens.
	Input, Output float64
}

// maxArrivals bounds a trace.
const maxArrivals = 20_000_000

// ReadTrace reads a trace in the form of the Azure LLM inference traces: CSV with the
// columns TIMESTAMP, ContextTokens and GeneratedTokens, found by name. Times are
// written as "2023-11-16 18:15:46.6805900", or in RFC 3339, or are numbers of seconds.
// The arrivals are returned in the order of their times. An error names the line.
func ReadTrace(r io.Reader) ([]Arrival, error) {
	in := csv.NewReader(r)
	in.ReuseRecord = true
	in.TrimLeadingSpace = true
	head, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("trace: no header line with TIMESTAMP, ContextTokens and GeneratedTokens: %w", err)
	}
	columns := [3]int{-1, -1, -1}
	for i, name := range head {
		for j, want := range []string{"TIMESTAMP", "ContextTokens", "GeneratedTokens"} {
			if strings.EqualFold(strings.TrimPrefix(name, "\ufeff"), want) {
				columns[j] = i
			}
		}
	}
	if slices.Contains(columns[:], -1) {
		return nil, fmt.Errorf("trace: line 1: the header has the columns %q, not all of TIMESTAMP, ContextTokens and GeneratedTokens", head)
	}
	var out []Arrival
	var first time.Time
	for {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("trace: %w", err)
		}
		line, _ := in.FieldPos(0)
		t, a, err := arrivalOf(record, columns)
		if err != nil {
			return nil, fmt.Errorf("trace: line %d: %w", line, err)
		}
		if len(out) == 0 {
			first = t
		}
		if len(out) == maxArrivals {
			return nil, fmt.Errorf("trace: line %d: more than %d requests", line, maxArrivals)
		}
		a.At = t.Sub(first)
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, errors.New("trace: no requests after the header line")
	}
	slices.SortStableFunc(out, func(a, b Arrival) int { return int(min(max(a.At-b.At, -1), 1)) })
	for i, start := 0, out[0].At; i < len(out); i++ {
		out[i].At -= start
	}
	if last := out[len(out)-1].At; last > time.Duration(mostDuration) {
		return nil, fmt.Errorf("trace: it lasts %s, more than %s", last, time.Duration(mostDuration))
	}
	return out, nil
}

func arrivalOf(record []string, columns [3]int) (time.Time, Arrival, error) {
	t, err := parseTime(record[columns[0]])
	if err != nil {
		return t, Arrival{}, err
	}
	var n [2]float64
	for i, c := range columns[1:] {
		v, err := strconv.ParseUint(strings.TrimSpace(record[c]), 10, 32)
		if err != nil {
			return t, Arrival{}, fmt.Errorf("%q is not a number of tokens", record[c])
		}
		n[i] = float64(v)
	}
	return t, Arrival{Input: n[0], Output: n[1]}, nil
}

func parseTime(text string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02 15:04:05.999999999", time.RFC3339Nano, "2006-01-02 15:04:05Z07:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil && s >= 0 && s < 1e10 {
		return time.Unix(0, int64(s*1e9)).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%q is neither a time such as 2023-11-16 18:15:46.68 nor a number of seconds", text)
}
