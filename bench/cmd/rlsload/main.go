// Command rlsload asks a RateLimitService and prints what it was answered and how
// fast. With -body it only writes the body of a request to a file, for h2load.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/weir-project/weir/bench/internal/h2client"
	"github.com/weir-project/weir/bench/internal/messages"
	"github.com/weir-project/weir/bench/internal/workload"
)

func main() {
	var (
		o    h2client.Options
		w    workload.Spec
		body = flag.String("body", "", "write the body of one request to this file, and ask nobody")
	)
	flag.StringVar(&o.Addr, "addr", "127.0.0.1:8081", "the server, without TLS")
	flag.IntVar(&o.Conns, "conns", 8, "connections")
	flag.IntVar(&o.Streams, "streams", 32, "open calls a connection: exactly so many, or with -rate at most")
	flag.DurationVar(&o.Duration, "duration", 5*time.Second, "how long to ask")
	flag.Float64Var(&o.Rate, "rate", 0, "calls a second, over all connections; 0: as fast as answers come")
	flag.StringVar(&o.Timeout, "timeout", "", "the calls' grpc-timeout, for example 250m")
	flag.StringVar(&w.Kind, "workload", "one", "one, four or llm")
	flag.IntVar(&w.Keys, "keys", 1, "how many users one and four ask for")
	flag.StringVar(&w.Order, "order", "uniform", "which user comes next: uniform, zipf or each")
	flag.Parse()
	o.Path = messages.ShouldRateLimit
	if err := run(o, w, *body); err != nil {
		fmt.Fprintln(os.Stderr, "rlsload:", err)
		os.Exit(1)
	}
}

func run(o h2client.Options, w workload.Spec, body string) error {
	if body != "" {
		return writeBody(w.Kind, body)
	}
	next, err := workload.New(w)
	if err != nil {
		return err
	}
	o.Next = next
	r, err := h2client.Run(o)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%d calls in %.2f s, %.0f/s: %d OK, %d over limit, %d failed\n",
		r.Sent, r.Elapsed.Seconds(), float64(r.Sent)/r.Elapsed.Seconds(), r.OK, r.OverLimit, r.Failed)
	for _, q := range []float64{0.5, 0.9, 0.99, 0.999, 1} {
		fmt.Fprintf(os.Stdout, "p%-5g %v\n", q*100, r.Latency.Quantile(q).Round(time.Microsecond))
	}
	return nil
}

func writeBody(kind, path string) error {
	kinds := map[string]proto.Message{
		"one": messages.One(messages.User(0)), "four": messages.Four(messages.User(0)), "llm": messages.Ask(""),
	}
	m, ok := kinds[kind]
	if !ok {
		return fmt.Errorf("workload %q: want one, four or llm", kind)
	}
	b, err := messages.Frame(m)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}
