package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weir-project/weir/config/xds"
)

// The variables by which envoyproxy/ratelimit is told of its control plane.
const (
	envConfigType = "CONFIG_TYPE"
	// configTypeXDS is its value that means a control plane, and configTypeFile that
	// which means files.
	configTypeXDS  = "GRPC_XDS_SOTW"
	configTypeFile = "FILE"

	envForceStart = "FORCE_START_WITHOUT_INITIAL_CONFIG"

	envXDSNodeID     = "CONFIG_GRPC_XDS_NODE_ID"
	envXDSMetadata   = "CONFIG_GRPC_XDS_NODE_METADATA"
	envXDSServer     = "CONFIG_GRPC_XDS_SERVER_URL"
	envXDSConnect    = "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL"
	envXDSHeaders    = "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS"
	envXDSUseTLS     = "CONFIG_GRPC_XDS_SERVER_USE_TLS"
	envXDSClientCert = "CONFIG_GRPC_XDS_CLIENT_TLS_CERT"
	envXDSClientKey  = "CONFIG_GRPC_XDS_CLIENT_TLS_KEY"
	envXDSServerCA   = "CONFIG_GRPC_XDS_SERVER_TLS_CACERT"
	envXDSServerSAN  = "CONFIG_GRPC_XDS_SERVER_TLS_SAN"
	envXDSInitial    = "XDS_CLIENT_BACKOFF_INITIAL_INTERVAL"
	envXDSMax        = "XDS_CLIENT_BACKOFF_MAX_INTERVAL"
	envXDSFactor     = "XDS_CLIENT_BACKOFF_RANDOM_FACTOR"
	envXDSJitter     = "XDS_CLIENT_BACKOFF_JITTER"
	envXDSMaxMessage = "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES"
)

// xdsFromEnvironment reads what the environment says of a control plane, in the words of
// envoyproxy/ratelimit. The truth value says whether there is one: whether CONFIG_TYPE is
// GRPC_XDS_SOTW. Else the other variables are not looked at. An empty variable is as good
// as none. The error names every variable that cannot be used, one a line, with its value
// and what was expected.
func xdsFromEnvironment(lookup func(string) (string, bool)) (xds.Options, bool, error) {
	v := &variables{lookup: lookup}
	switch kind := v.text(envConfigType); {
	case kind == "" || strings.EqualFold(kind, configTypeFile):
		return xds.Options{}, false, nil
	case !strings.EqualFold(kind, configTypeXDS):
		v.wrong(envConfigType, "FILE or GRPC_XDS_SOTW")
		return xds.Options{}, false, errors.Join(v.errs...)
	}
	o := xds.Options{
		Server:          v.server(envXDSServer),
		NodeID:          v.text(envXDSNodeID),
		Metadata:        v.pairs(envXDSMetadata),
		Headers:         v.headers(envXDSHeaders),
		Version:         thisBuild().Version,
		StartWithout:    v.truth(envForceStart, false),
		ConnectInterval: v.duration(envXDSConnect),
		InitialInterval: v.duration(envXDSInitial),
		MaxInterval:     v.duration(envXDSMax),
		Growth:          v.growth(envXDSFactor),
		Steady:          !v.truth(envXDSJitter, true),
		MaxMessageBytes: v.size(envXDSMaxMessage),
	}
	if v.truth(envXDSUseTLS, false) {
		o.TLS = xds.TLS{
			On: true, CertFile: v.text(envXDSClientCert), KeyFile: v.text(envXDSClientKey),
			CAFile: v.text(envXDSServerCA), ServerName: v.text(envXDSServerSAN),
		}
		v.together(envXDSClientCert, envXDSClientKey)
	}
	return o, true, errors.Join(v.errs...)
}

// variables reads the environment and collects what is wrong with it.
type variables struct {
	lookup func(string) (string, bool)
	errs   []error
}

// wrong notes a variable that cannot be used.
func (v *variables) wrong(name, expected string) {
	v.errs = append(v.errs, usagef("%s=%q: expected %s", name, v.text(name), expected))
}

func (v *variables) text(name string) string {
	value, _ := v.lookup(name)
	return strings.TrimSpace(value)
}

func (v *variables) truth(name string, otherwise bool) bool {
	text := v.text(name)
	if text == "" {
		return otherwise
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		v.wrong(name, "true or false")
	}
	return b
}

// longestInterval bounds what cannot be meant.
const longestInterval = 24 * time.Hour

// duration reads a length of time; 0 stands for the default.
func (v *variables) duration(name string) time.Duration {
	text := v.text(name)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Millisecond || d > longestInterval {
		v.wrong(name, "a duration from 1ms to 24h, such as 10s")
		return 0
	}
	return d
}

// growth reads the factor by which waits grow. The variable is called a random factor,
// with the default 0.5; with that, or anything up to 1, waits would never grow.
func (v *variables) growth(name string) float64 {
	const most = 100
	text := v.text(name)
	if text == "" {
		return 0
	}
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil || !(f >= 0 && f <= most):
		v.wrong(name, "a number from 0 to 100; waits grow by it if it is above 1, and else by 2")
	case f > 1:
		return f
	}
	return 0
}

func (v *variables) size(name string) int {
	text := v.text(name)
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > xds.LargestMessageBytes {
		v.wrong(name, fmt.Sprintf("a number of bytes from 1 to %d, or 0 for the default", xds.LargestMessageBytes))
	}
	return n
}

func (v *variables) server(name string) string {
	text := v.text(name)
	if text == "" {
		return ""
	}
	if err := xds.CheckServer(text); err != nil {
		v.wrong(name, "host:port, such as localhost:18000")
	}
	return text
}

// items splits a list of pairs; an item without the mark between name and value is wrong.
func (v *variables) items(name, mark, expected string, each func(key, value string) error) {
	for item := range strings.SplitSeq(v.text(name), ",") {
		if strings.TrimSpace(item) == "" {
			continue
		}
		key, value, ok := strings.Cut(item, mark)
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || key == "" {
			v.wrong(name, expected)
			return
		}
		if err := each(key, value); err != nil {
			v.wrong(name, expected+": "+err.Error())
			return
		}
	}
}

func (v *variables) pairs(name string) map[string]string {
	pairs := map[string]string{}
	v.items(name, "=", "pairs such as region=eu,zone=a", func(key, value string) error {
		if _, twice := pairs[key]; twice {
			return fmt.Errorf("%s is given twice", key)
		}
		pairs[key] = value
		return nil
	})
	return pairs
}

func (v *variables) headers(name string) (headers []xds.Header) {
	v.items(name, ":", "headers such as x-team:edge,x-token:abc", func(key, value string) error {
		h := xds.Header{Name: key, Value: value}
		headers = append(headers, h)
		return xds.CheckHeader(h)
	})
	return headers
}

// together says that of two variables none can be without the other.
func (v *variables) together(a, b string) {
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		if v.text(pair[0]) != "" && v.text(pair[1]) == "" {
			v.wrong(pair[1], "a file, since "+pair[0]+" is set: they need each other")
		}
	}
}
