package ratelimitstats

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"time"
)

// The defaults, those of envoyproxy/ratelimit.
const (
	// DefaultNearLimitRatio is Options.NearLimitRatio where nobody says otherwise.
	DefaultNearLimitRatio = 0.8
	// DefaultFlushInterval is Options.FlushInterval if that is 0.
	DefaultFlushInterval = 10 * time.Second
	// DefaultPrometheusAddr and DefaultPrometheusPath are where Prometheus may ask.
	DefaultPrometheusAddr = ":9090"
	DefaultPrometheusPath = "/metrics"
)

// Options say what is counted and where the counts go: exactly one of Statsd, DogStatsd,
// Prometheus and Writer is set.
type Options struct {
	// NearLimitRatio, from 0 to 1, is the part of a limit from which on hits are near it.
	NearLimitRatio float32
	// Tags are a part of every metric. Those without a key or a value are left out.
	Tags map[string]string
	// FlushInterval is how often counts are sent. Prometheus asks when it likes.
	FlushInterval time.Duration
	Statsd        *Statsd
	DogStatsd     *DogStatsd
	Prometheus    *Prometheus
	// Writer gets the lines that a statsd server would.
	Writer io.Writer
	// Logger is told what cannot be sent, and why. Nil: slog.Default.
	Logger *slog.Logger
}

// Statsd is a statsd server. Its tags are a part of the names, as `.__key=value`.
type Statsd struct {
	// Network is tcp or udp, or either followed by 4 or 6.
	Network string
	// Addr is host:port.
	Addr string
}

// DogStatsd is an agent that understands tags, over UDP.
type DogStatsd struct {
	// Addr is host:port.
	Addr string
	// Mogrifiers make tags of parts of names. The first whose pattern matches is used.
	Mogrifiers []*Mogrifier
}

// Prometheus is a port where Prometheus asks.
type Prometheus struct {
	// Addr is host:port, and Path the path. Empty means the defaults.
	Addr, Path string
	// Listener is used instead of Addr if it is set. It is closed in the end.
	Listener net.Listener
	// Mapping makes names and labels of the names of statsd. Nil: the default one.
	Mapping *Mapping
	// Milliseconds shows response times as they were in early versions of
	// envoyproxy/ratelimit: in milliseconds, under a name that ends in seconds. A mapping
	// that is given says itself what it scales.
	Milliseconds bool
}

// sink opens where the counts go.
func (o Options) sink() (sink, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.FlushInterval == 0 {
		o.FlushInterval = DefaultFlushInterval
	}
	given := 0
	for _, is := range []bool{o.Statsd != nil, o.DogStatsd != nil, o.Prometheus != nil, o.Writer != nil} {
		if is {
			given++
		}
	}
	switch tags := sortTags(o.Tags); {
	case given != 1:
		return nil, errors.New("ratelimitstats: set exactly one of Options.Statsd, DogStatsd, Prometheus and Writer")
	case o.FlushInterval < 0:
		return nil, errors.New("ratelimitstats: Options.FlushInterval is above 0, or 0 for the default")
	case o.Statsd != nil:
		return newSender(o.Statsd.Network, o.Statsd.Addr, plainLines(tags), o.FlushInterval, o.Logger), nil
	case o.DogStatsd != nil:
		return newSender("udp", o.DogStatsd.Addr, dogLines(tags, o.DogStatsd.Mogrifiers), o.FlushInterval, o.Logger), nil
	case o.Prometheus != nil:
		return newScrape(*o.Prometheus, tags, o.Logger)
	default:
		return &writer{to: o.Writer, lines: plainLines(tags), every: o.FlushInterval, log: o.Logger}, nil
	}
}
