// Package workload chooses what is asked: which kind of request, for which of many
// keys, in which order.
package workload

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/weir-project/weir/bench/internal/messages"
)

// Spec says what to ask.
type Spec struct {
	// Kind is "one" (a descriptor of three entries), "four" (four descriptors) or
	// "llm" (an ask in the compact form and, a little later, its report, each a
	// call of its own).
	Kind string
	// Keys is the number of users that one and four ask for; 0 means 1.
	Keys int
	// Order is "uniform", "zipf" (exponent 1.01), or "each", which names every
	// key once and then begins again.
	Order string
}

// picks is how many draws are made beforehand; then they repeat.
const picks = 1 << 20

// zipfExponent makes few keys hot and leaves a long tail: of a million keys the
// most frequent one gets about 7 % of the draws.
const zipfExponent = 1.01

// New returns, for each connection, what appends the next call's body to a slice.
func New(s Spec) (func(conn int) func([]byte) []byte, error) {
	switch s.Kind {
	case "one":
		return keyed(messages.One(messages.User(0)), s)
	case "four":
		return keyed(messages.Four(messages.User(0)), s)
	case "llm":
		return llm()
	}
	return nil, fmt.Errorf("workload %q: want one, four or llm", s.Kind)
}

// keyed asks for one user after another, by writing each user's number into an
// encoded request.
func keyed(m proto.Message, s Spec) (func(int) func([]byte) []byte, error) {
	frame, err := messages.Frame(m)
	if err != nil {
		return nil, err
	}
	at := bytes.Index(frame, []byte(messages.User(0)))
	pick, err := order(s)
	if err != nil {
		return nil, err
	}
	return func(conn int) func([]byte) []byte {
		pick := pick(conn)
		return func(b []byte) []byte {
			b = append(b, frame...)
			putNumber(b[at:at+messages.UserWidth], pick())
			return b
		}
	}, nil
}

// putNumber writes n, in decimal, over the last digits of name.
func putNumber(name []byte, n uint32) {
	for i := len(name) - 1; n > 0; i-- {
		name[i] = byte('0' + n%10)
		n /= 10
	}
}

// order returns, for each connection, what draws the next key.
func order(s Spec) (func(conn int) func() uint32, error) {
	keys := uint32(max(s.Keys, 1))
	switch s.Order {
	case "each":
		var next atomic.Uint32
		return func(int) func() uint32 {
			return func() uint32 { return (next.Add(1) - 1) % keys }
		}, nil
	case "", "uniform":
		return drawn(func(r *rand.Rand) uint32 { return r.Uint32N(keys) }), nil
	case "zipf":
		z := rand.NewZipf(rand.New(rand.NewPCG(3, 4)), zipfExponent, 1, uint64(keys-1))
		return drawn(func(*rand.Rand) uint32 { return uint32(z.Uint64()) }), nil
	}
	return nil, fmt.Errorf("order %q: want each, uniform or zipf", s.Order)
}

// drawn makes the draws once; each connection begins elsewhere among them.
func drawn(draw func(*rand.Rand) uint32) func(conn int) func() uint32 {
	r := rand.New(rand.NewPCG(1, 2))
	list := make([]uint32, picks)
	for i := range list {
		list[i] = draw(r)
	}
	return func(conn int) func() uint32 {
		i := conn * (picks / 64)
		return func() uint32 {
			i++
			return list[i%picks]
		}
	}
}

// reportLag is how many asks of a connection lie between an ask and its report.
const reportLag = 128

// llm alternates asks and reports.
func llm() (func(int) func([]byte) []byte, error) {
	const id = "00000000-0000-4000-8000-000000000000"
	ask, err := messages.Frame(messages.Ask(id))
	if err != nil {
		return nil, err
	}
	report, err := messages.Frame(messages.Report(id))
	if err != nil {
		return nil, err
	}
	name := func(b, frame []byte, conn int, n uint64) []byte {
		start := len(b) + bytes.Index(frame, []byte(id))
		b = append(b, frame...)
		copy(b[start:], fmt.Appendf(nil, "%08x", conn))
		digits := strconv.AppendUint(nil, n, 10)
		copy(b[start+len(id)-len(digits):], digits)
		return b
	}
	return func(conn int) func([]byte) []byte {
		var asked, reported uint64
		return func(b []byte) []byte {
			if asked >= reported+reportLag {
				reported++
				return name(b, report, conn, reported)
			}
			asked++
			return name(b, ask, conn, asked)
		}
	}, nil
}
