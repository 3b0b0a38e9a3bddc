package server

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

func reserveCallOf(sequence uint64, req *weirv1.ReserveRequest) *weirv1.SessionCall {
	return &weirv1.SessionCall{Sequence: sequence, Call: &weirv1.SessionCall_Reserve{Reserve: req}}
}

func waiting(req *weirv1.ReserveRequest, d time.Duration) *weirv1.ReserveRequest {
	req.MaxWait = durationpb.New(d)
	return req
}

func openSession(t *testing.T, w *world) weirv1.QuotaService_SessionClient {
	t.Helper()
	stream, err := w.quota.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func send(t *testing.T, s weirv1.QuotaService_SessionClient, calls ...*weirv1.SessionCall) {
	t.Helper()
	if err := s.Send(&weirv1.SessionRequest{Calls: calls}); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, s weirv1.QuotaService_SessionClient) []*weirv1.SessionAnswer {
	t.Helper()
	resp, err := s.Recv()
	if err != nil {
		t.Fatalf("Recv: %v", err)
	}
	return resp.GetAnswers()
}

func sequences(answers []*weirv1.SessionAnswer) []uint64 {
	var out []uint64
	for _, a := range answers {
		out = append(out, a.GetSequence())
	}
	return out
}

func TestASessionAnswersInOrder(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		s := openSession(t, w)
		send(t, s, reserveCallOf(7, call("acme", 600, 100)), reserveCallOf(8, call("acme", 600, 100)), reserveCallOf(9, call("acme", 300, 100)))
		answers := receive(t, s)
		if diff := cmp.Diff([]uint64{7, 8, 9}, sequences(answers)); diff != "" {
			t.Fatal(diff)
		}
		wantVerdict(t, answers[0].GetReserve(), weirv1.Verdict_VERDICT_ALLOW)
		wantVerdict(t, answers[1].GetReserve(), weirv1.Verdict_VERDICT_DENY)
		wantVerdict(t, answers[2].GetReserve(), weirv1.Verdict_VERDICT_ALLOW)

		id, used := answers[0].GetReserve().GetReservation(), uint64(10)
		send(
			t, s,
			&weirv1.SessionCall{Sequence: 10, Call: &weirv1.SessionCall_Renew{Renew: &weirv1.RenewRequest{Reservation: id}}},
			&weirv1.SessionCall{Sequence: 11, Call: &weirv1.SessionCall_Report{Report: &weirv1.ReportRequest{
				Reservation: id, HttpStatus: 200, Usage: &weirv1.ReportedUsage{InputTokens: &used, OutputTokens: &used},
			}}},
			&weirv1.SessionCall{Sequence: 12, Call: &weirv1.SessionCall_Release{Release: &weirv1.ReleaseRequest{Reservation: id}}},
		)
		answers = receive(t, s)
		if left := time.Until(answers[0].GetRenew().GetExpiresAt().AsTime()); left != 2*time.Minute {
			t.Errorf("renewed for %v, want 2m", left)
		}
		if r := answers[1].GetReport(); !r.GetApplied() || r.GetEnding() != weirv1.Ending_ENDING_SETTLED || r.GetCharged().GetInputTokens() != 10 {
			t.Errorf("report: %v", r)
		}
		if r := answers[2].GetRelease(); r.GetApplied() || r.GetEnding() != weirv1.Ending_ENDING_SETTLED {
			t.Errorf("release after the report: %v", r)
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("after the last message: %v, want EOF", err)
		}
	})
}

func TestAWrongQuestionDoesNotEndASession(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		s := openSession(t, w)
		send(
			t, s,
			&weirv1.SessionCall{Sequence: 1},
			reserveCallOf(2, call("acme", 1<<53+1, 1)),
			&weirv1.SessionCall{Sequence: 3, Call: &weirv1.SessionCall_Release{Release: &weirv1.ReleaseRequest{Reservation: "nonsense"}}},
			reserveCallOf(4, call("acme", 100, 100)),
		)
		answers := receive(t, s)
		for i, want := range []codes.Code{codes.InvalidArgument, codes.InvalidArgument, codes.NotFound} {
			if got := answers[i].GetError(); codes.Code(got.GetCode()) != want || got.GetMessage() == "" {
				t.Errorf("answer %d: %v, want %v with a text", i, answers[i], want)
			}
		}
		wantVerdict(t, answers[3].GetReserve(), weirv1.Verdict_VERDICT_ALLOW)
	})
}

