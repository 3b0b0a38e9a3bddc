package limiter

import (
	"testing"
	"unsafe"
)

// Rings that are used again are empty, and where all of a chunk are free it takes no
// memory.
func TestRingsAreGivenBack(t *testing.T) {
	var tab table
	for range 3 {
		var used []uint32
		for range 3 * ringChunk {
			i := tab.newRing()
			if *tab.ringAt(i) != (ring{}) {
				t.Fatalf("ring %d is not empty", i)
			}
			tab.ringAt(i)[1] = uint64(i)
			used = append(used, i)
		}
		for n, i := range used {
			if got := tab.ringAt(i)[1]; got != uint64(i) {
				t.Fatalf("ring %d holds what ring %d does", i, got)
			}
			if n > 0 { // one stays in use, and its chunk with it
				tab.freeRing(i)
			}
		}
		chunks := 0
		for _, c := range tab.rings {
			if c != nil {
				chunks++
			}
		}
		if chunks != 1 {
			t.Fatalf("%d chunks are kept for one ring", chunks)
		}
		tab.freeRing(used[0])
	}
	if tab.ringsMade != 3*ringChunk {
		t.Errorf("%d rings were made, want %d", tab.ringsMade, 3*ringChunk)
	}
}

// A counter fills two lines of the cache, and what a descriptor is led by one.
func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(counter{}); n != 128 {
		t.Errorf("a counter has %d bytes, want 128", n)
	}
	if n := unsafe.Offsetof(node{}.shared); n != 64 {
		t.Errorf("a descriptor is led by %d bytes of a node, want 64", n)
	}
}
