package main

import "slices"

// kind is what the text of a variable must be.
type kind uint8

// The kinds, as envoyproxy/ratelimit reads them.
const (
	asText     kind = iota
	asTruth         // what Go's ParseBool takes
	asNumber        // whole, 0 or more
	asPort          // 0 to 65535
	asDuration      // Go's, 0s or more
	asFraction      // 0 to 1
	asWord          // one of words
)

// readBy says who reads a variable, and refuses values that are wrong.
type readBy uint8

// The readers.
const (
	readHere readBy = iota
	readForXDS
	readForStats
)

// refVariable is a variable of envoyproxy/ratelimit. Each one that it knows is in
// refVariables, so that none is ignored in silence.
type refVariable struct {
	name, def string
	is        kind
	words     []string // of asWord; their case does not matter
	by        readBy
	// does says what the variable does in weir.
	does string
	// instead says what weir does where it does nothing with the variable. It is logged
	// when the variable has another value than the default.
	instead string
}

// sentence is what the page of variables says.
func (v *refVariable) sentence() string {
	if v.instead != "" {
		return "No effect: " + v.instead + "."
	}
	return v.does
}

// refGroup is a section of the page of variables.
type refGroup struct {
	title     string
	variables []refVariable
}

// refVariables are all variables of envoyproxy/ratelimit, and what weir does with each.
var refVariables = []refGroup{
	{"Ports", []refVariable{
		{name: "HOST", def: "0.0.0.0", does: "Where HTTP is served: `/json`, `/healthcheck`, and weir's own."},
		{name: "PORT", def: "8080", is: asPort, does: "Its port."},
		{name: "GRPC_HOST", def: "0.0.0.0", does: "Where gRPC is served."},
		{name: "GRPC_PORT", def: "8081", is: asPort, does: "Its port."},
		{name: "GRPC_UDS", does: "A Unix socket to serve gRPC at, instead of `GRPC_HOST` and `GRPC_PORT`. One that was left behind is replaced."},
		{name: "DEBUG_HOST", def: "0.0.0.0", does: "Where `/rlconfig`, `/stats` and `/debug/pprof/` are served, if this or `DEBUG_PORT` is set: weir shows them only to who asks for it."},
		{name: "DEBUG_PORT", def: "6070", is: asPort, does: "Its port."},
		{name: "GRPC_MAX_CONNECTION_AGE", def: "24h", is: asDuration, does: "The age from which a connection takes no new calls; 0 for never."},
		{name: "GRPC_MAX_CONNECTION_AGE_GRACE", def: "1h", is: asDuration, does: "How long calls under way on it may then take; 0 for any time."},
		{name: "GRPC_SERVER_USE_TLS", def: "false", is: asTruth, does: "Serves gRPC over TLS, 1.2 or newer. HTTP stays without."},
		{name: "GRPC_SERVER_TLS_CERT", does: "The certificate, as a PEM file; read again when it changes."},
		{name: "GRPC_SERVER_TLS_KEY", does: "Its key, as a PEM file; read again when it changes."},
		{name: "GRPC_CLIENT_TLS_CACERT", does: "A PEM file of the authorities that clients' certificates must be signed by. Clients without one are refused."},
		{name: "GRPC_SERVER_TLS_CA_CERT", does: "The same, by the name that Envoy Gateway uses. `GRPC_CLIENT_TLS_CACERT` wins."},
		{name: "GRPC_CLIENT_TLS_SAN", does: "A name that clients' certificates must hold, as that of a host or an address."},
		{
			name: "LOG_LEVEL", def: "WARN", is: asWord, words: []string{"trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"},
			does: "The least important lines to log. `trace` is as `debug`; `fatal` and `panic` are as `error`.",
		},
		{name: "LOG_FORMAT", def: "text", is: asWord, words: []string{"text", "json"}, does: "How to log."},
	}},
	{"Configuration", []refVariable{
		{name: "CONFIG_TYPE", def: "FILE", is: asWord, words: []string{"FILE", "GRPC_XDS_SOTW"}, does: "Where rules come from: files, or a control plane."},
		{
			name: "FORCE_START_WITHOUT_INITIAL_CONFIG", def: "false", is: asTruth, by: readForXDS,
			does: "With `CONFIG_TYPE=GRPC_XDS_SOTW`: does not wait for the first configuration before it opens its ports. With files there is nothing to wait for.",
		},
		{name: "MERGE_DOMAIN_CONFIG", def: "false", is: asTruth, does: "Lets several files add descriptors to one domain."},
		{name: "RUNTIME_ROOT", def: "/srv/runtime_data/current", does: "Rules are in the directory `RUNTIME_ROOT/RUNTIME_SUBDIRECTORY/RUNTIME_APPDIRECTORY` and below. It need not be there yet."},
		{name: "RUNTIME_SUBDIRECTORY", does: "See `RUNTIME_ROOT`. If it is empty there are no rules and everything is allowed, unless `RUNTIME_WATCH_ROOT` is false."},
		{name: "RUNTIME_APPDIRECTORY", def: "config", does: "See `RUNTIME_ROOT`."},
		{name: "RUNTIME_IGNOREDOTFILES", def: "false", is: asTruth, does: "Leaves out files whose names begin with a dot. Directories of such names are never read."},
		{
			name: "RUNTIME_WATCH_ROOT", def: "true", is: asTruth,
			does: "See `RUNTIME_SUBDIRECTORY`. Whatever it says, all changes are noticed: links that are swapped, files that are edited, renamed or removed, directories that come and go.",
		},
		{name: "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", def: "false", is: asTruth, does: "`/healthcheck` and the gRPC health service say that weir is not ready until there has been a valid configuration."},
	}},
	{"Control plane", []refVariable{
		{name: "CONFIG_GRPC_XDS_NODE_ID", def: "default", by: readForXDS, does: "The name under which the control plane is asked."},
		{name: "CONFIG_GRPC_XDS_NODE_METADATA", by: readForXDS, does: "Metadata of the node, as `key=value,key=value`."},
		{name: "CONFIG_GRPC_XDS_SERVER_URL", def: "localhost:18000", by: readForXDS, does: "The control plane's address."},
		{name: "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", def: "3s", is: asDuration, by: readForXDS, does: "The first wait for a control plane that cannot be reached."},
		{name: "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", by: readForXDS, does: "Headers to send with the stream, as `key:value,key:value`."},
		{name: "CONFIG_GRPC_XDS_SERVER_USE_TLS", def: "false", is: asTruth, by: readForXDS, does: "Speaks TLS with the control plane."},
		{name: "CONFIG_GRPC_XDS_CLIENT_TLS_CERT", by: readForXDS, does: "The certificate to show it."},
		{name: "CONFIG_GRPC_XDS_CLIENT_TLS_KEY", by: readForXDS, does: "Its key."},
		{name: "CONFIG_GRPC_XDS_SERVER_TLS_CACERT", by: readForXDS, does: "The authorities that the control plane's certificate must be signed by."},
		{name: "CONFIG_GRPC_XDS_SERVER_TLS_SAN", by: readForXDS, does: "A name that it must hold."},
		{name: "XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", def: "10s", is: asDuration, by: readForXDS, does: "The first wait after a stream has failed."},
		{name: "XDS_CLIENT_BACKOFF_MAX_INTERVAL", def: "60s", is: asDuration, by: readForXDS, does: "The longest wait."},
		{name: "XDS_CLIENT_BACKOFF_RANDOM_FACTOR", def: "0.5", is: asFraction, by: readForXDS, does: "By how much each wait is longer than the one before; below 1, weir's own factor of 2."},
		{name: "XDS_CLIENT_BACKOFF_JITTER", def: "true", is: asTruth, by: readForXDS, does: "Makes waits random, so that replicas do not all come at once."},
		{name: "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", is: asNumber, by: readForXDS, does: "Bounds a response of the control plane."},
	}},
	{"Metrics", []refVariable{
		{name: "DISABLE_STATS", def: "false", is: asTruth, by: readForStats, does: "Sends and shows none of [these figures](ratelimit-metrics.md). weir's own `/metrics` stay."},
		{name: "USE_DOG_STATSD", def: "false", is: asTruth, by: readForStats, does: "Sends figures to DogStatsD, at the address of statsd and over UDP. `USE_STATSD` must be false."},
		{name: "USE_DOG_STATSD_MOGRIFIERS", by: readForStats, does: "The names of rules that make tags of parts of names."},
		{name: "DOG_STATSD_MOGRIFIER_<NAME>_PATTERN", by: readForStats, does: "What the rule of that name applies to."},
		{name: "DOG_STATSD_MOGRIFIER_<NAME>_NAME", by: readForStats, does: "The name that it makes."},
		{name: "DOG_STATSD_MOGRIFIER_<NAME>_TAGS", by: readForStats, does: "The tags that it makes."},
		{name: "USE_STATSD", def: "true", is: asTruth, by: readForStats, does: "Sends figures to statsd. `serve` does so only where it is set."},
		{name: "STATSD_HOST", def: "localhost", by: readForStats, does: "Where statsd is."},
		{name: "STATSD_PORT", def: "8125", is: asPort, by: readForStats, does: "Its port."},
		{name: "STATSD_PROTOCOL", def: "tcp", is: asWord, words: []string{"tcp", "udp"}, by: readForStats, does: "How statsd is spoken to: `tcp` or `udp`."},
		{name: "USE_PROMETHEUS", def: "false", is: asTruth, by: readForStats, does: "Shows figures to Prometheus by the names of envoyproxy/ratelimit. `USE_STATSD` must be false."},
		{name: "PROMETHEUS_ADDR", def: ":9090", by: readForStats, does: "Where."},
		{name: "PROMETHEUS_PATH", def: "/metrics", by: readForStats, does: "Under which path."},
		{name: "PROMETHEUS_MAPPER_YAML", by: readForStats, does: "A mapping file of statsd_exporter, which makes Prometheus' names of statsd's."},
		{name: "PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", def: "false", is: asTruth, by: readForStats, does: "Shows response times in milliseconds."},
		{name: "EXTRA_TAGS", by: readForStats, does: "Tags of all figures, as `key:value,key:value`."},
		{name: "STATS_FLUSH_INTERVAL", def: "10s", is: asDuration, by: readForStats, does: "How often figures are sent."},
		{name: "NEAR_LIMIT_RATIO", def: "0.8", is: asFraction, by: readForStats, does: "The part of a limit from which hits are counted as near it."},
	}},
	{"Limits", []refVariable{
		{
			name: "BACKEND_TYPE", def: "redis", is: asWord, words: []string{"redis", "memcache"},
			instead: "counters live in the memory of this process: they begin at 0 when it starts, and each of several replicas counts for itself",
		},
		{name: "SHADOW_MODE", def: "false", is: asTruth, does: "Lets every request of rules pass, and counts as ever."},
		{name: "QUOTA_MODE", def: "false", is: asTruth, does: "Treats every descriptor as one of `quota_mode`: a request is refused only if all of its descriptors are over."},
		{name: "RESPONSE_DYNAMIC_METADATA", def: "false", is: asTruth, does: "Adds the request, and what the configuration says of it, to answers."},
		{name: "LIMIT_RESPONSE_HEADERS_ENABLED", def: "false", is: asTruth, does: "Adds three headers that tell of the tightest limit."},
		{name: "LIMIT_LIMIT_HEADER", def: "RateLimit-Limit", does: "The header for its amount."},
		{name: "LIMIT_REMAINING_HEADER", def: "RateLimit-Remaining", does: "The header for what is left."},
		{name: "LIMIT_RESET_HEADER", def: "RateLimit-Reset", does: "The header for the seconds until it has its full amount again."},
		{name: "EXPIRATION_JITTER_MAX_SECONDS", def: "300", is: asNumber, instead: "counters in memory end with their windows, all at no cost, so that there is nothing to spread"},
		{name: "LOCAL_CACHE_SIZE_IN_BYTES", def: "0", is: asNumber, instead: "counters are in memory already, and need no cache in front of them; --max-keys bounds them"},
		{name: "CACHE_KEY_PREFIX", instead: "counters are shared with no other process, from whose they would have to be told apart"},
		{
			name: "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", def: "false", is: asTruth,
			instead: "what is refused is never charged; with --compat=ratelimit it always is",
		},
	}},
	{"Redis", redisVariables()},
	{"Memcached", []refVariable{
		{name: "MEMCACHE_HOST_PORT", instead: noMemcached},
		{name: "MEMCACHE_SRV", instead: noMemcached},
		{name: "MEMCACHE_SRV_REFRESH", def: "0", is: asDuration, instead: "no addresses of memcached are looked up"},
		{name: "MEMCACHE_MAX_IDLE_CONNS", def: "2", is: asNumber, instead: "no connections to memcached are kept"},
		{name: "MEMCACHE_TLS", def: "false", is: asTruth, instead: noMemcached},
		{name: "MEMCACHE_TLS_CLIENT_CERT", instead: noMemcached},
		{name: "MEMCACHE_TLS_CLIENT_KEY", instead: noMemcached},
		{name: "MEMCACHE_TLS_CACERT", instead: noMemcached},
		{name: "MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION", def: "false", is: asTruth, instead: noMemcached},
	}},
	{"Tracing", []refVariable{
		{name: "TRACING_ENABLED", def: "false", is: asTruth, does: "Makes a span of each call over gRPC but those for health, in the caller's trace (W3C's headers, or B3's), and sends it over OTLP to where the `OTEL_` variables say."},
		{name: "TRACING_SERVICE_NAME", def: "RateLimit", does: "`service.name` of the spans."},
		{name: "TRACING_SERVICE_NAMESPACE", does: "`service.namespace` of the spans."},
		{name: "TRACING_SERVICE_INSTANCE_ID", does: "`service.instance.id` of the spans; by default one for each start."},
		{name: "TRACING_EXPORTER_PROTOCOL", def: "http", is: asWord, words: []string{"http", "grpc"}, does: "How spans are sent."},
		{name: "TRACING_SAMPLING_RATE", def: "1", is: asFraction, does: "The part of the traces that begin here of which spans are sent; of others their caller decides."},
	}},
}