func TestAHeldQuestionHoldsNobodyUp(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		s := openSession(t, w)
		send(t, s, reserveCallOf(1, call("acme", 900, 100)))
		first := receive(t, s)[0].GetReserve()
		time.Sleep(50 * time.Second)
		// 50s: number 2 has to wait; 3, of the same message, and 4 do not.
		send(t, s, reserveCallOf(2, waiting(call("acme", 600, 100), 30*time.Second)), reserveCallOf(3, call("acme", 50, 10)))
		if diff := cmp.Diff([]uint64{3}, sequences(receive(t, s))); diff != "" {
			t.Fatal(diff)
		}
		// 52s: the report of number 1 makes room for number 2, and is answered first.
		time.Sleep(2 * time.Second)
		used := uint64(10)
		send(t, s, &weirv1.SessionCall{Sequence: 4, Call: &weirv1.SessionCall_Report{Report: &weirv1.ReportRequest{
			Reservation: first.GetReservation(), HttpStatus: 200, Usage: &weirv1.ReportedUsage{InputTokens: &used, OutputTokens: &used},
		}}})
		if diff := cmp.Diff([]uint64{4}, sequences(receive(t, s))); diff != "" {
			t.Fatal(diff)
		}
		last := receive(t, s)
		if diff := cmp.Diff([]uint64{2}, sequences(last)); diff != "" {
			t.Fatal(diff)
		}
		wantVerdict(t, last[0].GetReserve(), weirv1.Verdict_VERDICT_ALLOW)
	})
}

func TestTooManyHeldQuestionsAreAnsweredAtOnce(t *testing.T) {
	spec := opus()
	spec.Quotas[0].Limits = spec.Quotas[0].Limits[1:2] // 1000 input tokens a minute
	inBubble(t, Options{Loaded: loaded(t, spec, "aaaaaaaaaaaa", nil)}, func(t *testing.T, w *world) {
		s := openSession(t, w)
		send(t, s, reserveCallOf(1, call("acme", 1000, 1)))
		receive(t, s)
		time.Sleep(45 * time.Second)
		for from := uint64(0); from < maxHeldInSession; from += 32 {
			var calls []*weirv1.SessionCall
			for i := range uint64(32) {
				calls = append(calls, reserveCallOf(100+from+i, waiting(call("acme", 1, 1), 30*time.Second)))
			}
			send(t, s, calls...)
		}
		synctest.Wait()
		send(t, s, reserveCallOf(2, waiting(call("acme", 1, 1), 30*time.Second)))
		answers := receive(t, s)
		if diff := cmp.Diff([]uint64{2}, sequences(answers)); diff != "" {
			t.Fatal(diff)
		}
		wantVerdict(t, answers[0].GetReserve(), weirv1.Verdict_VERDICT_DENY)
		// Those that are held are let in when the minute is over.
		for range maxHeldInSession {
			wantVerdict(t, receive(t, s)[0].GetReserve(), weirv1.Verdict_VERDICT_ALLOW)
		}
	})
}

func TestASessionThatIsCutConsumesNothingForWhoWaited(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		ctx, cut := context.WithCancel(t.Context())
		s, err := w.quota.Session(ctx)
		if err != nil {
			t.Fatal(err)
		}
		send(t, s, reserveCallOf(1, call("acme", 900, 100)))
		receive(t, s)
		time.Sleep(50 * time.Second)
		send(t, s, reserveCallOf(2, waiting(call("acme", 600, 100), 30*time.Second)))
		synctest.Wait()
		cut()
		time.Sleep(30 * time.Second)
		if used := w.used("acme", "input_tokens"); used != 0 {
			t.Errorf("%d input tokens are used, want 0", used)
		}
		if n := w.server.d.inFlight.Load(); n != 0 {
			t.Errorf("%d calls are in flight, want 0", n)
		}
	})
}

func TestTooManyQuestionsInAMessageEndTheSession(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		s := openSession(t, w)
		var calls []*weirv1.SessionCall
		for i := range uint64(maxCalls + 1) {
			calls = append(calls, reserveCallOf(i, call("acme", 1, 1)))
		}
		send(t, s, calls...)
		_, err := s.Recv()
		if status.Code(err) != codes.InvalidArgument {
			t.Fatalf("got %v, want INVALID_ARGUMENT", err)
		}
		if used := w.used("acme", "requests"); used != 0 {
			t.Errorf("%d requests are used, want 0", used)
		}
	})
}

func TestAnOldSessionIsEndedBetweenMessages(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		s := openSession(t, w)
		for range int(maxSessionAge/time.Minute) - 1 {
			send(t, s, reserveCallOf(1, call("acme", 1, 1)))
			wantVerdict(t, receive(t, s)[0].GetReserve(), weirv1.Verdict_VERDICT_ALLOW)
			time.Sleep(time.Minute)
		}
		_, err := s.Recv()
		if status.Code(err) != codes.Unavailable {
			t.Fatalf("got %v, want UNAVAILABLE", err)
		}
	})
}

func TestAnswersToManyMessagesMayComeInOneButAllComeInOrder(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *world) {
		s := openSession(t, w)
		const messages = 500
		for i := range uint64(messages) {
			send(t, s, &weirv1.SessionCall{Sequence: i, Call: &weirv1.SessionCall_Release{Release: &weirv1.ReleaseRequest{Reservation: "none"}}})
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		var got []uint64
		for {
			resp, err := s.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, sequences(resp.GetAnswers())...)
		}
		if len(got) != messages || !slices.IsSorted(got) {
			t.Errorf("%d answers for %d questions, in order: %v", len(got), messages, slices.IsSorted(got))
		}
	})
}
