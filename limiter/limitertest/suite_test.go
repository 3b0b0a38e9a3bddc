package limitertest_test

import (
	"testing"

	"github.com/weir-project/weir/limiter/limitertest"
)

func TestCore(t *testing.T) { limitertest.Run(t, limitertest.NewBare) }
