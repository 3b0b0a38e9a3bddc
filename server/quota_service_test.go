package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

func wantVerdict(t *testing.T, resp *weirv1.ReserveResponse, want weirv1.Verdict) {
	t.Helper()
	if resp.GetVerdict() != want {
		t.Fatalf("verdict %v, want %v: %v", resp.GetVerdict(), want, resp)
	}
}

func TestACallIsReservedDeniedAndReported(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		// 0s: 600 of 1000 input tokens are reserved.
		first := w.reserve(call("acme", 600, 100))
		wantVerdict(t, first, weirv1.Verdict_VERDICT_ALLOW)
		if len(first.GetReservation()) != idLen || first.GetPlan() != "aaaaaaaaaaaa" || first.GetReserved().GetInputTokens() != 600 {
			t.Errorf("answer %v", first)
		}
		if left := time.Until(first.GetExpiresAt().AsTime()); left != 2*time.Minute {
			t.Errorf("expires in %v, want 2m", left)
		}
		// 600 more do not fit, and are told which limit, and when to come back.
		denied := w.reserve(call("acme", 600, 100))
		wantVerdict(t, denied, weirv1.Verdict_VERDICT_DENY)
		by := denied.GetRefusedBy()
		if by.GetOwner() != "opus" || by.GetMeter() != "input_tokens" || by.GetLimit() != 1000 || by.GetUsed() != 600 ||
			by.GetRemaining() != 400 || by.GetRequested() != 600 || !by.GetOver() {
			t.Errorf("refused by %v", by)
		}
		if denied.GetReservation() != "" || denied.GetRetryAfter().AsDuration() <= 0 {
			t.Errorf("denial %v", denied)
		}
		// Another organisation has a quota of its own.
		wantVerdict(t, w.reserve(call("other", 600, 100)), weirv1.Verdict_VERDICT_ALLOW)
		// More than the limit ever admits is never worth waiting for.
		large := w.reserve(call("acme", 1001, 1))
		wantVerdict(t, large, weirv1.Verdict_VERDICT_INFEASIBLE)
		if large.GetRetryAfter() != nil {
			t.Errorf("retry after %v for what never passes", large.GetRetryAfter())
		}
		// The call used 100: there is room again.
		used, out := uint64(100), uint64(50)
		settled, err := w.quota.Report(t.Context(), &weirv1.ReportRequest{
			Reservation: first.GetReservation(), HttpStatus: 200,
			Usage: &weirv1.ReportedUsage{InputTokens: &used, OutputTokens: &out},
		})
		if err != nil || settled.GetEnding() != weirv1.Ending_ENDING_SETTLED || !settled.GetApplied() || settled.GetCharged().GetInputTokens() != 100 {
			t.Fatalf("report: %v, %v", settled, err)
		}
		wantVerdict(t, w.reserve(call("acme", 600, 100)), weirv1.Verdict_VERDICT_ALLOW)
		// The same report again changes nothing.
		again, err := w.quota.Report(t.Context(), &weirv1.ReportRequest{Reservation: first.GetReservation(), HttpStatus: 200})
		if err != nil || again.GetApplied() || again.GetEnding() != weirv1.Ending_ENDING_SETTLED {
			t.Errorf("second report: %v, %v", again, err)
		}
	})
}

func TestRetryAfterIsHonest(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		w.reserve(call("acme", 900, 100))
		denied := w.reserve(call("acme", 600, 100))
		wait := denied.GetRetryAfter().AsDuration()
		time.Sleep(wait - time.Millisecond)
		wantVerdict(t, w.reserve(call("acme", 600, 100)), weirv1.Verdict_VERDICT_DENY)
		time.Sleep(time.Millisecond)
		wantVerdict(t, w.reserve(call("acme", 600, 100)), weirv1.Verdict_VERDICT_ALLOW)
	})
}

func TestACallerIsHeldUntilThereIsRoom(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		w.reserve(call("acme", 900, 100)) // 0s
		time.Sleep(45 * time.Second)
		began := time.Now()
		req := call("acme", 600, 100)
		req.MaxWait = durationpb.New(30 * time.Second)
		held := w.reserve(req)
		wantVerdict(t, held, weirv1.Verdict_VERDICT_ALLOW)
		if waited := time.Since(began); waited < 15*time.Second || waited > 17*time.Second {
			t.Errorf("held for %v, want until the first minute is over, and a bucket", waited)
		}
	})
}

func TestAHeldCallerIsAnsweredBeforeItsDeadline(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		w.reserve(call("acme", 900, 100))
		time.Sleep(59 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		req := call("acme", 600, 100)
		req.MaxWait = durationpb.New(time.Hour)
		resp, err := w.quota.Reserve(ctx, req)
		if err != nil {
			t.Fatalf("got the error %v, want an answer before the deadline", err)
		}
		wantVerdict(t, resp, weirv1.Verdict_VERDICT_DENY)
	})
}

