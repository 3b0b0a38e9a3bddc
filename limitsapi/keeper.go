package limitsapi

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/weir-project/weir/provider"
)

// The pace of a Keeper.
const (
	// every is how often what is known is read again.
	every = time.Hour
	// soon is how long after the first failure at the start, where both may be starting;
	// that doubles with each that follows, up to retry.
	soon  = time.Second
	retry = 5 * time.Minute
	// spread is the part of a wait by which it is longer, at random: many that were
	// started together do not go on asking together.
	spread = 0.1
)

// Keeper keeps what a provider grants up to date.
type Keeper struct {
	// Client is whom to ask.
	Client *Client
	// Apply takes what was read. It is called from Run's goroutine.
	Apply func([]provider.Granted) error
	// Logger gets a line when reading begins to work, and when it ceases to.
	Logger *slog.Logger

	chance func() float64 // in place of rand.Float64, for tests
}

// Run asks now and then every hour, until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	chance := k.chance
	if chance == nil {
		chance = rand.Float64
	}
	said := "nothing yet"
	again := soon
	for {
		state := k.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if state != said {
			k.say(state)
			said = state
		}
		wait := every
		if state == working {
			again = retry
		} else {
			wait, again = again, min(2*again, retry)
		}
		wait += time.Duration(chance() * spread * float64(wait))
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// working is the state in which nothing is wrong; the others are what is.
const working = ""

// once asks and applies, and returns what is wrong.
func (k *Keeper) once(ctx context.Context) string {
	granted, err := k.Client.Granted(ctx)
	if err == nil && len(granted) > 0 {
		err = k.Apply(granted)
	}
	switch {
	case err != nil:
		return err.Error()
	case len(granted) == 0:
		return "the answer names no class of models"
	}
	return working
}

func (k *Keeper) say(state string) {
	if state == working {
		k.Logger.Info("the provider's limits are read, and again every hour", slog.String("provider", "anthropic"))
		return
	}
	k.Logger.Warn("the provider's limits cannot be read, what is known stays in force",
		slog.String("provider", "anthropic"), slog.String("error", state))
}
