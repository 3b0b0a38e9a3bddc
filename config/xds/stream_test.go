package xds

import (
	"strings"
	"testing"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestUpdates: a configuration comes, changes, is joined by another, and goes.
func TestUpdates(t *testing.T) {
	p := newPlane(t)
	p.set("1", edge("a", 10))
	p.start()
	f := newForce()
	c, _ := run(t, Options{
		Server: p.addr, Version: "v1.2.3", Metadata: map[string]string{"region": "eu"},
		Headers: []Header{{"X-Token", "abc"}, {"x-token", "def"}},
	}, f)

	first := p.want("", false)
	f.want(t, 10)
	accepted := p.want("1", true)
	node := first.GetNode()
	if node.GetId() != "node-1" || node.GetMetadata().GetFields()["region"].GetStringValue() != "eu" ||
		node.GetUserAgentName() != "weir" || node.GetUserAgentVersion() != "v1.2.3" {
		t.Errorf("asked as %v", node)
	}
	if got := (<-p.headers).Get("x-token"); strings.Join(got, " ") != "abc def" {
		t.Errorf("headers %q, want abc and def", got)
	}

	p.set("2", edge("a", 20))
	f.want(t, 20)
	if second := p.want("2", true); second.GetResponseNonce() == accepted.GetResponseNonce() {
		t.Errorf("the nonce %q was sent twice", second.GetResponseNonce())
	}
	p.set("3", edge("b", 5), edge("a", 20))
	f.want(t, 20, 5)
	p.want("3", true)
	p.set("4")
	f.want(t)
	p.want("4", true)
	f.wantNone(t)

	want := `
# HELP weir_xds_connected 1 while there is a stream from the control plane.
# TYPE weir_xds_connected gauge
weir_xds_connected 1
# HELP weir_xds_last_response_accepted 1 if the control plane's last response is in force, 0 if it was refused or there was none.
# TYPE weir_xds_last_response_accepted gauge
weir_xds_last_response_accepted 1
# HELP weir_xds_resources Resources of the control plane that are in force.
# TYPE weir_xds_resources gauge
weir_xds_resources 0
# HELP weir_xds_responses_total Responses of the control plane, by what came of them.
# TYPE weir_xds_responses_total counter
weir_xds_responses_total{result="accepted"} 4
weir_xds_responses_total{result="refused"} 0
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "weir_xds_connected", "weir_xds_last_response_accepted", "weir_xds_resources", "weir_xds_responses_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(c); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

// TestRefusedAndMended: what is wrong is told, all of it, and what was in force stays,
// until it is mended.
func TestRefusedAndMended(t *testing.T) {
	p := newPlane(t)
	p.set("1", edge("a", 10))
	p.start()
	f := newForce()
	c, log := run(t, Options{Server: p.addr}, f)
	p.want("", false)
	f.want(t, 10)
	p.want("1", true)

	broken := edge("a", 20)
	broken.Descriptors = append(broken.Descriptors,
		&ratelimitv3.RateLimitDescriptor{Key: "path", RateLimit: &ratelimitv3.RateLimitPolicy{}},
		&ratelimitv3.RateLimitDescriptor{Value: "x"})
	p.set("2", broken)
	p.want("1", true,
		"xds:a descriptors[1].rate_limit.unit: invalid rate limit unit 'UNKNOWN', expected one of second, ",
		"xds:a descriptors[2]: descriptor has empty key")
	log.want(t, "the control plane's configuration is refused, the earlier one stays in force")
	if n := testutil.ToFloat64(collected{c, inForceDesc}); n != 0 {
		t.Errorf("weir_xds_last_response_accepted is %v, want 0", n)
	}

	twice := edge("a", 20)
	twice.Name = "b"
	p.set("3", edge("a", 20), twice)
	p.wantRefusal("1", "xds:b domain: duplicate domain 'a' in config file", "also at xds:a domain")
	f.wantNone(t)

	p.set("4", edge("a", 30))
	p.wantAfter("4")
	f.want(t, 30)
	if n := testutil.ToFloat64(collected{c, inForceDesc}); n != 1 {
		t.Errorf("weir_xds_last_response_accepted is %v, want 1", n)
	}
	if n := strings.Count(log.String(), "is refused"); n != 2 {
		t.Errorf("%d lines about refusals, want one for each configuration:\n%s", n, log)
	}
}

// TestServerRestarts: the server goes, and comes back at the same address with another
// configuration.
func TestServerRestarts(t *testing.T) {
	p := newPlane(t)
	f := newForce()
	p.start()
	p.stop() // the address is known, and nobody is there
	c, log := run(t, Options{Server: p.addr}, f)
	log.want(t, "cause=connect")

	p.set("1", edge("a", 10))
	p.start()
	p.want("", false)
	f.want(t, 10)
	p.want("1", true)

	for i, version := range []string{"2", "3"} {
		before := []string{"1", "2"}[i]
		p.stop()
		log.want(t, "cause=stream")
		p.set(version, edge("a", uint32(20+i)))
		p.start()
		p.want(before, false) // the nonce was the old stream's
		f.want(t, uint64(20+i))
		p.want(version, true)
	}
	p.stop()
	p.start() // with what it said before
	p.want("3", false)
	p.want("3", true)
	f.wantNone(t)
	if n := testutil.ToFloat64(collected{c, failuresDesc}); n < 4 {
		t.Errorf("%v failures were counted, want 4 or more", n)
	}
}

// TestSilence: a server that has nothing to say is waited for.
func TestSilence(t *testing.T) {
	p := newPlane(t)
	p.start()
	f := newForce()
	c, log := run(t, Options{Server: p.addr}, f)
	p.want("", false)
	log.want(t, "connected to the control plane")
	f.wantNone(t)
	if n := testutil.ToFloat64(collected{c, connectedDesc}); n != 1 {
		t.Errorf("weir_xds_connected is %v, want 1", n)
	}
	p.set("1", edge("a", 10)) // at last
	f.want(t, 10)
	p.want("1", true)
}
