package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/simulate"
)

// simulateFlags are the flags of simulate.
type simulateFlags struct {
	limiters   []string
	mode       *choice
	seeds      int
	trace, out string
	output     *choice
}

// maxScenario bounds the size of a scenario file, in bytes.
const maxScenario = 1 << 20

func newSimulate(*process) *cobra.Command {
	f := &simulateFlags{mode: &choice{value: string(simulate.Queue), of: []string{string(simulate.Queue), string(simulate.Deny)}}}
	cmd := &cobra.Command{
		Use:   "simulate [UPSTREAM/WORKLOAD|FILE.json...]",
		Short: "Try weir, and what people use instead, on models of upstreams",
		Long: `Try weir, and what people use instead, on models of upstreams, in virtual time.

A scenario is an upstream and a workload that are known by name, such as U2/W3r, or a
JSON file of your own; --trace replays a trace of requests instead of the workload. What
is run as weir is the code that serves. The table says how much of the quota was used,
how many of the calls sent were refused with 429, and what callers had of it.`,
		Example: `  weir simulate
  weir simulate U1/W3r U2/W3i --seeds 5
  weir simulate U4/W3r --mode deny --out page.html
  weir simulate mine.json --limiters weir,sdk
  weir simulate U1/W3i --trace AzureLLMInferenceTrace_conv.csv`,
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.limiters, "limiters", []string{"weir", "none", "sdk", "fixed", "sliding", "aws"}, "what to try: "+kinds())
	choiceFlag(cmd, f.mode, "mode", "", "how callers wait for weir: in its queue, or by coming back when they are told to")
	flags.IntVar(&f.seeds, "seeds", 1, "runs of each, with different chance")
	fileFlag(cmd, &f.trace, "trace", "trace to replay (CSV: TIMESTAMP, ContextTokens, GeneratedTokens)")
	fileFlag(cmd, &f.out, "out", "page of HTML to write, with plots over time")
	f.output = outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		scenarios, err := f.scenarios(args)
		if err != nil {
			return err
		}
		results, err := simulate.RunAll(cmd.Context(), scenarios)
		if err != nil {
			return err
		}
		return f.show(cmd, results)
	}
	return cmd
}

func kinds() string {
	var names []string
	for _, k := range simulate.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// scenarios returns each scenario named, for each limiter and seed.
func (f *simulateFlags) scenarios(args []string) ([]simulate.Scenario, error) {
	if f.seeds < 1 || f.seeds > 1000 {
		return nil, usagef("--seeds is %d, expected from 1 to 1000", f.seeds)
	}
	for _, k := range f.limiters {
		if !slices.Contains(simulate.Kinds(), simulate.Kind(k)) {
			return nil, usagef("--limiters: there is no %q, expected some of %s", k, kinds())
		}
	}
	if len(args) == 0 {
		args = []string{"U1/W3r", "U2/W3r", "U4/W3r"}
	}
	trace, err := f.readTrace()
	if err != nil {
		return nil, err
	}
	var seeds []uint64
	for i := range f.seeds {
		seeds = append(seeds, uint64(i+1))
	}
	var all []simulate.Scenario
	for _, arg := range args {
		s, err := scenario(arg)
		if err != nil {
			return nil, err
		}
		s.Mode = simulate.Mode(f.mode.value)
		if trace != nil {
			s.Name += ", " + f.trace
			s.Workload.Trace = trace
		}
		for _, k := range f.limiters {
			s.Limiter = simulate.Kind(k)
			if err := s.Validate(); err != nil {
				return nil, usagef("%s: %v", arg, err)
			}
			all = append(all, simulate.Seeds(s, seeds...)...)
		}
	}
	return all, nil
}

// scenario returns the one that is known by a name, or in a file.
func scenario(arg string) (simulate.Scenario, error) {
	if up, work, ok := strings.Cut(arg, "/"); ok && !strings.HasSuffix(arg, ".json") {
		s, err := simulate.Named(up, work)
		if err != nil {
			return s, usagef("%s: %v", arg, err)
		}
		return s, nil
	}
	var s simulate.Scenario
	st, err := os.Stat(arg)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return s, usagef("%s: no such file, and no UPSTREAM/WORKLOAD either, like U1/W3r", arg)
	case err != nil:
		return s, err
	case st.Size() > maxScenario:
		return s, usagef("%s: %d bytes, expected at most %d", arg, st.Size(), maxScenario)
	}
	b, err := os.ReadFile(arg)
	if err != nil {
		return s, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, usagef("%s:%d: %v", arg, 1+bytes.Count(b[:min(int(d.InputOffset()), len(b))], []byte("\n")), err)
	}
	if s.Name == "" {
		s.Name = arg
	}
	return s, nil
}

func (f *simulateFlags) readTrace() ([]simulate.Arrival, error) {
	if f.trace == "" {
		return nil, nil
	}
	file, err := os.Open(f.trace)
	if err != nil {
		return nil, usagef("%v", err)
	}
	defer func() { _ = file.Close() }()
	trace, err := simulate.ReadTrace(file)
	if err != nil {
		return nil, usagef("%s: %v", f.trace, err)
	}
	return trace, nil
}

// show prints the table, and writes the page.
func (f *simulateFlags) show(cmd *cobra.Command, results []*simulate.Result) error {
	rows := simulate.Summarize(results)
	if f.out != "" {
		var page bytes.Buffer
		if err := simulate.WritePage(&page, "weir simulate", results); err != nil {
			return err
		}
		if err := os.WriteFile(f.out, page.Bytes(), 0o644); err != nil { //nolint:gosec // a page for anybody to read
			return err
		}
	}
	if f.output.value == "json" {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(rows)
	}
	if err := simulate.WriteTable(cmd.OutOrStdout(), rows); err != nil {
		return err
	}
	if f.out != "" {
		fmt.Fprintf(cmd.OutOrStdout(), "\nplots over time: %s\n", f.out)
	}
	return nil
}
