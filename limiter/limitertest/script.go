package limitertest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/limiter"
)

// timeline is a test as data: what is asked when, and the answer.
type timeline struct {
	name string
	spec limiter.Spec
	opts limiter.Options
	// beyond says that the model does not know what is tested here.
	beyond bool
	// align is the window at the beginning of whose bucket the timeline starts; 0
	// means that of the first limit.
	align time.Duration
	steps []step
}

// step is one call and its answer. Instants are durations since the timeline's
// start, which is the beginning of a bucket of the first limit.
//
//	ask k=a 5                    hits on a descriptor of the domain "d"
//	ask k=a/j=b 5, k=c 1         two descriptors; the first has two entries
//	ask k=a 5 max=10/1m          with an override
//	ask k=a !5                   with hits that who asks stated
//	ask org:acme in=10 out=5     attributes and an exact estimate of one request
//	look, force, refund          instead of ask: dry run, spent already, given back
//	each                         instead of ask: one by one
//	ask +soft k=a 5              all limits are soft; +spare: and something else has room
//	open #1 …                    an ask with a reservation; its amounts are what is
//	                             expected, not what was used, if +estimated
//	report #1 in=10 out=5        what is not named is not known; with +refund it is
//	                             given back, with +floor the output is a lower
//	                             bound, with +progress the call goes on
//	release #1; renew #1 5m
//	zero k=a                     forgets the counter
//
// Words that begin with @ set tenant, rid (request id), idem (idempotency key) and
// ttl. An answer is the verdict, and the limits: used/amount, with the instant at
// which the limit is unused again, and whatever else there is to say.
type step struct {
	at   string
	do   string
	want string
}

// newYear is about when timelines begin: 2026-01-01T00:00:00Z.
const newYear = limiter.Instant(1767225600 * int64(time.Second))

// beginning returns the instant at which tl starts.
func (tl *timeline) beginning() limiter.Instant {
	length := tl.align
	switch {
	case length != 0:
	case len(tl.spec.Domains) > 0:
		length = tl.spec.Domains[0].Rules[0].Limits[0].Window
	default:
		length = tl.spec.Quotas[0].Limits[0].Window
	}
	w := newWindow(length)
	if len(tl.spec.Domains) > 0 && tl.spec.Domains[0].Fixed && tl.align == 0 {
		w = windowOf(tl.spec.Domains[0].Rules[0].Limits[0])
	}
	return limiter.Instant((w.bucket(int64(newYear)-1) + 1) * w.width)
}

// player plays the steps of a timeline.
type player struct {
	*World
	start limiter.Instant
}

// run plays the timeline against a new store and compares each answer.
func run(t *testing.T, factory Factory, tl timeline) {
	p := player{NewWorld(t, t, factory, tl.opts, tl.spec), tl.beginning()}
	p.Beyond = tl.beyond
	for i, s := range tl.steps {
		t.Logf("%-8s %s", s.at, s.do)
		if got := p.play(s); got != s.want {
			t.Fatalf("step %d: at %s, %s:\n got %s\nwant %s", i, s.at, s.do, got, s.want)
		}
	}
}

// play makes the call of one step and renders the answer.
func (p *player) play(s step) string {
	p.t.Helper()
	now := p.start.Add(duration(p.t, s.at))
	verb, rest, _ := strings.Cut(s.do, " ")
	r := request(p.t, verb, rest)
	switch verb {
	case "ask", "each", "look", "force", "refund", "open":
		return p.decision(p.Decide(now, r))
	case "report":
		return p.settlement(p.Report(now, r.ID, r.Tenant, r.Outcome))
	case "release":
		return p.settlement(p.Release(now, r.ID, r.Tenant))
	case "renew":
		return p.settlement(p.Renew(now, r.ID, r.Tenant, r.TTL))
	case "zero":
		return fmt.Sprint(p.Zero(now, r))
	}
	p.t.Fatalf("unknown step %q", s.do)
	return ""
}

// duration parses a duration, which may also be in days and less than a nanosecond
// before or after one: "1m-1ns".
func duration(t failer, text string) time.Duration {
	t.Helper()
	var sum time.Duration
	for part := range strings.FieldsSeq(strings.ReplaceAll(strings.ReplaceAll(text, "+", " "), "-", " -")) {
		if days, ok := strings.CutSuffix(part, "d"); ok {
			n, err := strconv.Atoi(days)
			if err != nil {
				t.Fatalf("bad duration %q", text)
			}
			sum += time.Duration(n) * 24 * time.Hour
			continue
		}
		d, err := time.ParseDuration(part)
		if err != nil {
			t.Fatalf("bad duration %q: %v", text, err)
		}
		sum += d
	}
	return sum
}

// request parses what comes after the verb of a step.
func request(t failer, verb, text string) Request {
	t.Helper()
	r := Request{Open: verb == "open", Force: verb == "force", DryRun: verb == "look", OneByOne: verb == "each"}
	for item := range strings.SplitSeq(text, ",") {
		for word := range strings.FieldsSeq(item) {
			parseWord(t, &r, word)
		}
		if verb == "refund" {
			r.Descriptors[len(r.Descriptors)-1].Hits.Refund = true
		}
	}
	if r.Attributes != nil {
		r.Use.Requests = 1
	}
	return r
}

