// Command report measures every claim about weir's speed and memory and prints each
// beside its bar. It starts weir and the echo on one core, and itself with all load
// on another.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pinned marks, in the environment, that taskset has been applied.
const pinned = "WEIR_BENCH_PINNED"

func main() {
	e := &bench{}
	flag.BoolVar(&e.full, "full", false, "longer runs and more rounds: about 15 minutes instead of 2")
	flag.IntVar(&e.serverCore, "server-core", 0, "where the servers run")
	flag.IntVar(&e.loadCore, "load-core", 1, "where the load runs")
	flag.StringVar(&e.bin, "bin", "bin", "the directory with weir and echo")
	flag.StringVar(&e.root, "root", "..", "the directory of weir's own module")
	only := flag.String("only", "", "measure only these sections, with commas between: "+strings.Join(sectionNames(), ", "))
	flag.Parse()
	if err := run(e, *only); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(b *bench, only string) error {
	if os.Getenv(pinned) == "" {
		return pin(b.loadCore)
	}
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "weir-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b.dir = dir
	defer b.stopAll()
	disturbed, err := watchOthers()
	if err != nil {
		return err
	}
	var rows []row
	var errs []error
	for _, s := range chosen {
		fmt.Fprintf(os.Stderr, "%s %s …\n", time.Now().Format(time.TimeOnly), s.name)
		got, err := s.measure(b)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
		}
		rows = append(rows, got...)
		b.stopAll()
	}
	printTable(os.Stdout, rows)
	fmt.Fprintf(os.Stdout, "\n%s\n", disturbed())
	return errors.Join(errs...)
}

// pin starts this program anew on one core.
func pin(core int) error {
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := append([]string{"taskset", "-c", strconv.Itoa(core), self}, os.Args[1:]...)
	return syscall.Exec(taskset, args, append(os.Environ(), pinned+"=1"))
}

// section is a group of claims that are measured together.
type section struct {
	name    string
	measure func(*bench) ([]row, error)
}

func sections() []section {
	return []section{
		{"core", measureCore},
		{"rls", measureRLS},
		{"llm", measureLLM},
		{"session", measureSession},
		{"rules", measureRules},
		{"latency", measureLatency},
		{"keys", measureKeys},
		{"reload", measureReload},
	}
}

func sectionNames() []string {
	var names []string
	for _, s := range sections() {
		names = append(names, s.name)
	}
	return names
}

// choose returns the sections that a list names; all if it is empty.
func choose(only string) ([]section, error) {
	if only == "" {
		return sections(), nil
	}
	var chosen []section
	for name := range strings.SplitSeq(only, ",") {
		found := false
		for _, s := range sections() {
			if s.name == name {
				chosen, found = append(chosen, s), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no section %q: there are %s", name, strings.Join(sectionNames(), ", "))
		}
	}
	return chosen, nil
}
