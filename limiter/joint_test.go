package limiter

import (
	"testing"
	"time"
)

// jointQuota is a learned quota of an upstream that counts tokens together.
func jointQuota(limits ...LimitSpec) QuotaSpec {
	limits = append(limits, LimitSpec{Meter: Requests, Amount: 60_000, Window: time.Minute})
	return QuotaSpec{Name: "q", Learn: true, JointTokens: true, Limits: limits}
}

// admit decides one call of so many input and output tokens.
func admit(p *Plan, l *Limiter, now Instant, id byte, in, out uint64) Decision {
	a := &Ask{Open: true, ID: ID{id}}
	p.MatchAttributes(a, "", -1, []Entry{{"org", "acme"}}, Estimate{Exact: true, Requests: 1, InputTokens: in, HasInput: true, MaxTokens: out, HasMax: true})
	return decide(l, now, a)
}

func mustCompile(t *testing.T, q QuotaSpec) *Plan {
	t.Helper()
	p, err := Compile(Spec{Quotas: []QuotaSpec{q}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// An upstream that has no limit of output tokens is not paced by one: a call that
// produces little more than it reads is not held up by the 8,000 a minute that an unknown
// limit of output starts from.
func TestJointTokensHaveNoPaceOfOutput(t *testing.T) {
	for joint, want := range map[bool]Verdict{true: Allowed, false: Denied} {
		q := jointQuota(LimitSpec{Meter: Tokens, Amount: 2_000_000, Window: time.Minute})
		q.JointTokens = joint
		p, l := mustCompile(t, q), New(Options{})
		for i := range byte(3) {
			d := admit(p, l, t0.Add(time.Duration(i)*2*time.Second), i+1, 1000, 1500)
			if i == 1 && d.Verdict != want {
				t.Errorf("joint %t: call %d: %s, want %s", joint, i, d.Verdict, want)
			}
		}
	}
}

// Input and output are charged to one pace, which is the configured limit of both.
func TestJointTokensArePacedTogether(t *testing.T) {
	p, l := mustCompile(t, jointQuota(LimitSpec{Meter: Tokens, Amount: 60_000, Window: time.Minute})), New(Options{Shards: 1})
	first := admit(p, l, t0, 1, 300, 600)
	if first.Verdict != Allowed {
		t.Fatalf("the first: %s", first.Verdict)
	}
	d := admit(p, l, t0, 2, 100, 500) // 900 of 1,000 in the first second: 500 too many
	if d.Verdict != Denied || d.RefusedBy < 0 || d.Checks[d.RefusedBy].Limit.Meter != Tokens {
		t.Fatalf("the second: %s by %d", d.Verdict, d.RefusedBy)
	}
	if wait := d.RetryAt.Sub(t0); wait < 250*time.Millisecond || wait > 510*time.Millisecond {
		t.Errorf("waits %s, want half a second or a little less", wait)
	}
	view := l.Quotas(t0, 0)[0]
	if got := view.Paces; len(got) != 2 || got[0].Meter != Requests || got[1].Meter != Tokens || got[1].Rate != 60_000 || got[1].Backlog != 900 {
		t.Errorf("paces %+v", got)
	}
	for _, k := range view.Checks {
		if k.Limit.Meter == InputTokens || k.Limit.Meter == OutputTokens {
			t.Errorf("there is a limit of %s", k.Limit.Meter)
		}
	}
	// What was not used is given back, of output as of input.
	l.Report(t0, first.ID, "", Outcome{Trusted: true, Class: ClassOK, Usage: Usage{Requests: 1, InputTokens: 200, OutputTokens: 100}, HasInput: true, HasOutput: true})
	if got := l.Quotas(t0, 0)[0].Paces[1].Backlog; got != 300 {
		t.Errorf("the backlog is %v after the report, want 300", got)
	}
}

// A refusal for tokens closes the pace that there is, whichever of them it names, and
// what headers say of tokens is its limit.
func TestJointTokensLearnFromAnswers(t *testing.T) {
	for _, named := range []Meter{InputTokens, OutputTokens} {
		p, l := mustCompile(t, jointQuota()), New(Options{Shards: 1})
		first := admit(p, l, t0, 1, 100, 100)
		o := Outcome{Trusted: true, Class: ClassQuota, Named: named, HasNamed: true, RetryAfter: 5 * time.Second, RefundInput: true, RefundOutput: true}
		o.Headers[InputTokens] = HeaderState{Limit: 120_000, HasLimit: true}
		l.Report(t0.Add(time.Second), first.ID, "", o)
		d := admit(p, l, t0.Add(2*time.Second), 2, 10, 10)
		if d.Verdict != Denied || d.Checks[d.RefusedBy].Limit.Meter != Tokens || d.RetryAt < t0.Add(5*time.Second) {
			t.Errorf("%s named: %s until +%s", named, d.Verdict, d.RetryAt.Sub(t0))
		}
		if rate := l.Quotas(t0.Add(2*time.Second), 0)[0].Paces[1].Rate; rate < 110_000 || rate > 120_000 {
			t.Errorf("%s named: %v tokens a minute, want about what the header says", named, rate)
		}
	}
}

// Who names a limit of output says that the upstream has one; one of input is kept as a
// limit beside the pace.
func TestJointTokensGiveWayToALimitOfOutput(t *testing.T) {
	meters := func(q QuotaSpec) (paced []Meter) {
		for _, l := range mustCompile(t, q).Limits() {
			if l.paced {
				paced = append(paced, l.Meter)
			}
		}
		return paced
	}
	for _, tc := range []struct {
		limit LimitSpec
		want  int
	}{
		{LimitSpec{Meter: OutputTokens, Amount: 5, Window: time.Minute}, 3},
		{LimitSpec{Meter: OutputTokens, Amount: 5, Window: time.Hour}, 2},
		{LimitSpec{Meter: InputTokens, Amount: 5, Window: time.Minute}, 2},
	} {
		if got := meters(jointQuota(tc.limit)); len(got) != tc.want {
			t.Errorf("with %s per %s: paces of %v, want %d", tc.limit.Meter, tc.limit.Window, got, tc.want)
		}
	}
}

// A quota whose tokens are counted together from now on starts anew: a pace of input is
// none of both.
func TestJointTokensAfterAReload(t *testing.T) {
	q := jointQuota()
	q.JointTokens = false
	before := mustCompile(t, q)
	l := New(Options{})
	first := admit(before, l, t0, 1, 300, 50)
	after, err := Compile(Spec{Quotas: []QuotaSpec{jointQuota()}}, before)
	if err != nil {
		t.Fatal(err)
	}
	if d := admit(after, l, t0.Add(time.Second), 2, 300, 300); d.Verdict != Allowed {
		t.Errorf("after the reload: %s", d.Verdict)
	}
	if s := l.Report(t0.Add(2*time.Second), first.ID, "", Outcome{Trusted: true, Class: ClassOK, Usage: Usage{Requests: 1, InputTokens: 300, OutputTokens: 50}, HasInput: true, HasOutput: true}); !s.Applied {
		t.Errorf("its report: %+v", s)
	}
}
