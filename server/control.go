package server

import (
	"context"
	"errors"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
)

// Put puts in force all resources of a control plane, in place of those before, and
// beside what the watched files say. It returns when they are in force, or why they
// cannot be: then nothing changes. It keeps resources.
func (s *Server) Put(_ context.Context, resources []*ratelimitv3.RateLimitConfig) error {
	if s.stop.Err() != nil {
		return errors.New("server: stopped")
	}
	err := s.reloader.Put(resources)
	if err != nil {
		s.Refused(err)
	}
	return err
}

// Refused notes that what the control plane said last is not in force. Who asked the
// control plane logs it.
func (s *Server) Refused(err error) {
	s.reloader.Refused() // before the lock, which it holds when it applies
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.noteRefusal(err.Error())
}

// noteRefusal keeps why the latest configuration is not in force. The caller holds
// reloading.
func (s *Server) noteRefusal(text string) {
	s.lastError.Store(&text)
	s.d.metrics.loadFailed()
}
