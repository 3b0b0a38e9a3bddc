package docs

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
	"github.com/weir-project/weir/server"
	"github.com/weir-project/weir/store/memory"
)

// answer is what a provider said.
type answer struct {
	status                    int
	text                      string
	inputTokens, outputTokens uint64
}

// callWith asks weir, calls the provider if it may, and tells weir what was used.
func callWith(ctx context.Context, weir weirv1.QuotaServiceClient, who map[string]string,
	prompt string, send func(context.Context, string) (answer, error),
) (answer, error) {
	var ticket []byte
	for {
		d, err := weir.Reserve(ctx, &weirv1.ReserveRequest{
			Attributes: who, // org, tenant, model
			Estimate:   &weirv1.Estimate{BodyBytes: new(uint64(len(prompt))), MaxTokens: new(uint64(1024))},
			Ticket:     ticket, // keeps the place in the order of those who wait
		})
		if err != nil {
			return answer{}, err // weir is away: your decision whether to send all the same
		}
		switch d.GetVerdict() {
		case weirv1.Verdict_VERDICT_ALLOW:
			time.Sleep(d.GetDelay().AsDuration()) // a fraction of a second, if at all
			return sendAndReport(ctx, weir, d.GetReservation(), prompt, send)
		case weirv1.Verdict_VERDICT_INFEASIBLE:
			return answer{}, errors.New("larger than " + d.GetRefusedBy().GetOwner() + " ever admits")
		default: // denied: nothing was charged
			ticket = d.GetTicket()
			select {
			case <-time.After(d.GetRetryAfter().AsDuration()):
			case <-ctx.Done():
				return answer{}, ctx.Err()
			}
		}
	}
}

func sendAndReport(ctx context.Context, weir weirv1.QuotaServiceClient, reservation, prompt string,
	send func(context.Context, string) (answer, error),
) (answer, error) {
	got, failed := send(ctx, prompt)
	report := &weirv1.ReportRequest{Reservation: reservation, HttpStatus: uint32(got.status)} // 0: no answer came
	if failed == nil && got.status == 200 {
		report.Usage = &weirv1.ReportedUsage{InputTokens: &got.inputTokens, OutputTokens: &got.outputTokens}
	}
	// Report also when the caller has gone: what was used was used.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, err := weir.Report(ctx, report); err != nil {
		return got, errors.Join(failed, err)
	}
	return got, failed
}

// The code on the page is the code above, and it works.
func TestDirectPageShowsWorkingCode(t *testing.T) {
	source, page := read(t, "direct_test.go"), read(t, "how-to/direct.md")
	_, code, _ := strings.Cut(source, "\n// callWith asks")
	code, _, _ = strings.Cut(code, "\n// The code on the page")
	if want := "```go\n// callWith asks" + strings.TrimRight(code, "\n") + "\n```"; !strings.Contains(page, want) {
		t.Errorf("how-to/direct.md does not show\n%s", want)
	}

	client := serveForTest(t)
	who := map[string]string{"org": "acme", "tenant": "chat", "model": "claude-opus-4-1"}
	got, err := callWith(t.Context(), client, who, "Hello", func(context.Context, string) (answer, error) {
		return answer{status: 200, text: "Hi", inputTokens: 8, outputTokens: 3}, nil
	})
	if err != nil || got.text != "Hi" {
		t.Fatalf("callWith = %+v, %v", got, err)
	}
	_, err = callWith(t.Context(), client, who, strings.Repeat("x", 100_000_000), nil)
	if err == nil || !strings.Contains(err.Error(), "anthropic") {
		t.Errorf("a prompt of 100 MB: error %v, want one that names the quota", err)
	}
}

// serveForTest serves one quota whose limits are known.
func serveForTest(t *testing.T) weirv1.QuotaServiceClient {
	t.Helper()
	file := filepath.Join(t.TempDir(), "weir.yaml")
	plan := "quotas: [{name: anthropic, provider: anthropic, control: fixed, limits: {input_tokens_per_minute: 2000000}}]"
	if err := os.WriteFile(file, []byte(plan), 0o644); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load([]string{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New(limiter.Options{})
	grpcEnd := bufconn.Listen(1 << 16)
	srv, err := server.New(server.Options{
		GRPCListener: grpcEnd, HTTPListener: bufconn.Listen(1), Store: store, Loaded: loaded,
		DrainDelay: -1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	conn, err := grpc.NewClient("passthrough:///weir", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return grpcEnd.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		store.Close()
	})
	return weirv1.NewQuotaServiceClient(conn)
}
