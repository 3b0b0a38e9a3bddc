package server

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
)

func TestNumbers(t *testing.T) {
	const most = limiter.MaxAmount
	for text, want := range map[string]struct {
		n    uint64
		huge bool
		ok   bool
	}{
		"0":                            {0, false, true},
		"00012":                        {12, false, true},
		" 12 ":                         {12, false, true},
		"2000000000":                   {2000000000, false, true},
		"12.0":                         {12, false, true},
		"10.7":                         {11, false, true},
		"0.3":                          {1, false, true},
		".5":                           {1, false, true},
		"1e3":                          {1000, false, true},
		"1.024E+03":                    {1024, false, true},
		"1e-9":                         {1, false, true},
		"9007199254740992":             {most, false, true},
		"9007199254740993":             {most, true, true},
		"9999999999999999":             {most, true, true},
		"18446744073709551615":         {most, true, true},
		"99999999999999999999":         {most, true, true},
		"1e400":                        {most, true, true},
		"1" + strings.Repeat("0", 200): {most, true, true},

		"": {}, " ": {}, "-5": {}, "-0": {}, "+5": {}, "NaN": {}, "nan": {}, "inf": {}, "Infinity": {},
		"0x10": {}, "0x1p4": {}, "1_000": {}, "1,000": {}, "12abc": {}, "1e": {}, ".": {}, "e3": {}, "null": {}, "١٢": {},
	} {
		n, huge, ok := parseAmount(text)
		if n != want.n || huge != want.huge || ok != want.ok {
			t.Errorf("parseAmount(%q) = %d, %v, %v, want %d, %v, %v", text, n, huge, ok, want.n, want.huge, want.ok)
		}
	}
}

func TestWhatNumbersMean(t *testing.T) {
	for text, want := range map[string]struct {
		estimate, bound, used int64 // -1: not known
		status                int
	}{
		"0":                {-1, -1, 0, 0},
		"25":               {25, 25, 25, 0},
		"429":              {429, 429, 429, 429},
		"-1":               {-1, -1, -1, 0},
		"2000000000":       {2000000000, 2000000000, 2000000000, 0},
		"9007199254740993": {int64(limiter.MaxAmount), -1, -1, 0},
		"1e99":             {int64(limiter.MaxAmount), -1, -1, 0},
	} {
		check := func(name string, n uint64, ok bool, want int64) {
			if ok != (want >= 0) || ok && n != uint64(want) {
				t.Errorf("%s(%q) = %d, %v, want %d", name, text, n, ok, want)
			}
		}
		n, ok := estimate(text)
		check("estimate", n, ok, want.estimate)
		n, ok = bound(text)
		check("bound", n, ok, want.bound)
		n, ok = used(text)
		check("used", n, ok, want.used)
		if got := parseStatus(text); got != want.status {
			t.Errorf("parseStatus(%q) = %d, want %d", text, got, want.status)
		}
	}
}

// FuzzNumber: an amount is never more than MaxAmount, and what strconv cannot read is
// not known.
func FuzzNumber(f *testing.F) {
	for _, s := range []string{"12", "1e3", "NaN", "-1", "0x1p4", "9007199254740993", "1e400"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, huge, ok := parseAmount(s)
		if n > limiter.MaxAmount || huge && n != limiter.MaxAmount || huge && !ok {
			t.Fatalf("parseAmount(%q) = %d, %v, %v", s, n, huge, ok)
		}
	})
}

// FuzzReservationID: ids are read back as they were written, and nothing else is read.
func FuzzReservationID(f *testing.F) {
	f.Add(encodeID(limiter.ID{1, 2, 3}))
	f.Add("r-1")
	f.Add(strings.Repeat("A", idLen))
	f.Add(strings.Repeat("=", idLen))
	f.Fuzz(func(t *testing.T, s string) {
		if id, ok := decodeID(s); ok && encodeID(id) != s {
			t.Fatalf("%q is read as %x, which is written %q", s, id, encodeID(id))
		}
	})
}

