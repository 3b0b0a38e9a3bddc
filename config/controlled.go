package config

import (
	"slices"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
	"google.golang.org/protobuf/proto"
)

// LoadResources is Load for a process that has a control plane: its resources are read
// like files of envoyproxy/ratelimit, beside the files that paths name. Where there are
// neither, nothing is limited: the built-in plan is for who gives no configuration at
// all. It keeps resources.
func (o Options) LoadResources(paths []string, resources []*ratelimitv3.RateLimitConfig, prev *Loaded) (*Loaded, error) {
	r := &report{}
	s := o.gather(paths, r)
	s.resources, s.controlled = sortResources(resources), true
	return o.build(paths, s, r, prev)
}

// LoadBefore returns what is in force before a control plane has said anything: what
// the files say, or one that is Missing where there are none. It is what LoadResources
// returns for no resources, but for that.
func (o Options) LoadBefore(paths []string) (*Loaded, error) {
	l, err := o.LoadResources(paths, nil, nil)
	if err != nil {
		return nil, err
	}
	l.Missing = len(l.Sources) == 0
	return l, nil
}

// Put puts in force the resources of a control plane, in place of those before, beside
// the files in force: it calls apply with what they amount to, and returns when that has
// returned. If they are those in force already, and none were refused since, nothing is
// called. The error is an [*Error]: then they are not used, and nothing changes. Files on disk that are not valid
// do not stand in the way; they are tried again once other resources are in force. Put
// works with and without a Run. It keeps resources.
func (r *Reloader) Put(resources []*ratelimitv3.RateLimitConfig) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var s snapshot
	if r.current != nil {
		s = r.current.read
		if s.controlled && !r.refused && !r.current.Missing && sameResources(s.resources, sortResources(resources)) {
			return nil
		}
	}
	s.resources, s.controlled = sortResources(resources), true
	next, err := r.options.build(r.paths, s, &report{}, r.current)
	r.refused = err != nil
	if err != nil {
		return err
	}
	r.current = next
	r.apply(next)
	if r.rejected {
		r.Reload()
	}
	return nil
}

// Refused notes that the control plane has sent what could not even be read: the next
// Put calls apply also with the resources in force.
func (r *Reloader) Refused() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = true
}

func sameResources(a, b []*ratelimitv3.RateLimitConfig) bool {
	return slices.EqualFunc(a, b, func(x, y *ratelimitv3.RateLimitConfig) bool { return proto.Equal(x, y) })
}
