package config

import (
	"io"
	"time"
)

// Background is work that is done beside the answering of calls, and keeps none of them
// waiting: it rests as long as it works. Where there are as many processors as threads
// that want them, whoever runs for long has others wait for a time slice of the system,
// which is some milliseconds; who slept a moment before is let in at once. The zero value
// is ready. It is not safe for concurrent use.
type Background struct{ since time.Time }

// workFor is how long work goes on without a rest, and restFor how long a rest is.
const (
	workFor = 200 * time.Microsecond
	restFor = workFor
)

// Rest rests if it is time to. Call it every few dozen microseconds. A nil Background
// never rests: nothing is answered yet.
func (b *Background) Rest() {
	switch {
	case b == nil:
	case b.since.IsZero():
		b.since = time.Now()
	case time.Since(b.since) >= workFor:
		time.Sleep(restFor)
		b.since = time.Now()
	}
}

// readAtOnce is how many bytes are read without a rest: parsing them takes a fraction of
// a millisecond.
const readAtOnce = 4096

// resting reads from r, in small parts, and may rest before each.
type resting struct {
	r io.Reader
	b *Background
}

func (r resting) Read(p []byte) (int, error) {
	r.b.Rest()
	return r.r.Read(p[:min(len(p), readAtOnce)])
}

// rulesAtOnce is how many rules are read without a rest.
const rulesAtOnce = 16

// giveWay rests before the n-th rule, if it is time.
func (b *Background) giveWay(n int) {
	if n%rulesAtOnce == 0 {
		b.Rest()
	}
}