const (
	noRedis     = "no Redis is asked; counters live in the memory of this process"
	noMemcached = "no memcached is asked; counters live in the memory of this process"
)

// redisVariables are those of the two Redis servers that envoyproxy/ratelimit may have.
func redisVariables() []refVariable {
	const noPool = "no connections to Redis are kept"
	each := []refVariable{
		{name: "SOCKET_TYPE", def: "unix", instead: noRedis},
		{name: "TYPE", def: "SINGLE", is: asWord, words: []string{"SINGLE", "SENTINEL", "CLUSTER"}, instead: noRedis},
		{name: "URL", instead: noRedis},
		{name: "POOL_SIZE", def: "10", is: asNumber, instead: noPool},
		{name: "POOL_ON_EMPTY_BEHAVIOR", def: "WAIT", instead: noPool},
		{name: "AUTH", instead: "no Redis is asked, and nobody is shown this"},
		{name: "SENTINEL_AUTH", instead: "no Redis is asked, and nobody is shown this"},
		{name: "TLS", def: "false", is: asTruth, instead: noRedis},
		{name: "PIPELINE_WINDOW", def: "0", is: asDuration, instead: "decisions wait for no others: there are no commands to be sent together"},
		{name: "PIPELINE_LIMIT", def: "0", is: asNumber, instead: "there are no commands to be sent together"},
		{name: "CLUSTER_PIPELINE_PARALLELISM", def: "1", is: asNumber, instead: "there are no commands to be sent together"},
		{name: "TIMEOUT", def: "10s", is: asDuration, instead: noRedis + ", which answer at once"},
	}
	const first, second = "/var/run/nutcracker/ratelimit.sock", "/var/run/nutcracker/ratelimitpersecond.sock"
	var all []refVariable
	for _, prefix := range []string{"REDIS_", "REDIS_PERSECOND_"} {
		for _, v := range each {
			if v.name == "URL" {
				v.def = map[string]string{"REDIS_": first, "REDIS_PERSECOND_": second}[prefix]
			}
			v.name = prefix + v.name
			all = append(all, v)
		}
	}
	return slices.Concat(all, []refVariable{
		{name: "REDIS_PERSECOND", def: "false", is: asTruth, instead: "limits of a second are counted in memory, as all others are"},
		{name: "REDIS_TLS_CLIENT_CERT", instead: noRedis},
		{name: "REDIS_TLS_CLIENT_KEY", instead: noRedis},
		{name: "REDIS_TLS_CACERT", instead: noRedis},
		{name: "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", def: "false", is: asTruth, instead: noRedis},
		{name: "REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", def: "false", is: asTruth, instead: "health depends on no connection"},
		{name: "REDIS_STARTUP_INITIAL_INTERVAL", def: "1s", is: asDuration, instead: "the start waits for no Redis"},
		{name: "REDIS_STARTUP_MAX_INTERVAL", def: "30s", is: asDuration, instead: "the start waits for no Redis"},
		{name: "REDIS_STARTUP_MAX_ELAPSED_TIME", def: "0", is: asDuration, instead: "the start waits for no Redis"},
	})
}
