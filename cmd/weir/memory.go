package main

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// availableMemory returns the bytes that this process may use: the machine's, or
// less if a control group says so. It is 0 where that is unknown.
func availableMemory(root string) uint64 {
	memory := machineMemory(filepath.Join(root, "proc/meminfo"))
	for _, file := range groupFiles(root) {
		if limit := readBytes(file); limit > 0 && (memory == 0 || limit < memory) {
			memory = limit
		}
	}
	return memory
}

// groupFiles returns the files that may hold a limit of this process's control
// group, of version 2 and of version 1, as seen inside a container and outside.
func groupFiles(root string) []string {
	files := []string{
		filepath.Join(root, "sys/fs/cgroup/memory.max"),
		filepath.Join(root, "sys/fs/cgroup/memory/memory.limit_in_bytes"),
	}
	b, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return files
	}
	for line := range strings.Lines(string(b)) {
		if _, group, ok := strings.Cut(strings.TrimSpace(line), "0::"); ok {
			// A limit of any group above holds too.
			for dir := group; dir != "/" && dir != "." && dir != ""; dir = filepath.Dir(dir) {
				files = append(files, filepath.Join(root, "sys/fs/cgroup", dir, "memory.max"))
			}
		}
	}
	return files
}

// readBytes returns the number in a file; 0 if there is none, as for the word max.
func readBytes(file string) uint64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// machineMemory returns MemTotal of a meminfo file, in bytes.
func machineMemory(file string) uint64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseUint(fields[1], 10, 54)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
