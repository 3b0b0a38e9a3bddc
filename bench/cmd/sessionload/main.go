// Command sessionload drives QuotaService.Session and prints how many decisions it
// got.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/weir-project/weir/bench/internal/session"
)

func main() {
	var o session.Options
	flag.StringVar(&o.Addr, "addr", "127.0.0.1:8081", "the server, without TLS")
	flag.IntVar(&o.Streams, "streams", 4, "streams, each on a connection of its own")
	flag.IntVar(&o.Pipeline, "pipeline", 32, "messages of a stream under way at a time")
	flag.IntVar(&o.Calls, "calls", 1, "decisions a message asks for, at most 64")
	flag.DurationVar(&o.Duration, "duration", 5*time.Second, "how long to drive")
	flag.BoolVar(&o.Reports, "reports", true, "report what was reserved: half of the calls are reports")
	flag.BoolVar(&o.Bounce, "bounce", false, "the server is `echo -raw`: do not read its answers")
	flag.Parse()
	t, elapsed, err := session.Run(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sessionload:", err)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stdout, "%d calls in %.2f s, %.0f/s: %d reserves (%d allowed), %d reports, %d errors; answered in %d messages\n",
		t.Calls, elapsed.Seconds(), float64(t.Calls)/elapsed.Seconds(), t.Reserves, t.Allowed, t.Reports, t.Errors, t.Messages)
}
