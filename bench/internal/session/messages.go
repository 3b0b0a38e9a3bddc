package session

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// Field numbers of weir.v1, which is read and written here without its generated
// code: the client must be cheaper than the server.
const (
	fieldCalls    = 1 // SessionRequest, and answers of SessionResponse
	fieldSequence = 1 // SessionCall and SessionAnswer
	fieldReserve  = 2 // SessionCall and SessionAnswer
	fieldReport   = 3 // SessionCall and SessionAnswer
	fieldError    = 6 // SessionAnswer
	fieldVerdict  = 1 // ReserveResponse
	fieldName     = 2 // ReserveResponse: the reservation
	fieldNamed    = 1 // ReportRequest: the reservation
)

// encoder makes messages out of encoded parts.
type encoder struct {
	reserve, reportTail []byte
	sequence            uint64
	scratch             []byte
}

func newEncoder() (*encoder, error) {
	reserve, err := proto.Marshal(&weirv1.ReserveRequest{
		Attributes: map[string]string{"org": "acme", "tenant": "chat", "model": "claude-lab-1"},
		Estimate:   &weirv1.Estimate{InputTokens: proto.Uint64(1000), MaxTokens: proto.Uint64(2048)},
		Ttl:        durationpb.New(ttl),
	})
	if err != nil {
		return nil, err
	}
	tail, err := proto.Marshal(&weirv1.ReportRequest{
		HttpStatus: 200,
		Usage:      &weirv1.ReportedUsage{InputTokens: proto.Uint64(925), OutputTokens: proto.Uint64(342)},
	})
	return &encoder{reserve: reserve, reportTail: tail}, err
}

// message encodes n calls: a report for each reservation at hand if reports are
// wanted, and else reserves. It returns the message and what is left of open.
func (e *encoder) message(n int, open []string) ([]byte, []string) {
	var b []byte
	for range n {
		e.sequence++
		call := protowire.AppendTag(e.scratch[:0], fieldSequence, protowire.VarintType)
		call = protowire.AppendVarint(call, e.sequence)
		if len(open) > 0 {
			name := open[0]
			open = open[1:]
			call = protowire.AppendTag(call, fieldReport, protowire.BytesType)
			call = protowire.AppendVarint(call, uint64(protowire.SizeTag(fieldNamed)+protowire.SizeBytes(len(name))+len(e.reportTail)))
			call = protowire.AppendTag(call, fieldNamed, protowire.BytesType)
			call = protowire.AppendString(call, name)
			call = append(call, e.reportTail...)
		} else {
			call = protowire.AppendTag(call, fieldReserve, protowire.BytesType)
			call = protowire.AppendBytes(call, e.reserve)
		}
		b = protowire.AppendTag(b, fieldCalls, protowire.BytesType)
		b = protowire.AppendBytes(b, call)
		e.scratch = call
	}
	return b, open
}

// fields calls f for each field of an encoded message.
func fields(b []byte, f func(num protowire.Number, varint uint64, bytes []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		var v uint64
		var sub []byte
		var m int
		switch typ {
		case protowire.VarintType:
			v, m = protowire.ConsumeVarint(b[n:])
		case protowire.BytesType:
			sub, m = protowire.ConsumeBytes(b[n:])
		case protowire.Fixed32Type, protowire.Fixed64Type, protowire.StartGroupType, protowire.EndGroupType:
			m = protowire.ConsumeFieldValue(num, typ, b[n:])
		}
		if m < 0 {
			return protowire.ParseError(m)
		}
		if err := f(num, v, sub); err != nil {
			return err
		}
		b = b[n+m:]
	}
	return nil
}

// answers reads a SessionResponse: it adds to the tally, and appends the
// reservations to open.
func (t *Tally) answers(b []byte, open []string) ([]string, error) {
	err := fields(b, func(num protowire.Number, _ uint64, answer []byte) error {
		if num != fieldCalls {
			return fmt.Errorf("a session response has an unknown field %d", num)
		}
		return fields(answer, func(num protowire.Number, _ uint64, body []byte) error {
			switch int(num) {
			case fieldReserve:
				name, err := t.reserved(body)
				if name != "" {
					open = append(open, name)
				}
				return err
			case fieldReport:
				t.Reports++
			case fieldError:
				t.Errors++
			}
			return nil
		})
	})
	return open, err
}

// reserved reads a ReserveResponse.
func (t *Tally) reserved(b []byte) (name string, err error) {
	t.Reserves++
	err = fields(b, func(num protowire.Number, v uint64, bytes []byte) error {
		switch int(num) {
		case fieldVerdict:
			if v == uint64(weirv1.Verdict_VERDICT_ALLOW) {
				t.Allowed++
			}
		case fieldName:
			name = string(bytes)
		}
		return nil
	})
	return name, err
}
