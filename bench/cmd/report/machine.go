package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is processor time used since some past instant.
type usage struct{ all, own time.Duration }

// machineUsage returns what everybody has used, and what this process and those that
// it started, and that have ended, have.
func machineUsage() (usage, error) {
	var u usage
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return u, fmt.Errorf("/proc/stat begins with %q, want the sum of all processors", line)
	}
	// User, nice, system; then idle and waiting; then interrupts, and what the host took.
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.ParseUint(fields[i], 10, 63)
		if err != nil {
			return u, err
		}
		u.all += time.Duration(n) * time.Second / 100
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var r syscall.Rusage
		if err := syscall.Getrusage(who, &r); err != nil {
			return u, err
		}
		u.own += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return u, nil
}

// others returns the part of the machine that others used between two usages.
func others(before, after usage, elapsed time.Duration, processors int) float64 {
	used := (after.all - before.all) - (after.own - before.own)
	return max(float64(used), 0) / (float64(elapsed) * float64(processors))
}

// watchOthers returns what says, once the servers have ended, how much of the machine
// others used: what was measured meanwhile is worth so much less.
func watchOthers() (func() string, error) {
	begin := time.Now()
	before, err := machineUsage()
	if err != nil {
		return nil, err
	}
	return func() string {
		after, err := machineUsage()
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%s, %d processors; others used %.0f %% of them meanwhile.", runtime.Version(), processors(),
			100*others(before, after, time.Since(begin), processors()))
	}, nil
}

// processors counts those of the machine: this process is bound to one.
func processors() int {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 1
	}
	return max(strings.Count(string(b), "\ncpu"), 1)
}