func parseWord(t failer, r *Request, word string) {
	t.Helper()
	key, value, pair := strings.Cut(word, "=")
	switch {
	case strings.HasPrefix(word, "#"):
		r.ID = idOf(int(number(t, word[1:])))
	case strings.HasPrefix(word, "@") || key == "max" || key == "in" || key == "out" || key[0] == '+' || key[0] == '-':
		parseOption(t, r, key, value)
	case word[0] == '!':
		h := &r.Descriptors[len(r.Descriptors)-1].Hits
		h.Amount, h.Stated = number(t, word[1:]), true
	case strings.Contains(word, ":"):
		for a := range strings.SplitSeq(word, "+") {
			k, v, _ := strings.Cut(a, ":")
			r.Attributes = append(r.Attributes, limiter.Entry{Key: k, Value: v})
		}
	case pair:
		d := Descriptor{Domain: "d", Hits: limiter.Hits{Amount: 1}}
		for e := range strings.SplitSeq(word, "/") {
			k, v, _ := strings.Cut(e, "=")
			d.Entries = append(d.Entries, limiter.Entry{Key: k, Value: v})
		}
		r.Descriptors = append(r.Descriptors, d)
	case len(r.Descriptors) > 0:
		r.Descriptors[len(r.Descriptors)-1].Hits.Amount = number(t, word)
	default:
		r.TTL = duration(t, word)
	}
}

func parseOption(t failer, r *Request, key, value string) {
	t.Helper()
	switch key {
	case "@tenant":
		r.Tenant = value
	case "@rid":
		r.RequestID = value
	case "@idem":
		r.IdempotencyKey = value
	case "@ttl":
		r.TTL = duration(t, value)
	case "in":
		r.Use.InputTokens = number(t, value)
		r.Outcome.Usage.InputTokens, r.Outcome.HasInput = r.Use.InputTokens, true
	case "out":
		r.Use.OutputTokens = number(t, value)
		r.Outcome.Usage.OutputTokens, r.Outcome.HasOutput = r.Use.OutputTokens, true
	case "-refund":
		r.Descriptors[len(r.Descriptors)-1].Hits.Refund = true
	case "+soft":
		r.Soft = true
	case "+spare":
		r.Soft, r.Spare = true, true
	case "+floor":
		r.Outcome.OutputFloor = true
	case "+progress":
		r.Outcome.Progress = true
	case "+estimated":
		r.Estimated = true
	case "+refund":
		r.Outcome.RefundRequests, r.Outcome.RefundInput, r.Outcome.RefundOutput = true, true, true
	case "max":
		amount, window, _ := strings.Cut(value, "/")
		r.Descriptors[len(r.Descriptors)-1].Hits.Override = limiter.Override{
			Amount: number(t, amount), Window: duration(t, window),
		}
	default:
		t.Fatalf("unknown option %q", key)
	}
}

// number parses an amount; 2^53 is written as such.
func number(t failer, text string) uint64 {
	t.Helper()
	if exp, ok := strings.CutPrefix(text, "2^"); ok {
		exp, less, _ := strings.Cut(exp, "-")
		n := uint64(1) << number(t, exp) // 0 if 2^64
		if less != "" {
			n -= number(t, less)
		}
		return n
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("bad number %q", text)
	}
	return n
}

// since renders an instant as the duration since the start.
func (p *player) since(at limiter.Instant) string {
	switch at {
	case limiter.Never:
		return "never"
	case TooFar:
		return "too far"
	}
	return durationText(at.Sub(p.start))
}

func durationText(d time.Duration) string {
	days := ""
	if n := d / (24 * time.Hour); n > 1 {
		if d %= 24 * time.Hour; d == 0 {
			return fmt.Sprintf("%dd", n)
		}
		days = fmt.Sprintf("%dd+", n)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return days + text
}

func (p *player) decision(d limiter.Decision) string {
	var b strings.Builder
	b.WriteString(d.Verdict.String())
	if d.Replayed {
		b.WriteString(" replayed")
	}
	if d.RefusedBy > 0 {
		fmt.Fprintf(&b, " by=%d", d.RefusedBy)
	}
	if d.Verdict != limiter.Allowed {
		b.WriteString(" retry=" + p.since(d.RetryAt))
	}
	if d.Opened && d.ExpiresAt != 0 {
		b.WriteString(" until=" + p.since(d.ExpiresAt))
	}
	for _, c := range d.Checks {
		b.WriteString(" | " + p.check(&c, d.RefusedBy >= 0))
	}
	return b.String()
}

func (p *player) check(c *limiter.Check, refused bool) string {
	text := fmt.Sprintf("%d/%d", c.Used, c.Amount)
	if c.Remaining != c.Amount-min(c.Used, c.Amount) {
		text += fmt.Sprintf(" left=%d", c.Remaining)
	}
	if c.Used > 0 {
		text += " reset=" + p.since(c.ResetAt)
	}
	if c.Over && !refused {
		text += " over"
	}
	if c.Spent {
		text += " spent"
	}
	if c.Overflow {
		text += " overflow"
	}
	return text
}

func (p *player) settlement(s limiter.Settlement) string {
	text := s.Ending.String()
	if s.Ending == limiter.Unknown {
		return text
	}
	text += fmt.Sprintf(" req=%d in=%d out=%d", s.Charged.Requests, s.Charged.InputTokens, s.Charged.OutputTokens)
	if s.ExpiresAt != 0 {
		text += " until=" + p.since(s.ExpiresAt)
	}
	if !s.Applied {
		text += " unchanged"
	}
	return text
}

// used renders a limit as a player does.
func used(units, amount int, reset time.Duration) string {
	return fmt.Sprintf("%d/%d reset=%s", units, amount, durationText(reset))
}
