// Command upstream runs a fake of Anthropic's Messages API, to try weir and Envoy
// without a provider:
//
//	go run ./test/upstream/cmd/upstream --addr 127.0.0.1:18080 --requests-per-minute 50
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/weir-project/weir/test/upstream"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "upstream:", err)
		os.Exit(1)
	}
}

func run() error {
	addr := flag.String("addr", "127.0.0.1:18080", "address to listen on")
	amounts := map[string]*uint64{
		"requests":      flag.Uint64("requests-per-minute", 0, "refuse more requests than this; 0 is no limit"),
		"input-tokens":  flag.Uint64("input-tokens-per-minute", 0, "refuse more input tokens than this; 0 is no limit"),
		"output-tokens": flag.Uint64("output-tokens-per-minute", 0, "refuse more output tokens than this; 0 is no limit"),
	}
	hidden := flag.Bool("hidden", false, "do not show the limits in the rate-limit headers")
	flag.Parse()

	var limits []upstream.Limit
	for _, meter := range []string{"requests", "input-tokens", "output-tokens"} {
		if n := *amounts[meter]; n > 0 {
			limits = append(limits, upstream.Limit{Meter: meter, Amount: n, Window: time.Minute, Hidden: *hidden})
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fake := upstream.New(upstream.Options{Limits: limits})
	server := &http.Server{Addr: *addr, Handler: fake, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	fmt.Printf("upstream: a fake Messages API on http://%s/v1/messages\n", *addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	fmt.Printf("upstream: %+v\n", fake.Totals())
	return nil
}
