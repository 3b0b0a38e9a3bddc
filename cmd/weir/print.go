package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// printJSON writes m as JSON with the proto's own field names. protojson varies its
// spaces on purpose, so they are put in anew.
func printJSON(w io.Writer, m proto.Message) error {
	b, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err = w.Write(out.Bytes())
	return err
}

// printExplanation writes the answer in a sentence and the limits as a table.
func printExplanation(w io.Writer, e *weirv1.ExplainResponse) error {
	fmt.Fprintln(w, e.GetSummary())
	if len(e.GetLimits()) > 0 {
		fmt.Fprintln(w)
		if err := printLimits(w, e); err != nil {
			return err
		}
	}
	if len(e.GetPaces()) > 0 {
		fmt.Fprintln(w)
		if err := printPaces(w, e.GetPaces(), time.Now()); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	if r := e.GetReserved(); r.GetRequests() > 0 && e.GetVerdict() == weirv1.Verdict_VERDICT_ALLOW {
		fmt.Fprintf(w, "reserves  %s, %s, %s\n", plural(int(r.GetRequests()), "request"),
			plural(int(r.GetInputTokens()), "input token"), plural(int(r.GetOutputTokens()), "output token"))
	}
	fmt.Fprintf(w, "plan      %s\n", e.GetPlan())
	return nil
}

func printLimits(w io.Writer, e *weirv1.ExplainResponse) error {
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "OWNER\tMETER\tLIMIT\tPER\tUSED\tASKED\tREMAINING\t")
	refused := e.GetRefusedBy()
	for _, l := range e.GetLimits() {
		note := ""
		switch {
		case proto.Equal(l, refused):
			note = "refuses"
		case l.GetOver():
			note = "over"
		}
		if l.GetOverflow() {
			note = strings.TrimSpace(note + " shared (too many keys)")
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%d\t%d\t%d\t%s\n", l.GetOwner(), l.GetMeter(), l.GetLimit(),
			shortDuration(l.GetWindow().AsDuration()), l.GetUsed(), l.GetRequested(), l.GetRemaining(), note)
	}
	return printTable(w, t, &table)
}

// printPaces writes what was learned as a table.
func printPaces(w io.Writer, paces []*weirv1.PaceState, now time.Time) error {
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LEARNED\tMETER\tRATE/MIN\tBURST\tBACKLOG\tLAST EVENT\t")
	for _, p := range paces {
		event := p.GetLastEvent()
		if at := p.GetLastEventAt(); at != nil {
			event += " " + shortDuration(now.Sub(at.AsTime()).Round(time.Second)) + " ago"
		}
		note := ""
		if p.GetStartup() {
			note = "limit not found yet"
		}
		if left := p.GetGateUntil().AsTime().Sub(now); p.GetGateUntil() != nil && left > 0 {
			note = "shut for " + shortDuration(left.Round(100*time.Millisecond))
		}
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.1fs\t%.0f\t%s\t%s\n", p.GetOwner(), p.GetMeter(), p.GetRatePerMinute(),
			p.GetBurstSeconds(), p.GetBacklog(), event, note)
	}
	return printTable(w, t, &table)
}

// printTable writes a table without the spaces at the ends of its lines.
func printTable(w io.Writer, t *tabwriter.Writer, table *strings.Builder) error {
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
	return nil
}

// shortDuration returns d as people write it: 1m, not 1m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
