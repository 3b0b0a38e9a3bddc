package main

import (
	"testing"
	"time"
)

func TestWhatOthersUsedIsWhatIsNotOurs(t *testing.T) {
	before := usage{all: 10 * time.Second, own: 2 * time.Second}
	after := usage{all: 25 * time.Second, own: 12 * time.Second}
	if got := others(before, after, 10*time.Second, 2); got != 0.25 {
		t.Errorf("got %v, want 5 s of 20 s", got)
	}
	if got := others(before, usage{all: 11 * time.Second, own: 4 * time.Second}, 10*time.Second, 2); got != 0 {
		t.Errorf("got %v, want 0: the clocks' ticks differ", got)
	}
}

func TestCoreRowsJudgeTheMedianAndEveryAllocation(t *testing.T) {
	const out = `goos: linux
BenchmarkDecide/charges=1/keys=1k/uniform 	 4354365	       250.0 ns/op	       0 B/op	       0 allocs/op
BenchmarkDecide/charges=1/keys=1k/uniform 	 4354365	       350.0 ns/op	       0 B/op	       0 allocs/op
BenchmarkDecide/charges=1/keys=1k/uniform 	 4354365	       290.0 ns/op	       0 B/op	       0 allocs/op
BenchmarkDecide/charges=4/keys=1k/zipf    	 1000000	       900 ns/op	       8 B/op	       1 allocs/op
BenchmarkReport                           	 1000000	      1700 ns/op	       8 B/op	       0 allocs/op
PASS
`
	rows, err := coreRows(out)
	if err != nil {
		t.Fatal(err)
	}
	want := []row{
		{"core, Decide/charges=1/keys=1k/uniform", "300 ns, 0 allocations", "290 ns (250–350), 0 allocations", kept},
		{"core, Decide/charges=4/keys=1k/zipf", "1000 ns, 0 allocations", "900 ns (900–900), 1 allocations", missed},
		{"core, Report", "", "1700 ns (1700–1700), 0 allocations", shown},
	}
	if len(rows) != len(want) {
		t.Fatalf("got %d rows, want %d", len(rows), len(want))
	}
	for i := range want {
		if rows[i] != want[i] {
			t.Errorf("row %d: got %+v, want %+v", i, rows[i], want[i])
		}
	}
	if _, err := coreRows("PASS\n"); err == nil {
		t.Error("no benchmarks: want an error")
	}
}
