package main

import (
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/weir-project/weir/server"
)

// What no flag says reaches the server.
func TestOptionsOfTheReference(t *testing.T) {
	own := server.Options{TLS: server.TLSFiles{ClientCAFile: "ca.pem"}} // as flags would say
	headers := server.RatelimitHeaders{Limit: "RateLimit-Limit", Remaining: "RateLimit-Remaining", Reset: "RateLimit-Reset"}
	in := own // what stands in has without any variable
	in.PlainHTTP, in.BareErrors, in.TLS.AllowTLS12, in.CloseOwn = true, true, true, true
	in.MaxConnectionAge, in.MaxConnectionAgeGrace = 24*time.Hour, time.Hour
	in.Reading.MayBeEmpty, in.Reading.DotFiles = true, true
	in.Ratelimit.Headers = headers
	beside := own // what serve --compat=ratelimit has without any variable
	beside.Reading.Strict, beside.BareErrors = true, true
	beside.Ratelimit.Headers = headers
	cases := map[string]struct {
		beside  bool
		environ []string
		want    func(*server.Options)
	}{
		"stands in":      {false, nil, func(*server.Options) {}},
		"beside":         {true, nil, func(*server.Options) {}},
		"ages":           {false, []string{"GRPC_MAX_CONNECTION_AGE=5m", "GRPC_MAX_CONNECTION_AGE_GRACE=0"}, func(o *server.Options) { o.MaxConnectionAge, o.MaxConnectionAgeGrace = 5*time.Minute, math.MaxInt64 }},
		"age beside":     {true, []string{"GRPC_MAX_CONNECTION_AGE=5m"}, func(o *server.Options) { o.MaxConnectionAge = 5 * time.Minute }},
		"debug port":     {false, []string{"DEBUG_PORT=6071"}, func(o *server.Options) { o.DebugAddr = "0.0.0.0:6071" }},
		"debug host":     {false, []string{"DEBUG_HOST=::1"}, func(o *server.Options) { o.DebugAddr = "[::1]:6070" }},
		"debug beside":   {true, []string{"DEBUG_PORT=6071"}, func(o *server.Options) { o.DebugAddr = "localhost:6071" }},
		"names":          {false, []string{"GRPC_SERVER_USE_TLS=1", "GRPC_SERVER_TLS_CERT=c", "GRPC_SERVER_TLS_KEY=k", "GRPC_CLIENT_TLS_CACERT=ca.pem", "GRPC_CLIENT_TLS_SAN=envoy"}, func(o *server.Options) { o.TLS.ClientName = "envoy" }},
		"health":         {true, []string{"HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED=true"}, func(o *server.Options) { o.ReadyWithConfig = true }},
		"shadow":         {false, []string{"SHADOW_MODE=true"}, func(o *server.Options) { o.Ratelimit.ShadowMode = true }},
		"quota":          {false, []string{"QUOTA_MODE=true"}, func(o *server.Options) { o.Ratelimit.QuotaMode = true }},
		"metadata":       {false, []string{"RESPONSE_DYNAMIC_METADATA=true"}, func(o *server.Options) { o.Ratelimit.DynamicMetadata = true }},
		"headers":        {false, []string{"LIMIT_RESPONSE_HEADERS_ENABLED=true", "LIMIT_RESET_HEADER=x-reset"}, func(o *server.Options) { o.Ratelimit.Headers.Enabled, o.Ratelimit.Headers.Reset = true, "x-reset" }},
		"merge":          {false, []string{"MERGE_DOMAIN_CONFIG=true"}, func(o *server.Options) { o.Reading.MergeDomains = true }},
		"dot files":      {false, []string{"RUNTIME_IGNOREDOTFILES=true"}, func(o *server.Options) { o.Reading.DotFiles = false }},
		"dots, beside":   {true, []string{"RUNTIME_IGNOREDOTFILES=false"}, func(o *server.Options) { o.Reading.DotFiles = true }},
		"without effect": {false, []string{"REDIS_URL=redis:6379", "CACHE_KEY_PREFIX=a"}, func(*server.Options) {}},
		"empty is unset": {false, []string{"SHADOW_MODE=", "GRPC_MAX_CONNECTION_AGE=", "DEBUG_PORT="}, func(*server.Options) {}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			want, cmd := in, newRatelimit(&process{})
			if c.beside {
				want, cmd = beside, newServe(&process{})
			}
			c.want(&want)
			r := newRefSettings(c.environ, !c.beside, c.beside)
			s, err := readSettings(cmd, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.take(s); err != nil {
				t.Fatal(err)
			}
			got := own
			if err := r.options(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The name of the program decides what it is, unless it is told a verb.
func TestVerbOf(t *testing.T) {
	for _, c := range []struct {
		name       string
		args, want []string
	}{
		{"/usr/bin/weir", []string{"serve"}, []string{"serve"}},
		{"/usr/bin/weir", nil, nil},
		{"/bin/ratelimit", nil, []string{"ratelimit"}},
		{"ratelimit.exe", nil, []string{"ratelimit"}},
		{"/bin/ratelimit", []string{"--compat=ratelimit"}, []string{"ratelimit", "--compat=ratelimit"}},
		{"/bin/ratelimit", []string{"/etc/limits"}, []string{"ratelimit", "/etc/limits"}},
		{"/bin/ratelimit", []string{"version"}, []string{"version"}},
		{"/bin/ratelimit", []string{"ratelimit", "--help"}, []string{"ratelimit", "--help"}},
		{"/opt/ratelimit/weir", nil, nil},
	} {
		p := &process{name: c.name, args: c.args}
		if diff := cmp.Diff(c.want, verbOf(newRoot(p), p)); diff != "" {
			t.Errorf("%s %q (-want +got):\n%s", c.name, c.args, diff)
		}
	}
}

// What a process that was killed left behind is replaced; what another serves at, or what
// is no socket, is not.
func TestListenSocket(t *testing.T) {
	t.Chdir(t.TempDir())
	l, err := listenSocket("s")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket("s"); err == nil {
		t.Error("a socket that is in use is taken")
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as if it had been killed
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = listenSocket("s"); err != nil {
		t.Fatalf("what was left behind: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("f", []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket("f"); err == nil {
		t.Error("a file is replaced")
	}
}

// weir's own services are closed where weir stands in, unless somebody asks for plain text.
func TestWhoStandsInClosesItsOwnServices(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(file, []byte("server: {insecure_plaintext: true}\nquotas: [{name: a, limits: {requests_per_minute: 5}}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		standsIn      bool
		args, environ []string
		want          bool
	}{
		"stands in":          {true, nil, nil, true},
		"a flag":             {true, []string{"--insecure-plaintext"}, nil, false},
		"a flag against it":  {true, []string{"--insecure-plaintext=false"}, nil, true},
		"a variable":         {true, nil, []string{"WEIR_INSECURE_PLAINTEXT=true"}, false},
		"a file":             {true, []string{file}, nil, false},
		"serve, as the same": {false, nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			f, cmd, p := newServeFlags(), new(cobra.Command), &process{stderr: io.Discard}
			f.add(cmd)
			if err := cmd.ParseFlags(c.args); err != nil {
				t.Fatal(err)
			}
			s, err := readSettings(cmd, c.environ, cmd.Flags().Args())
			if err != nil {
				t.Fatal(err)
			}
			f.reference = newRefSettings(c.environ, c.standsIn, !c.standsIn)
			loaded, log, err := f.prepare(cmd, s, p)
			if err != nil {
				t.Fatal(err)
			}
			o := f.options(s, loaded, nil, log)
			if err := f.reference.options(&o); err != nil {
				t.Fatal(err)
			}
			if o.CloseOwn != c.want {
				t.Errorf("closed: %t, want %t", o.CloseOwn, c.want)
			}
		})
	}
}
