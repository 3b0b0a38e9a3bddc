package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limitsapi"
	"github.com/weir-project/weir/provider"
)

// The variables by which Anthropic's own tools know the same.
const (
	envAdminKey = "ANTHROPIC_ADMIN_KEY"
	envBaseURL  = "ANTHROPIC_BASE_URL"
)

// granter takes what a provider grants.
type granter interface {
	Grant([]config.Grant) error
}

// keepGrants reads what Anthropic grants, if the environment has a key for that, until
// the returned function is called. Nothing waits for it.
func keepGrants(environ []string, to granter, log *slog.Logger) (stop func()) {
	key := strings.TrimSpace(variable(environ, envAdminKey))
	if key == "" {
		return func() {}
	}
	client, err := limitsapi.New(variable(environ, envBaseURL), key, nil)
	if err != nil {
		log.Warn("the provider's limits are not read", "variable", envBaseURL, "error", err)
		return func() {}
	}
	keeper := &limitsapi.Keeper{
		Client: client, Logger: log,
		Apply: func(granted []provider.Granted) error {
			grants := make([]config.Grant, len(granted))
			for i, g := range granted {
				grants[i] = config.Grant(g)
			}
			return to.Grant(grants)
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		keeper.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// variable returns a variable of the environment.
func variable(environ []string, name string) string {
	for _, e := range environ {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}
