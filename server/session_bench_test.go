package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
	"github.com/weir-project/weir/store/memory"
)

// replay is a stream that sends Reserves and then the Reports for what was reserved,
// again and again, through the real codec.
type replay struct {
	grpc.ServerStream
	ctx      context.Context
	reserves []byte
	reports  []byte
	left     int
}

func (r *replay) Context() context.Context { return r.ctx }

func (r *replay) RecvMsg(m any) error {
	if r.left == 0 {
		return io.EOF
	}
	r.left--
	message := r.reserves
	if r.left%2 == 0 {
		message = r.reports
	}
	return codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(message)}, m)
}

// SendMsg turns answers into reports: the reservation's text stands at a fixed place
// of a report, and begins with its tag and length in an answer.
func (r *replay) SendMsg(m any) error {
	b, err := codec{}.Marshal(m)
	if err != nil || r.left%2 == 0 {
		b.Free()
		return err
	}
	at := 0
	answer := b.Materialize()
	for {
		i := bytes.Index(answer, []byte{2<<3 | 2, idLen})
		if i < 0 {
			break
		}
		j := bytes.Index(r.reports[at:], []byte{1<<3 | 2, idLen})
		at += j + 2
		copy(r.reports[at:], answer[i+2:i+2+idLen])
		answer = answer[i+2+idLen:]
	}
	b.Free()
	return nil
}

// BenchmarkSession is a session without its transport: reading, deciding three limits
// or settling them, and answering. The time is that of two messages, one of Reserves
// and one of Reports.
func BenchmarkSession(b *testing.B) {
	spec := opus()
	for i := range spec.Quotas[0].Limits {
		spec.Quotas[0].Limits[i].Amount = limiter.MaxAmount
	}
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprintf("calls=%d", n), func(b *testing.B) {
			store := memory.New(limiter.Options{})
			defer store.Close()
			d := newDecider(store, loaded(b, spec, "aaaaaaaaaaaa", nil), newMetrics("test"), slog.Default(), 1000)
			reserves, reports, used := &weirv1.SessionRequest{}, &weirv1.SessionRequest{}, uint64(50)
			for i := range n {
				reserves.Calls = append(reserves.Calls, reserveCallOf(uint64(i), call("acme", 600, 100)))
				reports.Calls = append(reports.Calls, &weirv1.SessionCall{Sequence: uint64(i), Call: &weirv1.SessionCall_Report{
					Report: &weirv1.ReportRequest{
						Reservation: strings.Repeat("x", idLen), HttpStatus: 200,
						Usage: &weirv1.ReportedUsage{InputTokens: &used, OutputTokens: &used},
					},
				}})
			}
			stream := &replay{ctx: b.Context(), left: 2 * b.N}
			var err error
			if stream.reserves, err = proto.Marshal(reserves); err != nil {
				b.Fatal(err)
			}
			if stream.reports, err = proto.Marshal(reports); err != nil {
				b.Fatal(err)
			}
			q := &quotaService{d: d, cut: b.Context()}
			b.ReportAllocs()
			b.ResetTimer()
			sn := &session{q: q, stream: stream}
			if err := sn.receive(); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if st, _ := store.Stats(b.Context()); st.Open > n {
				b.Fatalf("%d reservations are open, want that they were reported", st.Open)
			}
		})
	}
}
