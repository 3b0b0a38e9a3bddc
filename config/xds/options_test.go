package xds

import (
	"strings"
	"testing"
	"time"
)

func TestBadOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"expected host:port without a scheme": {Server: "http://control:18000"},
		`"control", expected host:port`:       {Server: "control"},
		`":18000", expected host:port`:        {Server: ":18000"},
		"the port of":                         {Server: "control:99999"},
		"MaxMessageBytes is -1":               {MaxMessageBytes: -1},
		"MaxMessageBytes is 1073741825":       {MaxMessageBytes: 1<<30 + 1},
		"a negative interval":                 {MaxInterval: -time.Second},
		"Growth is 0.5":                       {Growth: 0.5},
		"a certificate needs its key":         {TLS: TLS{On: true, CertFile: "a"}},
		`the header name "a b"`:               {Headers: []Header{{"a b", "x"}}},
		`the header name ":path"`:             {Headers: []Header{{":path", "x"}}},
		"the header grpc-timeout belongs":     {Headers: []Header{{"Grpc-Timeout", "1S"}}},
		`the value of the header a holds`:     {Headers: []Header{{"a", "x\ny"}}},
	} {
		if _, err := New(o, newForce()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want an error with %q", o, err, want)
		}
	}
	for _, server := range []string{"", "localhost:18000", "[::1]:18000", "control.ns.svc:18000", "dns:///control:18000", "unix:/run/control.sock"} {
		if _, err := New(Options{Server: server}, newForce()); err != nil {
			t.Errorf("%s: %v", server, err)
		}
	}
}
