package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

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
	if err := printQuotas(w, e.GetQuotas(), time.Now()); err != nil {
		return err
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
			if c := e.GetCause(); c != "" && c != "limit" {
				note += " (" + c + ")"
			}
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
	fmt.Fprintln(t, "LEARNED\tMETER\tLIMIT\tRATE/MIN\tBURST\tBACKLOG\tPROBES\tLAST EVENT\tLAST REFUSAL\t")
	for _, p := range paces {
		note := ""
		if p.GetStartup() {
			note = "limit not found yet"
		}
		if p.GetRampPerMinute() > 0 {
			note = "grows as the upstream states"
		}
		if left := p.GetGateUntil().AsTime().Sub(now); p.GetGateUntil() != nil && left > 0 {
			note = "shut for " + shortDuration(left.Round(100*time.Millisecond))
		}
		limit := "unknown"
		if l := p.GetLimitPerMinute(); l > 0 {
			limit = fmt.Sprintf("%.0f %s", l, p.GetLimitSource())
		}
		refusal := "none"
		if p.GetLastClass() != "" {
			refusal = p.GetLastClass()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.0f\t%.1fs\t%.0f\t%s\t%s\t%s\t%s\n", p.GetOwner(), p.GetMeter(), limit, p.GetRatePerMinute(),
			p.GetBurstSeconds(), p.GetBacklog(), probes(p), ago(p.GetLastEvent(), p.GetLastEventAt(), now),
			ago(refusal, p.GetLastClassAt(), now), note)
	}
	return printTable(w, t, &table)
}

// probes says what probing has cost: a number, and what share of the accepted calls.
func probes(p *weirv1.PaceState) string {
	if p.GetProbeShare() == 0 {
		return strconv.FormatUint(p.GetProbesSpent(), 10)
	}
	return fmt.Sprintf("%d (%.2g%%)", p.GetProbesSpent(), 100*p.GetProbeShare())
}

// ago adds to what happened how long ago that was, if it was.
func ago(what string, at *timestamppb.Timestamp, now time.Time) string {
	if at == nil {
		return what
	}
	return what + " " + shortDuration(now.Sub(at.AsTime()).Round(time.Second)) + " ago"
}

// printQuotas writes how the quotas as a whole stand, where there is anything to say, and
// who waits for them.
func printQuotas(w io.Writer, quotas []*weirv1.QuotaState, now time.Time) error {
	var lines []string
	waits := false
	for _, q := range quotas {
		lines = append(lines, standing(q, now)...)
		waits = waits || len(q.GetQueue()) > 0
	}
	if len(lines) > 0 {
		fmt.Fprintln(w, "\n"+strings.Join(lines, "\n"))
	}
	if !waits {
		return nil
	}
	fmt.Fprintln(w)
	return printQueue(w, quotas)
}

// standing says what holds a quota as a whole up.
func standing(q *weirv1.QuotaState, now time.Time) []string {
	var lines []string
	if n := q.GetInFlightCap(); n > 0 {
		lines = append(lines, fmt.Sprintf("%s: at most %s at a time, %d are open", q.GetName(), plural(int(n), "call"), q.GetOpenReservations()))
	}
	if rate := q.GetOverloadRatePerMinute(); rate > 0 {
		lines = append(lines, fmt.Sprintf("%s: the upstream is overloaded, %.0f calls a minute are tried", q.GetName(), rate))
	}
	if left := q.GetSpendUntil().AsTime().Sub(now); q.GetSpendUntil() != nil && left > 0 {
		lines = append(lines, fmt.Sprintf("%s: the money is spent, nothing is sent for %s", q.GetName(), shortDuration(left.Round(time.Second))))
	}
	return lines
}

// printQueue writes who waits, as a table.
func printQueue(w io.Writer, quotas []*weirv1.QuotaState) error {
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "QUEUE\tTENANT\tHELD\tTO COME BACK\tWEIGHT\tAHEAD\t")
	for _, q := range quotas {
		for _, c := range q.GetQueue() {
			tenant := c.GetTenant()
			switch {
			case c.GetOthers():
				tenant = "(all others)"
			case tenant == "":
				tenant = "(none)"
			}
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%g\t%.1fs\n", q.GetName(), tenant, c.GetWaiting(), c.GetTickets(), c.GetWeight(), c.GetAheadSeconds())
		}
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
