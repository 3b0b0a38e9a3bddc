package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
	"github.com/weir-project/weir/provider"
)

// severalProviders has a quota of Anthropic's and one of a gateway, which says with a 420
// that its limit is reached.
func severalProviders(t *testing.T) *config.Loaded {
	t.Helper()
	spec := learned(rpm(600))
	spec.Quotas = append(spec.Quotas, limiter.QuotaSpec{
		Name: "ours", Provider: "gateway", Learn: true, Limits: []limiter.LimitSpec{rpm(600)},
		Match: []limiter.AttributePattern{{Key: "model", Pattern: "ours-*"}},
	})
	l := loaded(t, spec, "aaaaaaaaaaaa", nil)
	own := provider.Generic()
	own.Name = "gateway"
	own.Rules = append([]provider.Rule{{From: 420, To: 420, Class: limiter.ClassQuota}}, own.Rules...)
	own.Headers = append([]provider.HeaderRule{{Name: "x-left", Part: provider.PartRemaining, Meter: limiter.Requests}, {Name: "x-most", Part: provider.PartLimit, Meter: limiter.Requests}}, own.Headers...)
	l.Providers = map[string]*provider.Profile{"gateway": &own}
	return l
}

// A report says whose answer it is about; one that does not is read as before.
func TestAReportNamesItsProvider(t *testing.T) {
	for _, c := range []struct {
		name, provider, class string
		limit                 float64
	}{
		{"the gateway's", "gateway", "quota", 60},
		{"nothing said", "", "", 600},
		{"another's", "openai", "", 600},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, door := range []string{"call", "session"} {
				inBubble(t, Options{Loaded: severalProviders(t)}, func(t *testing.T, w *world) {
					ask := call("acme", 10, 10)
					ask.Attributes["model"] = "ours-large"
					report := &weirv1.ReportRequest{
						Reservation: w.reserve(ask).GetReservation(), HttpStatus: 420, Provider: c.provider,
						Headers: []*weirv1.Header{{Name: "X-Most", Value: "60"}, {Name: "X-Left", Value: "0"}},
					}
					if door == "call" {
						if _, err := w.quota.Report(t.Context(), report); err != nil {
							t.Fatal(err)
						}
					} else {
						s := openSession(t, w)
						send(t, s, &weirv1.SessionCall{Sequence: 1, Call: &weirv1.SessionCall_Report{Report: report}})
						if r := receive(t, s)[0].GetReport(); !r.GetApplied() {
							t.Fatalf("%v", r)
						}
					}
					e, err := w.admin.Explain(t.Context(), &weirv1.ExplainRequest{Attributes: ask.GetAttributes()})
					if err != nil {
						t.Fatal(err)
					}
					if p := e.GetPaces()[0]; p.GetLastClass() != c.class || p.GetLimitPerMinute() != c.limit {
						t.Errorf("%s: learned %v", door, p)
					}
					time.Sleep(time.Second)
				})
			}
		})
	}
}

// A name that nobody knows changes nothing, and the answer says which there are.
func TestAReportOfAProviderThatNobodyKnows(t *testing.T) {
	inBubble(t, Options{Loaded: severalProviders(t)}, func(t *testing.T, w *world) {
		id := w.reserve(call("acme", 10, 10)).GetReservation()
		wrong := &weirv1.ReportRequest{Reservation: id, HttpStatus: 200, Provider: "Gateway"}
		want := `provider: got "Gateway", expected one of anthropic, azure, bedrock, gateway, gemini, `
		_, err := w.quota.Report(t.Context(), wrong)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(status.Convert(err).Message(), want) {
			t.Errorf("%v", err)
		}
		s := openSession(t, w)
		send(t, s, &weirv1.SessionCall{Sequence: 1, Call: &weirv1.SessionCall_Report{Report: wrong}})
		if e := receive(t, s)[0].GetError(); codes.Code(e.GetCode()) != codes.InvalidArgument || !strings.Contains(e.GetMessage(), want) {
			t.Errorf("in a session: %v", e)
		}
		wrong.Provider = "gateway"
		if r, err := w.quota.Report(t.Context(), wrong); err != nil || !r.GetApplied() {
			t.Errorf("then by its name: %v, %v", r, err)
		}
	})
}

func TestManyProvidersAreNotAllShown(t *testing.T) {
	l := severalProviders(t)
	for i := range maxShown {
		l.Providers[fmt.Sprint("own-", i)] = l.Providers["gateway"]
	}
	a := &active{Loaded: l}
	if got := a.providersExpected(); !strings.HasSuffix(got, "vertex, or one of the configuration's") {
		t.Error(got)
	}
}
