package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-project/weir/config/xds"
)

// lookupIn looks variables up in a map, as the environment is looked up in.
func lookupIn(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

func TestXDSFromEnvironment(t *testing.T) {
	for name, c := range map[string]struct {
		vars map[string]string
		want xds.Options
		on   bool
	}{
		"nothing":               {nil, xds.Options{}, false},
		"files":                 {map[string]string{"CONFIG_TYPE": "FILE", "CONFIG_GRPC_XDS_SERVER_URL": "not looked at"}, xds.Options{}, false},
		"an empty type":         {map[string]string{"CONFIG_TYPE": ""}, xds.Options{}, false},
		"defaults":              {map[string]string{"CONFIG_TYPE": "GRPC_XDS_SOTW"}, xds.Options{}, true},
		"empty, and as default": {map[string]string{"CONFIG_TYPE": "grpc_xds_sotw", "CONFIG_GRPC_XDS_NODE_ID": "", "XDS_CLIENT_BACKOFF_RANDOM_FACTOR": "0.5", "XDS_CLIENT_BACKOFF_JITTER": "true", "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES": "0", "CONFIG_GRPC_XDS_CLIENT_TLS_CERT": "/unused"}, xds.Options{}, true},
		"as Envoy Gateway sets them": {map[string]string{
			"CONFIG_TYPE": "GRPC_XDS_SOTW", "CONFIG_GRPC_XDS_SERVER_URL": "envoy-gateway:18001", "CONFIG_GRPC_XDS_NODE_ID": "envoy-ratelimit",
			"CONFIG_GRPC_XDS_SERVER_USE_TLS": "true", "CONFIG_GRPC_XDS_CLIENT_TLS_CERT": "/certs/tls.crt", "CONFIG_GRPC_XDS_CLIENT_TLS_KEY": "/certs/tls.key",
			"CONFIG_GRPC_XDS_SERVER_TLS_CACERT": "/certs/ca.crt", "FORCE_START_WITHOUT_INITIAL_CONFIG": "true",
		}, xds.Options{
			Server: "envoy-gateway:18001", NodeID: "envoy-ratelimit", StartWithout: true,
			TLS: xds.TLS{On: true, CertFile: "/certs/tls.crt", KeyFile: "/certs/tls.key", CAFile: "/certs/ca.crt"},
		}, true},
		"everything": {map[string]string{
			"CONFIG_TYPE": "GRPC_XDS_SOTW", "CONFIG_GRPC_XDS_NODE_METADATA": "region=eu, zone=a=b,", "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL": "500ms",
			"CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS": "x-team:edge, x-token:a:b", "CONFIG_GRPC_XDS_SERVER_USE_TLS": "1", "CONFIG_GRPC_XDS_SERVER_TLS_SAN": "control",
			"XDS_CLIENT_BACKOFF_INITIAL_INTERVAL": "1s", "XDS_CLIENT_BACKOFF_MAX_INTERVAL": "2m", "XDS_CLIENT_BACKOFF_RANDOM_FACTOR": "1.5",
			"XDS_CLIENT_BACKOFF_JITTER": "false", "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES": "1048576", "FORCE_START_WITHOUT_INITIAL_CONFIG": "0",
		}, xds.Options{
			Metadata: map[string]string{"region": "eu", "zone": "a=b"}, Headers: []xds.Header{{Name: "x-team", Value: "edge"}, {Name: "x-token", Value: "a:b"}},
			TLS: xds.TLS{On: true, ServerName: "control"}, ConnectInterval: 500 * time.Millisecond, InitialInterval: time.Second, MaxInterval: 2 * time.Minute,
			Growth: 1.5, Steady: true, MaxMessageBytes: 1 << 20,
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, on, err := xdsFromEnvironment(lookupIn(c.vars))
			if err != nil || on != c.on {
				t.Fatalf("got %v, %v, want %v", on, err, c.on)
			}
			if on {
				c.want.Version = thisBuild().Version
				if c.want.Metadata == nil {
					c.want.Metadata = map[string]string{}
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if _, err := xds.New(got, nil); err != nil {
				t.Errorf("no client of it: %v", err)
			}
		})
	}
}

// TestXDSVariablesThatAreWrong: all are named at once.
func TestXDSVariablesThatAreWrong(t *testing.T) {
	_, on, err := xdsFromEnvironment(lookupIn(map[string]string{
		"CONFIG_TYPE": "GRPC_XDS_SOTW", "CONFIG_GRPC_XDS_SERVER_URL": "http://control:18000", "CONFIG_GRPC_XDS_NODE_METADATA": "region",
		"CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL": "3", "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS": "grpc-timeout:1S", "CONFIG_GRPC_XDS_SERVER_USE_TLS": "yes",
		"XDS_CLIENT_BACKOFF_INITIAL_INTERVAL": "-1s", "XDS_CLIENT_BACKOFF_MAX_INTERVAL": "25h", "XDS_CLIENT_BACKOFF_RANDOM_FACTOR": "NaN",
		"XDS_CLIENT_BACKOFF_JITTER": "perhaps", "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES": "4MB", "FORCE_START_WITHOUT_INITIAL_CONFIG": "maybe",
	}))
	want := []string{
		`CONFIG_GRPC_XDS_SERVER_URL="http://control:18000": expected host:port, such as localhost:18000`,
		`CONFIG_GRPC_XDS_NODE_METADATA="region": expected pairs such as region=eu,zone=a`,
		`CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS="grpc-timeout:1S": expected headers such as x-team:edge,x-token:abc: the header grpc-timeout belongs to gRPC, expected another`,
		`FORCE_START_WITHOUT_INITIAL_CONFIG="maybe": expected true or false`,
		`CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL="3": expected a duration from 1ms to 24h, such as 10s`,
		`XDS_CLIENT_BACKOFF_INITIAL_INTERVAL="-1s": expected a duration from 1ms to 24h, such as 10s`,
		`XDS_CLIENT_BACKOFF_MAX_INTERVAL="25h": expected a duration from 1ms to 24h, such as 10s`,
		`XDS_CLIENT_BACKOFF_RANDOM_FACTOR="NaN": expected a number from 0 to 100; waits grow by it if it is above 1, and else by 2`,
		`XDS_CLIENT_BACKOFF_JITTER="perhaps": expected true or false`,
		`XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES="4MB": expected a number of bytes from 1 to 1073741824, or 0 for the default`,
		`CONFIG_GRPC_XDS_SERVER_USE_TLS="yes": expected true or false`,
	}
	if err == nil || !on {
		t.Fatalf("got %v, %v", on, err)
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for want, vars := range map[string]map[string]string{
		`CONFIG_TYPE="GRPC_XDS_DELTA": expected FILE or GRPC_XDS_SOTW`:                                                           {"CONFIG_TYPE": "GRPC_XDS_DELTA"},
		`CONFIG_GRPC_XDS_CLIENT_TLS_KEY="": expected a file, since CONFIG_GRPC_XDS_CLIENT_TLS_CERT is set: they need each other`: {"CONFIG_TYPE": "GRPC_XDS_SOTW", "CONFIG_GRPC_XDS_SERVER_USE_TLS": "t", "CONFIG_GRPC_XDS_CLIENT_TLS_CERT": "/a"},
		`CONFIG_GRPC_XDS_NODE_METADATA="a=1,a=2": expected pairs such as region=eu,zone=a: a is given twice`:                     {"CONFIG_TYPE": "GRPC_XDS_SOTW", "CONFIG_GRPC_XDS_NODE_METADATA": "a=1,a=2"},
	} {
		if _, _, err := xdsFromEnvironment(lookupIn(vars)); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
