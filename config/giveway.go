package config

import (
	"io"
	"runtime"
)

// A large configuration is read while calls are answered. Where there are as many of the
// runtime's processors as threads of work, whoever runs for long keeps calls waiting until
// it is stopped, after 10 ms; so reading gives way every now and then.

// readAtOnce is how many bytes are read before giving way: parsing them takes a fraction of
// a millisecond.
const readAtOnce = 4096

// yielding reads from r, in small parts, and gives way before each.
type yielding struct{ r io.Reader }

func (y yielding) Read(p []byte) (int, error) {
	runtime.Gosched()
	return y.r.Read(p[:min(len(p), readAtOnce)])
}

// rulesAtOnce is how many rules are read before giving way.
const rulesAtOnce = 64

// giveWay gives way before the n-th rule, if it is time.
func giveWay(n int) {
	if n%rulesAtOnce == 0 {
		runtime.Gosched()
	}
}
