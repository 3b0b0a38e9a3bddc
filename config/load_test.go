package config_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
)

// write writes files, given as name, text, name, text and so on, into the working
// directory.
func write(t *testing.T, files ...string) {
	t.Helper()
	for i := 0; i < len(files); i += 2 {
		if err := os.MkdirAll(filepath.Dir(files[i]), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(files[i], []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// mustLoad loads paths, which are valid.
func mustLoad(t *testing.T, paths ...string) *config.Loaded {
	t.Helper()
	l, err := config.Load(paths, nil)
	if err != nil {
		t.Fatalf("Load(%q): %v", paths, err)
	}
	if l.Plan == nil {
		t.Fatalf("Load(%q): no plan", paths)
	}
	return l
}

func TestBuiltinPlan(t *testing.T) {
	l := mustLoad(t)
	want := limiter.Spec{Quotas: []limiter.QuotaSpec{{
		Name:     "anthropic",
		Provider: "anthropic",
		Per:      []string{"org", "model_class"},
		Learn:    true,
		Mode:     limiter.HintLimits,

		CacheReadModels: []string{"*claude-3-haiku*", "*claude-3-5-haiku*"},
	}}}
	if diff := cmp.Diff(want, l.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(config.DefaultVocabulary(), l.Vocabulary); diff != "" {
		t.Errorf("vocabulary (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{config.Builtin}, l.Sources); diff != "" || l.Quotas != 1 || l.Rules != 0 {
		t.Errorf("got sources %q, %d quotas, %d rules", l.Sources, l.Quotas, l.Rules)
	}
	if len(l.Digest) != 12 || strings.Trim(l.Digest, "0123456789abcdef") != "" {
		t.Errorf("digest %q, want 12 hex digits", l.Digest)
	}
}

func TestStarterLoads(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "weir.yaml", string(config.Starter()))
	l := mustLoad(t, "weir.yaml")
	if l.Quotas != 1 || l.Rules != 1 {
		t.Errorf("got %d quotas and %d rules, want 1 and 1", l.Quotas, l.Rules)
	}
	builtin := mustLoad(t)
	if diff := cmp.Diff(builtin.Spec.Quotas, l.Spec.Quotas); diff != "" {
		t.Errorf("the starter's quotas are not the built-in ones (-builtin +starter):\n%s", diff)
	}
	// What is commented out must load too, once somebody takes the marks away.
	text := strings.Replace(string(config.Starter()), "\n#\n# - name: opus", "\n- name: opus", 1)
	for _, line := range []string{"provider", "match", "per", "hold", "limits", "  requests_per", "  input_tokens", "  output_tokens"} {
		text = strings.Replace(text, "\n#   "+line, "\n  "+line, 1)
	}
	write(t, "weir.yaml", text)
	if l := mustLoad(t, "weir.yaml"); l.Quotas != 2 {
		t.Errorf("got %d quotas with the example in use, want 2", l.Quotas)
	}
}

const everything = `
quotas:
- name: opus
  provider: anthropic
  match: {org: acme, model: "claude-opus-4-*"}
  per: [org, workspace]
  limits: {requests_per_minute: 4000, input_tokens_per_minute: 9007199254740992, tokens_per_day: 0}
  control: fixed
  hold: 1m30s
- name: gpt
  provider: azure
  per: []
  limits: {tokens_per_second: 5}
  control: fixed
- name: titan
  provider: bedrock
  control: fixed
  limits: {output_tokens_per_hour: 5}
  output_accounting: produced
  counts_cache_reads: true
- name: other
  limits: {requests_per_day: 7}
  counts_cache_reads: false
- name: found-out
  provider: anthropic
- name: shared
  control: learn
  limit_mode: hint
  limits: {requests_per_minute: 50}
  tenants:
    default: {weight: 2, priority: default, ceiling: 12.5%}
    named:
      chat: {weight: 4, floor: 0.25}
      nightly: {priority: batch, floor: 10%, ceiling: 50%}
      plain:
rules:
- name: per-user
  domain: edge
  match: [{key: user}]
  limits:
  - {meter: requests, amount: 100, per: 1m, name: minutely}
  - {amount: 2000, per: 1d}
- domain: edge
  match: [{key: user, value: root}]
  unlimited: true
- domain: llm
  match: [{key: tenant, value: "team-*", share_values: true}]
  limits: [{meter: tokens, amount: 7, per: 500ms}]
- domain: edge
  match: [{key: user}, {key: path, value: 5}]
  limits: [{amount: 1, per: 1.5s}]
  shadow: true
`

// TestSpec: everything that can be said arrives.
func TestSpec(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "weir.yaml", everything)
	l := mustLoad(t, "weir.yaml")
	haikus := []string{"*claude-3-haiku*", "*claude-3-5-haiku*"}
	want := limiter.Spec{
		Quotas: []limiter.QuotaSpec{
			{
				Name: "opus", Provider: "anthropic", Per: []string{"org", "workspace"}, Hold: 90 * time.Second, CacheReadModels: haikus,
				Match: []limiter.AttributePattern{{Key: "model", Pattern: "claude-opus-4-*"}, {Key: "org", Pattern: "acme"}},
				Limits: []limiter.LimitSpec{
					{Meter: limiter.Requests, Amount: 4000, Window: time.Minute},
					{Meter: limiter.InputTokens, Amount: limiter.MaxAmount, Window: time.Minute},
					{Meter: limiter.Tokens, Amount: 0, Window: 24 * time.Hour},
				},
			},
			{
				Name: "gpt", Provider: "azure", Per: []string{}, ReservesMaxTokens: true, JointTokens: true, CountsCacheReads: true,
				Limits: []limiter.LimitSpec{{Meter: limiter.Tokens, Amount: 5, Window: time.Second}},
			},
			{
				Name: "titan", Provider: "bedrock", Per: []string{"org"}, CountsCacheReads: true, JointTokens: true,
				Limits: []limiter.LimitSpec{{Meter: limiter.OutputTokens, Amount: 5, Window: time.Hour}},
			},
			{
				Name: "other", Provider: "generic", Per: []string{"org"},
				Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: 7, Window: 24 * time.Hour}},
			},
			{Name: "found-out", Provider: "anthropic", Per: []string{"org"}, Learn: true, CacheReadModels: haikus},
			{
				Name: "shared", Provider: "generic", Per: []string{"org"}, CountsCacheReads: true,
				Learn: true, Mode: limiter.HintLimits,
				Limits:        []limiter.LimitSpec{{Meter: limiter.Requests, Amount: 50, Window: time.Minute}},
				DefaultTenant: limiter.TenantSpec{Weight: 2, Priority: limiter.Standard, Ceiling: 0.125},
				Tenants: map[string]limiter.TenantSpec{
					"chat":    {Weight: 4, Priority: limiter.Interactive, Floor: 0.25},
					"nightly": {Weight: 1, Priority: limiter.Batch, Floor: 0.1, Ceiling: 0.5},
					"plain":   {Weight: 1, Priority: limiter.Interactive},
				},
			},
		},
		Domains: []limiter.DomainSpec{
			{Name: "edge", Rules: []limiter.RuleSpec{
				{
					Name: "per-user", Key: "user",
					Limits: []limiter.LimitSpec{
						{Name: "minutely", Meter: limiter.Requests, Amount: 100, Window: time.Minute},
						{Meter: limiter.Requests, Amount: 2000, Window: 24 * time.Hour},
					},
					Rules: []limiter.RuleSpec{{
						Key: "path", Value: "5", Shadow: true,
						Limits: []limiter.LimitSpec{{Meter: limiter.Requests, Amount: 1, Window: 1500 * time.Millisecond}},
					}},
				},
				{Key: "user", Value: "root", Unlimited: true},
			}},
			{Name: "llm", Rules: []limiter.RuleSpec{{
				Key: "tenant", Value: "team-*", ShareValues: true,
				Limits: []limiter.LimitSpec{{Meter: limiter.Tokens, Amount: 7, Window: 500 * time.Millisecond}},
			}}},
		},
	}
	if diff := cmp.Diff(want, l.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if l.Quotas != 6 || l.Rules != 4 {
		t.Errorf("got %d quotas and %d rules, want 6 and 4", l.Quotas, l.Rules)
	}
}

// TestVocabulary: names are changed one by one, and decide which domains may count
// tokens.
func TestVocabulary(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "a.yaml", `
rules:
- {domain: ai, match: [{key: tenant}], limits: [{meter: input_tokens, amount: 1, per: 1m}]}
`, "b.yaml", `
llm:
  domains: [ai, ml]
  keys: {org: x-org, meter: unit, phase: step}
  metadata_namespaces: [mine]
`)
	want := config.DefaultVocabulary()
	want.Domains = []string{"ai", "ml"}
	want.Org, want.Meter, want.Phase = "x-org", "unit", "step"
	want.MetadataNamespaces = []string{"mine"}
	l := mustLoad(t, ".")
	if diff := cmp.Diff(want, l.Vocabulary); diff != "" {
		t.Errorf("vocabulary (-want +got):\n%s", diff)
	}
	if !l.Vocabulary.IsLLM("ml") || l.Vocabulary.IsLLM("llm") {
		t.Error("want ml to be an LLM domain, and llm none any more")
	}
}

// TestDigest: it is over what decides, not over how it is written.
func TestDigest(t *testing.T) {
	t.Chdir(t.TempDir())
	const text = "quotas:\n- name: a\n  limits: {requests_per_minute: 5}\n"
	load := func(text string) string {
		write(t, "weir.yaml", text)
		return mustLoad(t, "weir.yaml").Digest
	}
	first := load(text)
	for name, same := range map[string]string{
		"comment": "# hello\n" + text,
		"default": text + "  per: [org]\n  control: fixed\n",
		"layout":  "quotas: [{name: a, limits: {requests_per_minute: 5}}]",
		"names":   text + "llm: {domains: [llm], keys: {org: org}}\n",
	} {
		if got := load(same); got != first {
			t.Errorf("%s: digest %s, want %s as before", name, got, first)
		}
	}
	for name, other := range map[string]string{
		"amount": strings.Replace(text, "5", "6", 1),
		"name":   strings.Replace(text, "name: a", "name: b", 1),
		"hold":   text + "  hold: 1s\n",
		"per":    text + "  per: []\n",
		"names":  text + "llm: {keys: {org: team}}\n",
	} {
		if load(other) == first {
			t.Errorf("%s: the same digest, want another", name)
		}
	}
}

// TestSourcesOfADirectory: which files of a directory are read, and in which order.
func TestSourcesOfADirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	const quota = "quotas: [{name: %s, limits: {requests_per_minute: 1}}]\n"
	write(t,
		"d/b.yaml", fmt.Sprintf(quota, "b"),
		"d/a.yml", fmt.Sprintf(quota, "a"),
		"d/c/c.yaml", "domain: edge\n",
		"d/.hidden.yaml", "broken: [",
		"d/..data/x.yaml", "broken: [",
		"d/README.md", "broken: [",
		"elsewhere/e.yaml", fmt.Sprintf(quota, "e"),
		"single.conf", fmt.Sprintf(quota, "s"),
	)
	for link, to := range map[string]string{"d/loop": "../d", "d/e": "../elsewhere", "d/dangling": "nowhere"} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	l := mustLoad(t, "d", "single.conf", "./d/b.yaml")
	want := []string{"d/a.yml", "d/b.yaml", "d/c/c.yaml", "d/e/e.yaml", "single.conf"}
	if diff := cmp.Diff(want, l.Sources); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
}

// TestUnreadable: what the file system can do wrong.
func TestUnreadable(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t,
		"latin1.yaml", "quotas:\n- name: caf\xe9\n",
		"utf16.yaml", "\xff\xfeq\x00u\x00",
		"large.yaml", "#"+strings.Repeat("x", config.MaxFileBytes),
		"full.yaml", "domain: edge #"+strings.Repeat("x", config.MaxFileBytes-14),
	)
	if err := syscall.Mkfifo("pipe.yaml", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("itself.yaml", "itself.yaml"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"latin1.yaml": "latin1.yaml:2:12: byte 0xe9 is not UTF-8, expected a text file in UTF-8\n    2 | - name: caf\n      |            ^",
		"utf16.yaml":  "utf16.yaml:1:1: byte 0xff is not UTF-8, expected a text file in UTF-8\n    1 |   q u\n      | ^",
		"large.yaml":  "large.yaml: too large, expected at most 1048576 bytes; split it into several files of one directory",
		"pipe.yaml":   "pipe.yaml: not a regular file, expected a YAML file or a directory of them",
		"itself.yaml": "itself.yaml: cannot be read: too many levels of symbolic links",
		"/dev/zero":   "/dev/zero: not a regular file, expected a YAML file or a directory of them",
	} {
		_, err := config.Load([]string{path}, nil)
		if err == nil || err.Error() != want {
			t.Errorf("%s: got error\n%v\nwant\n%s", path, err, want)
		}
	}
	mustLoad(t, "full.yaml")
}

// asNobody runs the test in a process of a user who is not root.
func asNobody(t *testing.T) {
	t.Helper()
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "weir-nobody-") //nolint:usetesting // what TempDir is in is root's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const nobody = 65534
	if err := os.WriteFile(filepath.Join(dir, "test"), binary, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "test"), "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestPermission: a file that may not be read.
func TestPermission(t *testing.T) {
	if os.Geteuid() == 0 { // who may read everything: somebody else looks
		asNobody(t)
		return
	}
	t.Chdir(t.TempDir())
	write(t, "a.yaml", "domain: edge")
	if err := os.Chmod("a.yaml", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load([]string{"a.yaml"}, nil); err == nil || err.Error() != "a.yaml: cannot be read: permission denied" {
		t.Errorf("got %v, want permission denied", err)
	}
}

// TestManyFiles: too many files, and files that are too large together, are refused
// and not half read.
func TestManyFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	for i := range config.MaxFiles + 1 {
		write(t, fmt.Sprintf("many/%04d.yaml", i), fmt.Sprintf("domain: d%d", i))
	}
	_, err := config.Load([]string{"many"}, nil)
	if err == nil || err.Error() != "many/1024.yaml: too many files, expected at most 1024" {
		t.Errorf("got %v, want too many files", err)
	}
	large := "#" + strings.Repeat("x", config.MaxFileBytes-1)
	for i := range config.MaxTotalBytes/config.MaxFileBytes + 2 {
		write(t, fmt.Sprintf("large/%02d.yaml", i), large)
	}
	_, err = config.Load([]string{"large"}, nil)
	if err == nil || err.Error() != "large/16.yaml: the files are too large together, expected at most 16777216 bytes" {
		t.Errorf("got %v, want too large together", err)
	}
}

// TestTooManyRules: the bound is over all files.
func TestTooManyRules(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "a.yaml", manyRules(config.MaxRules, "a"), "b.yaml", manyRules(2, "b"))
	_, err := config.Load([]string{"."}, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "b.yaml:2:3: too many rules, expected at most 10000 in all files\n") {
		t.Errorf("got %v, want too many rules", err)
	}
	t.Chdir(t.TempDir())
	write(t, "a.yaml", "rules:"+strings.Repeat("\n- 1", config.MaxRules+1))
	_, err = config.Load([]string{"."}, nil)
	if err == nil || !strings.Contains(err.Error(), "a.yaml:2:1: rules has too many items, expected at most 10000\n    2 | - 1") {
		t.Errorf("got %v, want too many items", err)
	}
}