func TestACallerWhoLeavesConsumesNothing(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		w.reserve(call("acme", 900, 100))
		time.Sleep(50 * time.Second)
		ctx, leave := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, leave)
		req := call("acme", 600, 100)
		req.MaxWait = durationpb.New(30 * time.Second)
		_, err := w.quota.Reserve(ctx, req)
		if status.Code(err) != codes.Canceled {
			t.Fatalf("got %v, want CANCELED", err)
		}
		time.Sleep(20 * time.Second)
		if used := w.used("acme", "input_tokens"); used != 0 {
			t.Errorf("%d input tokens are used, want 0: the only one who asked has left", used)
		}
	})
}

func TestAGrantThatCrossesACancelIsGivenBack(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		q := &quotaService{d: w.server.d, cut: t.Context()}
		ctx, leave := context.WithCancel(t.Context())
		leave()
		if _, err := q.Reserve(ctx, call("acme", 600, 100)); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want the context's error", err)
		}
		if used := w.used("acme", "input_tokens"); used != 0 {
			t.Errorf("%d input tokens are used, want 0", used)
		}
		// With a key the caller can ask for the same reservation again.
		req := call("acme", 600, 100)
		req.IdempotencyKey = "k1"
		if _, err := q.Reserve(ctx, req); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		wantVerdict(t, w.reserve(req), weirv1.Verdict_VERDICT_ALLOW)
		if used := w.used("acme", "input_tokens"); used != 600 {
			t.Errorf("%d input tokens are used, want 600: one reservation, asked for twice", used)
		}
	})
}

func TestAReservationExpiresWithItsEstimate(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		req := call("acme", 600, 100)
		req.Ttl = durationpb.New(10 * time.Second)
		r := w.reserve(req)
		time.Sleep(5 * time.Second)
		renewed, err := w.quota.Renew(t.Context(), &weirv1.RenewRequest{Reservation: r.GetReservation(), Ttl: durationpb.New(20 * time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(renewed.GetExpiresAt().AsTime()); left != 20*time.Second {
			t.Errorf("expires in %v, want 20s", left)
		}
		time.Sleep(21 * time.Second)
		synctest.Wait()
		released, err := w.quota.Release(t.Context(), &weirv1.ReleaseRequest{Reservation: r.GetReservation()})
		if err != nil || released.GetApplied() || released.GetEnding() != weirv1.Ending_ENDING_EXPIRED {
			t.Errorf("release: %v, %v; want that it has expired", released, err)
		}
		if _, err := w.quota.Renew(t.Context(), &weirv1.RenewRequest{Reservation: r.GetReservation()}); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("renew: %v, want FAILED_PRECONDITION", err)
		}
		if used := w.used("acme", "input_tokens"); used != 600 {
			t.Errorf("%d input tokens are used, want the estimate of 600", used)
		}
	})
}

func TestAReleaseGivesEverythingBack(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		r := w.reserve(call("acme", 600, 100))
		for i, want := range []bool{true, false} {
			resp, err := w.quota.Release(t.Context(), &weirv1.ReleaseRequest{Reservation: r.GetReservation(), Tenant: "chat"})
			if err != nil || resp.GetApplied() != want || resp.GetEnding() != weirv1.Ending_ENDING_RELEASED {
				t.Errorf("release %d: %v, %v", i, resp, err)
			}
		}
		for _, meter := range []string{"requests", "input_tokens", "output_tokens"} {
			if used := w.used("acme", meter); used != 0 {
				t.Errorf("%d %s are used, want 0", used, meter)
			}
		}
	})
}

func TestAnotherTenantsReservationIsUnknown(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		r := w.reserve(call("acme", 600, 100))
		_, err := w.quota.Release(t.Context(), &weirv1.ReleaseRequest{Reservation: r.GetReservation(), Tenant: "thief"})
		if status.Code(err) != codes.NotFound {
			t.Errorf("got %v, want NOT_FOUND", err)
		}
		if used := w.used("acme", "input_tokens"); used != 600 {
			t.Errorf("%d input tokens are used, want 600", used)
		}
	})
}

func TestADownStoreIsUnavailable(t *testing.T) {
	cause := errors.New("dial redis://user:secret@host: refused")
	inBubble(t, Options{Store: brokenStore{cause}}, func(t *testing.T, w *world) {
		_, err := w.quota.Reserve(t.Context(), call("acme", 1, 1))
		if status.Code(err) != codes.Unavailable || containsAny(err.Error(), "secret", "redis") {
			t.Errorf("got %v, want UNAVAILABLE and nothing about the store", err)
		}
	})
}
