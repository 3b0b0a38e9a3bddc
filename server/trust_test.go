package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"testing"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
)

// certified is the context of a call over a connection on which that certificate was shown
// and verified.
func certified(cert *x509.Certificate) context.Context {
	info := credentials.TLSInfo{State: tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}},
	}}
	return peer.NewContext(context.Background(), &peer.Peer{AuthInfo: info})
}

func TestGatewaysAreTrusted(t *testing.T) {
	spiffe, err := url.Parse("spiffe://example.org/gateway")
	if err != nil {
		t.Fatal(err)
	}
	unverified := peer.NewContext(context.Background(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{{DNSNames: []string{"edge"}}},
	}}})
	named := &active{Loaded: &config.Loaded{Gateways: []string{"edge", "spiffe://example.org/gateway"}}}
	open := &active{Loaded: &config.Loaded{}}
	for name, c := range map[string]struct {
		a     *active
		ctx   context.Context
		proxy bool
		want  bool
	}{
		"a proxy, where nobody is named":   {open, context.Background(), true, true},
		"a program, where nobody is named": {open, context.Background(), false, false},
		"no certificate":                   {named, context.Background(), true, false},
		"not verified":                     {named, unverified, true, false},
		"by a DNS name":                    {named, certified(&x509.Certificate{DNSNames: []string{"other", "edge"}}), false, true},
		"by a URI":                         {named, certified(&x509.Certificate{URIs: []*url.URL{spiffe}}), true, true},
		"by the common name":               {named, certified(&x509.Certificate{Subject: pkix.Name{CommonName: "edge"}}), true, true},
		"by another name":                  {named, certified(&x509.Certificate{DNSNames: []string{"edge.example"}}), true, false},
	} {
		if got := c.a.trusts(c.ctx, c.proxy); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// paceOf returns what was learned of requests of the only quota.
func paceOf(t *testing.T, w *rlsWorld) limiter.PaceView {
	t.Helper()
	quotas, err := w.d.store.Quotas(t.Context(), w.d.now())
	if err != nil || len(quotas) != 1 {
		t.Fatalf("%d quotas, %v", len(quotas), err)
	}
	return quotas[0].Paces[limiter.Requests]
}

// A refusal counts only with a reservation of the reporter's own.
func TestRefusalsOfNobodysCalls(t *testing.T) {
	const refusal = " status=429 error_type=rate_limit_error retry_after=600 details=via_upstream attempts=1 last_event=message_stop" +
		" anthropic-ratelimit-requests-limit=1 anthropic-ratelimit-requests-remaining=0"
	spec := limiter.Spec{Quotas: []limiter.QuotaSpec{{Name: "q", Provider: "anthropic", Learn: true, Mode: limiter.HintLimits}}}
	for name, c := range map[string]struct {
		report  string
		trusted bool
		teaches bool
	}{
		"a gateway's, by request id":          {"request_id=r1", true, true},
		"a stranger's, by a guess":            {"request_id=r1", false, false},
		"another tenant's, by a guess":        {"request_id=r1 tenant=other", false, false},
		"the tenant's own, by request id":     {"request_id=r1 tenant=batch", false, true},
		"a call that nobody asked for":        {"request_id=r2 org=acme model=m input_tokens=5", true, false},
		"the same by a stranger, and a large": {"request_id=r2 org=acme model=m input_tokens=1000000000000", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRLSWorld(t, spec)
			w.reserve(t, "org=acme tenant=batch model=m input_tokens=10 max_tokens=10 request_id=r1")
			s := read(t, w.d.loaded.Load().Vocabulary, c.report+refusal)
			s.reports[0].trusted = c.trusted
			w.rls.settler.settle(t.Context(), w.d.now(), w.d.loaded.Load(), &s.reports[0])
			p := paceOf(t, w)
			if taught := p.Rate != 60 || p.GateUntil > w.d.now(); taught != c.teaches {
				t.Errorf("taught: %v, %+v", taught, p)
			}
			if p.Backlog > 1000 {
				t.Errorf("a backlog of %v", p.Backlog)
			}
		})
	}
}