// read reads a request as a call does.
func read(t testing.TB, v config.Vocabulary, descriptors ...string) *spoken {
	t.Helper()
	b, err := proto.Marshal(request("llm", descriptors...))
	if err != nil {
		t.Fatal(err)
	}
	var r rlsRequest
	if err := r.parseRetained(mem.SliceBuffer(b)); err != nil {
		t.Fatal(err)
	}
	s := new(spoken)
	s.read(newVocabulary(&v), &r)
	return s
}

// entries writes attributes as "key=value key=value".
func entries(attrs []limiter.Entry) string {
	var words []string
	for _, e := range attrs {
		words = append(words, e.Key+"="+e.Value)
	}
	return strings.Join(words, " ")
}

// saidAsk is an ask as a test wants it.
type saidAsk struct {
	Ordinal    int
	Attributes string
	Estimate   limiter.Estimate
	Peeks      bool
}

func TestAsks(t *testing.T) {
	type want struct {
		Roles             []role
		Asks              []saidAsk
		Tenant, RequestID string
		TooMuch           int
	}
	roles := func(rs ...role) []role { return rs }
	for name, tc := range map[string]struct {
		descriptors []string
		want        want
	}{
		"compact": {
			[]string{"org=acme tenant=batch model=claude-lab-1 beta=x body_bytes=4000 max_tokens=2048 request_id=d016"},
			want{roles(roleAsk), []saidAsk{{
				Attributes: "org=acme tenant=batch model=claude-lab-1 beta=x",
				Estimate:   limiter.Estimate{BodyBytes: 4000, HasBody: true, MaxTokens: 2048, HasMax: true},
			}}, "batch", "d016", -1},
		},
		"compact with an estimate of its own": {
			[]string{"model=m input_tokens=1e3 cached_input_tokens=600 body_bytes=0 max_tokens=-5 hits:2 priority=batch long_context=true credential=c provider=anthropic workspace=w"},
			want{roles(roleAsk), []saidAsk{{
				Attributes: "model=m priority=batch long_context=true credential=c provider=anthropic workspace=w",
				Estimate:   limiter.Estimate{Requests: 2, InputTokens: 1000, HasInput: true, CachedInputTokens: 600},
			}}, "", "", -1},
		},
		"nothing known": {
			[]string{"org=acme body_bytes=0 max_tokens=2e16"},
			want{roles(roleAsk), []saidAsk{{Attributes: "org=acme"}}, "", "", -1},
		},
		"peek": {
			[]string{"org=acme model=m hits:0"},
			want{roles(roleAsk), []saidAsk{{Attributes: "org=acme model=m", Peeks: true}}, "", "", -1},
		},
		"plain": {
			[]string{"user=ann", "hits:0"},
			want{Roles: roles(rolePlain, rolePlain), TooMuch: -1},
		},
		"per unit": {
			[]string{
				"llm_phase=admit request_id=fcc8 org=acme tenant=batch model=m body_bytes=4096 hits:0",
				"org=acme model=m unit=requests hits:1",
				"org=acme model=m unit=input_tokens hits:1024",
				"org=acme model=m unit=output_tokens hits:512",
			},
			want{roles(roleContext, roleAsk, roleAsk, roleAsk), []saidAsk{{
				Ordinal: 1, Attributes: "org=acme model=m tenant=batch",
				Estimate: limiter.Estimate{Requests: 1, InputTokens: 1024, HasInput: true, BodyBytes: 4096, HasBody: true, MaxTokens: 512, HasMax: true},
			}}, "batch", "fcc8", -1},
		},
		"per unit, nothing known": {
			[]string{
				"llm_phase=admit org=acme model=unknown body_bytes=0 hits:0",
				"org=acme model=unknown unit=requests hits:1",
				"org=acme model=unknown unit=input_tokens hits:0",
			},
			want{roles(roleContext, roleAsk, roleAsk), []saidAsk{{
				Ordinal: 1, Attributes: "org=acme model=unknown", Estimate: limiter.Estimate{Requests: 1},
			}}, "", "", -1},
		},
		"meter, hits absent": {
			[]string{"org=acme meter=requests", "org=acme meter=input_tokens", "org=acme meter=tokens hits:7"},
			want{roles(roleAsk, roleAsk, roleAsk), []saidAsk{{
				Attributes: "org=acme", Estimate: limiter.Estimate{Requests: 1, InputTokens: 7, HasInput: true},
			}}, "", "", -1},
		},
		"meter, all peeks": {
			[]string{"org=acme meter=requests hits:0", "org=acme meter=input_tokens hits:0"},
			want{roles(roleAsk, roleAsk), []saidAsk{{Attributes: "org=acme", Peeks: true}}, "", "", -1},
		},
		"two quotas in one call": {
			[]string{"org=acme meter=requests", "org=bob meter=requests", "org=acme meter=input_tokens hits:9"},
			want{roles(roleAsk, roleAsk, roleAsk), []saidAsk{
				{Ordinal: 0, Attributes: "org=acme", Estimate: limiter.Estimate{Requests: 1, InputTokens: 9, HasInput: true}},
				{Ordinal: 1, Attributes: "org=bob", Estimate: limiter.Estimate{Requests: 1}},
			}, "", "", -1},
		},
		"the same attributes in another order": {
			[]string{"org=acme model=m meter=requests", "model=m org=acme meter=output_tokens hits:9"},
			want{roles(roleAsk, roleAsk), []saidAsk{
				{Attributes: "org=acme model=m", Estimate: limiter.Estimate{Requests: 1, MaxTokens: 9, HasMax: true}},
			}, "", "", -1},
		},
		"the descriptor's word goes before the context's": {
			[]string{"llm_phase=admit org=acme model=a max_tokens=5", "org=bob meter=output_tokens hits:9"},
			want{roles(roleContext, roleAsk), []saidAsk{
				{Ordinal: 1, Attributes: "org=bob model=a", Estimate: limiter.Estimate{MaxTokens: 9, HasMax: true}},
			}, "", "", -1},
		},
		"context alone": {
			[]string{"llm_phase=admit org=acme tenant=t input_tokens=12 hits:0"},
			want{roles(roleContext), []saidAsk{
				{Attributes: "org=acme tenant=t", Estimate: limiter.Estimate{InputTokens: 12, HasInput: true}},
			}, "t", "", -1},
		},
		"a unit of somebody else": {
			[]string{"unit=berlin user=ann", "org=acme unit=berlin"},
			want{roles(rolePlain, roleAsk), []saidAsk{{Ordinal: 1, Attributes: "org=acme unit=berlin"}}, "", "", -1},
		},
		"what only reports count": {
			[]string{"org=acme meter=cache_read_input_tokens hits:5"},
			want{Roles: roles(roleNone), TooMuch: -1},
		},
		"negative hits": {
			[]string{"org=acme meter=input_tokens hits:5 negative"},
			want{Roles: roles(roleNone), TooMuch: -1},
		},
		"the first word counts": {
			[]string{"org=acme tenant=a tenant=b max_tokens=5 max_tokens=6"},
			want{roles(roleAsk), []saidAsk{{
				Attributes: "org=acme tenant=a tenant=b", Estimate: limiter.Estimate{MaxTokens: 5, HasMax: true},
			}}, "a", "", -1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := read(t, config.DefaultVocabulary(), tc.descriptors...)
			got := want{Tenant: s.tenant, RequestID: s.requestID, TooMuch: s.tooMuch}
			for _, u := range s.uses {
				got.Roles = append(got.Roles, u.role)
			}
			for _, a := range s.asks {
				got.Asks = append(got.Asks, saidAsk{a.ordinal, entries(a.attributes), a.estimate, a.peeks()})
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(s.reports) > 0 {
				t.Errorf("reports: %+v", s.reports)
			}
		})
	}
}

func TestHitsThatNothingAdmits(t *testing.T) {
	for _, d := range []string{"org=acme meter=requests", "org=acme meter=output_tokens", "org=acme"} {
		m := request("llm", "org=acme", d)
		m.Descriptors[1].HitsAddend = nil
		m.HitsAddend = math.MaxUint32 // allowed
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var r rlsRequest
		if err := r.parseRetained(mem.SliceBuffer(b)); err != nil {
			t.Fatal(err)
		}
		v := config.DefaultVocabulary()
		s := new(spoken)
		if s.read(newVocabulary(&v), &r); s.tooMuch != -1 {
			t.Errorf("%s: hits of 2^32-1 are too much", d)
		}
		r.descriptors[1].hasHits, r.descriptors[1].hits = true, math.MaxUint64
		if s.read(newVocabulary(&v), &r); s.tooMuch != 1 {
			t.Errorf("%s: hits of 2^64-1: tooMuch = %d, want 1", d, s.tooMuch)
		}
	}
}

func TestReports(t *testing.T) {
	id := limiter.ID{9, 8, 7}
	ref := "reservation=" + encodeID(id)
	long := strings.Repeat("x", 2000)
	for name, tc := range map[string]struct {
		descriptors []string
		want        report
	}{
		"compact": {
			[]string{"request_id=d016 " + ref + " status=200 details=via_upstream attempts=1 input_tokens=25 cache_creation_input_tokens=7 cache_read_input_tokens=100 output_tokens=42 last_event=message_stop"},
			report{ref: Ref{ID: id, RequestID: "d016"}, status: 200, attempt: 1, usage: reportedUsage{25, 7, 100, 42, true, true, true, true}},
		},
		"refused by the upstream": {
			[]string{ref + " status=429 details=via_upstream attempts=1 error_type=rate_limit_error error_message=" + long + " retry-after=7 anthropic-ratelimit-requests-limit=50"},
			report{ref: Ref{ID: id}, status: 429, attempt: 1, errorType: "rate_limit_error", errorMessage: long[:maxText], retryAfter: "7", attributes: []limiter.Entry{{Key: "anthropic-ratelimit-requests-limit", Value: "50"}}},
		},
		"own denial":                  {[]string{"request_id=d status=429 details=request_rate_limited attempts=0 retry-after=3"}, report{ref: Ref{RequestID: "d"}, status: 429, retryAfter: "3", unsent: true, aborted: true}},
		"own denial without details":  {[]string{"request_id=d status=429 attempts=0"}, report{ref: Ref{RequestID: "d"}, status: 429, unsent: true}},
		"usage of a named request":    {[]string{"request_id=d output_tokens=5 org=acme model=m tenant=t"}, report{ref: Ref{RequestID: "d"}, tenant: "t", usage: reportedUsage{output: 5, hasOutput: true}, attributes: []limiter.Entry{{Key: "org", Value: "acme"}, {Key: "model", Value: "m"}, {Key: "tenant", Value: "t"}}}},
		"a reservation of no form":    {[]string{"reservation=r-1 status=200"}, report{status: 200}},
		"numbers that are none":       {[]string{ref + " status=abc input_tokens=-1 output_tokens=NaN attempts=many"}, report{ref: Ref{ID: id}}},
		"counts that nobody can have": {[]string{ref + " status=200 input_tokens=1e300 output_tokens=5"}, report{ref: Ref{ID: id}, status: 200, usage: reportedUsage{output: 5, hasOutput: true}}},
		"client left mid-stream":      {[]string{ref + " status=200 details=downstream_remote_disconnect output_tokens=1 last_event=content_block_delta"}, report{ref: Ref{ID: id}, status: 200, aborted: true, usage: reportedUsage{output: 1, hasOutput: true}}},
		"client left after the end":   {[]string{ref + " status=200 details=downstream_remote_disconnect output_tokens=9 last_event=message_stop"}, report{ref: Ref{ID: id}, status: 200, usage: reportedUsage{output: 9, hasOutput: true}}},
		"error event":                 {[]string{ref + " status=200 details=via_upstream error_type=overloaded_error last_event=error"}, report{ref: Ref{ID: id}, status: 200, errorType: "overloaded_error", aborted: true}},
		"per unit": {
			[]string{
				"llm_phase=settle request_id=fcc8 " + ref + " status=200 details=via_upstream attempts=1 last_event=message_stop hits:0",
				"llm_phase=settle unit=input_tokens hits:25",
				"llm_phase=settle unit=cache_creation_input_tokens hits:7",
				"llm_phase=settle unit=cache_read_input_tokens hits:100",
				"llm_phase=settle unit=output_tokens hits:42",
			},
			report{ref: Ref{ID: id, RequestID: "fcc8"}, status: 200, attempt: 1, usage: reportedUsage{25, 7, 100, 42, true, true, true, true}},
		},
		"per unit, units first": {
			[]string{"llm_phase=settle unit=output_tokens hits:42", "llm_phase=settle " + ref + " status=200 details=upstream_reset_after_response_started{x} hits:0"},
			report{ref: Ref{ID: id}, status: 200, aborted: true, usage: reportedUsage{output: 42, hasOutput: true}},
		},
		"per unit, hits absent or absurd": {
			[]string{"llm_phase=settle " + ref + " status=200", "llm_phase=settle unit=output_tokens", "llm_phase=settle unit=input_tokens hits:0"},
			report{ref: Ref{ID: id}, status: 200, usage: reportedUsage{hasInput: true}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := read(t, config.DefaultVocabulary(), tc.descriptors...)
			if len(s.reports) != 1 || len(s.asks) != 0 {
				t.Fatalf("%d reports and %d asks", len(s.reports), len(s.asks))
			}
			tc.want.oneOfTwo = true
			if diff := cmp.Diff(tc.want, s.reports[0], cmp.AllowUnexported(report{}, reportedUsage{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestARenamedVocabulary(t *testing.T) {
	v := config.DefaultVocabulary()
	v.Org, v.Tenant, v.MaxTokens, v.Phase, v.Status = "customer", "team", "limit", "stage", ""
	s := read(t, v, "customer=acme team=t model=m limit=5 max_tokens=6", "stage=settle reservation=x")
	if len(s.asks) != 1 || len(s.reports) != 1 {
		t.Fatalf("%d asks, %d reports", len(s.asks), len(s.reports))
	}
	if got, want := entries(s.asks[0].attributes), "org=acme tenant=t model=m max_tokens=6"; got != want {
		t.Errorf("attributes %q, want %q", got, want)
	}
	if got := s.asks[0].estimate; got.MaxTokens != 5 || s.tenant != "t" {
		t.Errorf("estimate %+v of tenant %q", got, s.tenant)
	}
}

// FuzzDescriptors: any descriptors are read in the same way twice, every descriptor has
// a use, and what is read stays within bounds.
func FuzzDescriptors(f *testing.F) {
	f.Add("org", "acme", "meter", "requests", uint64(5), true, "llm_phase", "admit")
	f.Add("status", "200", "unit", "input_tokens", uint64(1)<<63, false, "llm_phase", "settle")
	f.Add("max_tokens", "1e400", "reservation", "\xff", uint64(0), true, "", "")
	f.Add("org", "0", "0", "0", uint64(5), true, "llm_phase", "admit")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string, hits uint64, has bool, k3, v3 string) {
		r := rlsRequest{
			domain:  "llm",
			entries: []limiter.Entry{{Key: k1, Value: v1}, {Key: k2, Value: v2}, {Key: k3, Value: v3}, {Key: k1, Value: v2}},
			descriptors: []rlsDescriptor{
				{first: 0, end: 2, hits: hits, hasHits: has}, {first: 1, end: 3, hits: hits}, {first: 3, end: 4, hasHits: true}, {first: 4, end: 4},
			},
		}
		v := config.DefaultVocabulary()
		words := newVocabulary(&v)
		one, two := new(spoken), new(spoken)
		one.read(words, &r)
		two.read(words, &r)
		two.read(words, &r)
		if diff := cmp.Diff(one, two, cmp.AllowUnexported(spoken{}, use{}, ask{}, report{}, reportedUsage{}, proxied{}),
			cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".phrase" }, cmp.Ignore())); diff != "" {
			t.Fatalf("read twice:\n%s", diff)
		}
		if len(one.uses) != len(r.descriptors) {
			t.Fatalf("%d uses", len(one.uses))
		}
		for _, a := range one.asks {
			if e := a.estimate; max(e.Requests, e.InputTokens, e.BodyBytes, e.MaxTokens) > limiter.MaxAmount {
				t.Fatalf("estimate %+v", e)
			}
		}
		for _, p := range one.reports {
			if u := p.usage; max(u.input, u.output, u.cacheCreation, u.cacheRead) > limiter.MaxAmount {
				t.Fatalf("usage %+v", u)
			}
		}
	})
}
