package server

import (
	"context"
	"slices"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// trusts says whether whoever makes the call of ctx is a gateway, whose word counts at
// once for all who share a quota: one that the configuration names, or, where it names
// none, whoever speaks a proxy's protocol.
func (a *active) trusts(ctx context.Context, proxy bool) bool {
	if len(a.Gateways) == 0 {
		return proxy
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.PeerCertificates) == 0 {
		return false
	}
	cert := info.State.PeerCertificates[0]
	if slices.Contains(a.Gateways, cert.Subject.CommonName) {
		return true
	}
	for _, name := range cert.DNSNames {
		if slices.Contains(a.Gateways, name) {
			return true
		}
	}
	for _, uri := range cert.URIs {
		if slices.Contains(a.Gateways, uri.String()) {
			return true
		}
	}
	return false
}
