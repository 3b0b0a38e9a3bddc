package memory

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-project/weir/limiter"
)

func learnedPlan(t testing.TB) *limiter.Plan {
	t.Helper()
	p, err := limiter.Compile(limiter.Spec{Quotas: []limiter.QuotaSpec{{Name: "q", Learn: true, Mode: limiter.HintLimits}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// saved returns a directory with a snapshot of a store that knows of two organisations.
func saved(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	p := learnedPlan(t)
	s := New(limiter.Options{})
	defer s.Close()
	for i, org := range []string{"acme", "zeta"} {
		a := &limiter.Ask{Open: true, ID: limiter.ID{0, byte(i + 1)}, Tenant: "chat"}
		p.MatchAttributes(a, "", -1, []limiter.Entry{{Key: "org", Value: org}}, limiter.Estimate{HasInput: true, InputTokens: 100})
		var d limiter.Decision
		if err := s.Decide(context.Background(), now(), a, &d); err != nil || d.Verdict != limiter.Allowed {
			t.Fatalf("%s %v", d.Verdict, err)
		}
		o := limiter.Outcome{Class: limiter.ClassOK, Usage: limiter.Usage{InputTokens: 300, OutputTokens: 7}, HasInput: true, HasOutput: true, Learn: true}
		if _, err := s.Report(context.Background(), now().Add(time.Second), limiter.Ref{ID: d.ID}, "", o); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // twice, so that there is one before
		if err := s.Save(dir); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSnapshotIsRestored(t *testing.T) {
	dir := saved(t)
	for _, name := range []string{dir, filepath.Join(dir, snapshotName)} {
		if st, err := os.Stat(name); err != nil || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others: %v %v", name, st.Mode(), err)
		}
	}
	p := learnedPlan(t)
	s := New(limiter.Options{})
	defer s.Close()
	if n, err := s.Load(dir, p); n != 2 || err != nil {
		t.Fatalf("restored %d, %v", n, err)
	}
	a := &limiter.Ask{DryRun: true, Tenant: "chat"}
	p.MatchAttributes(a, "", -1, []limiter.Entry{{Key: "org", Value: "acme"}}, limiter.Estimate{HasInput: true, InputTokens: 100})
	var d limiter.Decision
	if err := s.Decide(context.Background(), now(), a, &d); err != nil || d.Reserved.InputTokens <= 100 {
		t.Fatalf("what the tenant's estimates are worth was forgotten: %+v %v", d.Reserved, err)
	}
}

func TestSnapshotThatCannotBeReadIsPassedOver(t *testing.T) {
	for name, spoil := range map[string]func(b []byte) []byte{
		"torn":                     func(b []byte) []byte { return b[:len(b)/2] },
		"torn in its first line":   func(b []byte) []byte { return b[:9] },
		"empty":                    func([]byte) []byte { return nil },
		"a bit flipped":            func(b []byte) []byte { b[len(b)-9] ^= 4; return b },
		"longer":                   func(b []byte) []byte { return append(b, 'x') },
		"of a version to come":     func(b []byte) []byte { return []byte(strings.Replace(string(b), "learned 1", "learned 2", 1)) },
		"something else of theirs": func([]byte) []byte { return []byte("{\"a\": 1}\n") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := saved(t)
			file := filepath.Join(dir, snapshotName)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, spoil(b), 0o600); err != nil {
				t.Fatal(err)
			}
			s := New(limiter.Options{})
			defer s.Close()
			n, err := s.Load(dir, learnedPlan(t))
			if n != 2 || err == nil || !strings.Contains(err.Error(), file) {
				t.Fatalf("restored %d from the one before, %v", n, err)
			}
		})
	}
}

func TestNoSnapshotIsNoError(t *testing.T) {
	s := New(limiter.Options{})
	defer s.Close()
	if n, err := s.Load(filepath.Join(t.TempDir(), "none"), learnedPlan(t)); n != 0 || err != nil {
		t.Fatalf("%d %v", n, err)
	}
}

func TestSnapshotDoesNotFollowLinks(t *testing.T) {
	dir := saved(t)
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(dir, snapshotName+".new")); err != nil {
		t.Fatal(err)
	}
	s := New(limiter.Options{})
	defer s.Close()
	if err := s.Save(dir); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(victim); string(b) != "keep" {
		t.Fatalf("the link was followed: %q", b)
	}
}

func FuzzSnapshot(f *testing.F) {
	b, err := os.ReadFile(filepath.Join(saved(f), snapshotName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("weir-learned 1 00000000 0\n"))
	p := learnedPlan(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := parseSnapshot(b)
		if err != nil {
			return
		}
		s := New(limiter.Options{Shards: 1})
		defer s.Close()
		s.restore(doc.Quotas, p)
	})
}

// What was learned of a quota that the first plan does not have waits for one that has it,
// also over a further restart.
func TestWhatNoPlanHasYetIsKept(t *testing.T) {
	dir := t.TempDir()
	now := limiter.InstantOf(time.Now())
	clock := func() limiter.Instant { return now }
	plan := func(name string) *limiter.Plan {
		p, err := limiter.Compile(limiter.Spec{Quotas: []limiter.QuotaSpec{{Name: name, Learn: true}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	store := func() *Store {
		s := NewWithClock(limiter.Options{}, clock)
		t.Cleanup(s.Close)
		return s
	}
	granted, other := plan("granted"), plan("other")
	first := store()
	var a limiter.Ask
	a.Open, a.ID[8] = true, 1
	granted.MatchAttributes(&a, "", -1, []limiter.Entry{{Key: "org", Value: "acme"}}, limiter.Estimate{})
	var d limiter.Decision
	if err := first.Decide(t.Context(), now, &a, &d); err != nil || d.Verdict != limiter.Allowed {
		t.Fatal(d.Verdict, err)
	}
	o := limiter.Outcome{Class: limiter.ClassOK, Trusted: true}
	o.Headers[limiter.Requests] = limiter.HeaderState{Limit: 4321, Remaining: 4000, HasLimit: true, HasRemaining: true}
	if _, err := first.Report(t.Context(), now, limiter.Ref{ID: d.ID}, "", o); err != nil {
		t.Fatal(err)
	}
	if err := first.Save(dir); err != nil {
		t.Fatal(err)
	}
	second := store()
	if n, err := second.Load(dir, other); n != 0 || err != nil {
		t.Fatalf("%d restored under a plan without it, %v", n, err)
	}
	if err := second.Save(dir); err != nil {
		t.Fatal(err)
	}
	third := store()
	if n, err := third.Load(dir, other); n != 0 || err != nil {
		t.Fatalf("%d restored, %v", n, err)
	}
	if n := third.Resume(granted); n != 1 {
		t.Fatalf("%d taken up under a plan that has it", n)
	}
	if n := third.Resume(granted); n != 0 {
		t.Errorf("%d taken up again", n)
	}
	q, err := third.Quotas(t.Context(), now)
	if err != nil || len(q) != 1 || q[0].Paces[limiter.Requests].Rate != 4321 {
		t.Errorf("%+v, %v", q, err)
	}
}