// manyRules returns a file of n rules on different values.
func manyRules(n int, domain string) string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i := range n {
		fmt.Fprintf(&b, "- {domain: %s, match: [{key: user, value: u%d}], limits: [{amount: 100, per: 1m}]}\n", domain, i)
	}
	return b.String()
}

// TestReloadKeepsCounters: a limit that is in both versions keeps what was charged.
func TestReloadKeepsCounters(t *testing.T) {
	t.Chdir(t.TempDir())
	const text = `
rules:
- {domain: edge, match: [{key: user}], limits: [{amount: 3, per: 1m}]}
`
	write(t, "a.yaml", text)
	first := mustLoad(t, "a.yaml")
	lim := limiter.New(limiter.Options{})
	now := limiter.InstantOf(time.Unix(1_700_000_000, 0))
	ask := func(l *config.Loaded) limiter.Verdict {
		var a limiter.Ask
		l.Plan.MatchDescriptor(&a, "edge", 0, []limiter.Entry{{Key: "user", Value: "ann"}}, limiter.Hits{Amount: 1})
		var d limiter.Decision
		lim.Route(&a)
		lim.Decide(now, &a, &d)
		return d.Verdict
	}
	ask(first)
	ask(first)
	write(t, "a.yaml", text+`
- {domain: edge, match: [{key: path}], limits: [{amount: 1, per: 1m}]}
`)
	second, err := config.Load([]string{"a.yaml"}, first)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(second); got != limiter.Allowed {
		t.Errorf("the third of 3: %s, want allowed", got)
	}
	if got := ask(second); got != limiter.Denied {
		t.Errorf("the fourth of 3: %s, want denied", got)
	}
}

// BenchmarkLoad reads 10,000 rules, once in each format.
func BenchmarkLoad(b *testing.B) {
	var ratelimit strings.Builder
	ratelimit.WriteString("domain: edge\ndescriptors:\n")
	for i := range config.MaxRules {
		fmt.Fprintf(&ratelimit, "- {key: user, value: u%d, rate_limit: {unit: minute, requests_per_unit: 5}}\n", i)
	}
	for name, text := range map[string]string{"weir": manyRules(config.MaxRules, "edge"), "ratelimit": ratelimit.String()} {
		b.Run(name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "a.yaml")
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := config.Load([]string{path}, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
