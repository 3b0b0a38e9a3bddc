package server

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
	"github.com/weir-project/weir/store/memory"
)

const weirYAML = "quotas:\n- name: opus\n  control: fixed\n  limits: {input_tokens_per_minute: AMOUNT}\n"

// TestFilesThatChangeTakeEffect uses the real clock: files have no virtual one.
func TestFilesThatChangeTakeEffect(t *testing.T) {
	dir := t.TempDir()
	put := func(text string) {
		t.Helper()
		next := filepath.Join(dir, ".next")
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, "weir.yaml")); err != nil {
			t.Fatal(err)
		}
	}
	put(strings.ReplaceAll(weirYAML, "AMOUNT", "1000"))
	first, err := config.Load([]string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	store := memory.New(limiter.Options{Shards: 1})
	defer store.Close()
	s, err := New(Options{
		Store: store, Loaded: first, Paths: []string{dir}, GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0",
		DrainDelay: -1, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	conn, err := grpc.NewClient(s.GRPCAddr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	admin := weirv1.NewAdminServiceClient(conn)
	waitFor := func(what string, ok func(*weirv1.GetPlanResponse) bool) {
		t.Helper()
		var plan *weirv1.GetPlanResponse
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			var err error
			if plan, err = admin.GetPlan(t.Context(), &weirv1.GetPlanRequest{}, grpc.WaitForReady(true)); err != nil {
				t.Fatal(err)
			}
			if ok(plan) {
				return
			}
		}
		t.Fatalf("%s does not come about: %v", what, plan)
	}
	waitFor("the first plan", func(p *weirv1.GetPlanResponse) bool { return p.GetPlan() == first.Digest && p.GetQuotas() == 1 })
	put(strings.ReplaceAll(weirYAML, "AMOUNT", "2000"))
	waitFor("the second plan", func(p *weirv1.GetPlanResponse) bool { return p.GetPlan() != first.Digest && p.GetLastError() == "" })
	second := s.d.loaded.Load().Digest
	put("quotas: 7\n")
	waitFor("the error", func(p *weirv1.GetPlanResponse) bool {
		return p.GetPlan() == second && strings.Contains(p.GetLastError(), "weir.yaml:1")
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if resp, err := client.Get("http://" + s.HTTPAddr().String() + "/readyz"); err != nil || resp.StatusCode != 200 {
		t.Errorf("/readyz: %v, %v; want that it is ready with the earlier plan", resp, err)
	} else {
		_ = resp.Body.Close()
	}
	put(strings.ReplaceAll(weirYAML, "AMOUNT", "1000"))
	waitFor("the first plan again", func(p *weirv1.GetPlanResponse) bool { return p.GetPlan() == first.Digest && p.GetLastError() == "" })
	if strings.Contains(log.String(), "restart") {
		t.Errorf("nothing takes a restart:\n%s", log)
	}
	put(strings.ReplaceAll(weirYAML, "AMOUNT", "3000") + "server: {max_keys: 10, log_level: debug}\n")
	waitFor("the plan beside a server block", func(p *weirv1.GetPlanResponse) bool { return p.GetPlan() != first.Digest })
	if want := `msg="the server block has changed: restart to put it in force" settings="log-level max-keys"`; !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %s:\n%s", want, log)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
