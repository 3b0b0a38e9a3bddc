package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/config/xds"
)

// remindEvery is how often it is logged that nothing has come yet.
const remindEvery = 30 * time.Second

// controlPlane brings the configuration of a control plane into a server, also before
// there is one: start, first, then the server, then attach; and stop at the end. It is
// safe for concurrent use. A nil one is none.
type controlPlane struct {
	client   *xds.Client
	options  xds.Options
	reading  config.Options
	paths    []string
	log      *slog.Logger
	stopped  context.CancelFunc
	ended    sync.WaitGroup
	begun    chan *config.Loaded // the first configuration, once
	spoken   bool                // there was a first response; only of the client's goroutine
	invalid  error               // why that is not what was begun with; set before begun
	attached chan struct{}       // closed when to is set
	to       xds.Sink
}

// begin returns the configuration to begin with, and the control plane that it is from;
// loaded and nil if there is none. Nothing at all means that the process was told to stop
// before there was one.
func (r *refSettings) begin(ctx context.Context, s *settings, loaded *config.Loaded, signals *signals, log *slog.Logger) (*controlPlane, *config.Loaded, error) {
	if !r.controlled() {
		return nil, loaded, nil
	}
	c, err := startControlPlane(r.control, r.reading, s.paths, log)
	if err != nil {
		return nil, nil, err
	}
	ctx, release := signals.until(ctx)
	first, err := c.first(ctx)
	if stopped := release(); stopped || err != nil {
		c.stop()
		return nil, nil, nil
	}
	return c, first, nil
}

// startControlPlane begins to ask the control plane. What it says joins the files that
// paths name, of which there may be none. The error is that of the files, or says which
// option is wrong.
func startControlPlane(o xds.Options, reading config.Options, paths []string, log *slog.Logger) (*controlPlane, error) {
	o.Logger = log
	c := &controlPlane{
		options: o, reading: reading, paths: paths, log: log,
		begun: make(chan *config.Loaded, 1), attached: make(chan struct{}),
	}
	before, err := reading.LoadBefore(paths)
	if err != nil {
		return nil, err
	}
	if o.StartWithout {
		c.spoken = true
		c.begun <- before
	}
	if c.client, err = xds.New(o, c); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.stopped = cancel
	c.ended.Go(func() { _ = c.client.Run(ctx) }) // it ends when it is told to, and says only that
	return c, nil
}

// first returns the configuration to begin with: the control plane's first one. Where
// that is invalid it is one that is Missing, or holds what the files say; where the
// process is to start without, that too, and at once. The error is ctx's.
func (c *controlPlane) first(ctx context.Context) (*config.Loaded, error) {
	remind := time.NewTicker(remindEvery)
	defer remind.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case l := <-c.begun:
			return l, nil
		case <-remind.C:
			c.log.Warn("waiting for the first configuration from the control plane: no port is open until then ("+envForceStart+"=true does not wait)",
				slog.String("server", c.options.Server), slog.String("node", c.options.NodeID))
		}
	}
}

// attach names the server that has begun with the first configuration, and that gets
// those that follow. It is called once.
func (c *controlPlane) attach(to xds.Sink) {
	if c == nil {
		return
	}
	if c.invalid != nil {
		to.Refused(c.invalid)
	}
	c.to = to
	close(c.attached)
}

// collectors are the metrics of the client.
func (c *controlPlane) collectors() []prometheus.Collector {
	if c == nil {
		return nil
	}
	return []prometheus.Collector{c.client}
}

// stop ends the client and waits for it.
func (c *controlPlane) stop() {
	if c != nil {
		c.stopped()
		c.ended.Wait()
	}
}

// Put implements xds.Sink. Before there is a server, the first resources become what it
// begins with, and are in force when it has.
func (c *controlPlane) Put(ctx context.Context, resources []*ratelimitv3.RateLimitConfig) error {
	if !c.spoken {
		c.spoken = true
		l, err := c.reading.LoadResources(c.paths, resources, nil)
		if err != nil {
			c.beginWithout(err)
			return err
		}
		c.begun <- l
		return c.await(ctx)
	}
	if err := c.await(ctx); err != nil {
		return err
	}
	return c.to.Put(ctx, resources)
}

// Refused implements xds.Sink.
func (c *controlPlane) Refused(err error) {
	if !c.spoken {
		c.spoken = true
		c.beginWithout(err)
		return
	}
	select {
	case <-c.attached:
		c.to.Refused(err)
	default: // the log has it, and the server gets the first one
	}
}

// beginWithout lets the server begin with what there is without the control plane, whose
// first configuration was invalid.
func (c *controlPlane) beginWithout(invalid error) {
	c.invalid = invalid
	l, err := c.reading.LoadBefore(c.paths)
	if err != nil {
		l = c.reading.Nothing() // the files were valid a moment ago; the server watches them
		l.Missing = true
	}
	c.begun <- l
}

// await waits for the server.
func (c *controlPlane) await(ctx context.Context) error {
	select {
	case <-c.attached:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
