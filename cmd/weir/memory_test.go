package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAvailableMemory(t *testing.T) {
	const meminfo = "MemTotal:        8000000 kB\nMemFree:          100000 kB\n"
	tests := []struct {
		name  string
		files map[string]string
		want  uint64
	}{
		{"nothing is known", nil, 0},
		{"the machine's", map[string]string{"proc/meminfo": meminfo}, 8000000 << 10},
		{"a container's, version 2", map[string]string{
			"proc/meminfo": meminfo, "sys/fs/cgroup/memory.max": "1073741824\n",
		}, 1 << 30},
		{"a container without a limit", map[string]string{
			"proc/meminfo": meminfo, "sys/fs/cgroup/memory.max": "max\n",
		}, 8000000 << 10},
		{"a container's, version 1", map[string]string{
			"proc/meminfo": meminfo, "sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n",
		}, 1 << 29},
		{"version 1 without a limit says a huge number", map[string]string{
			"proc/meminfo": meminfo, "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 8000000 << 10},
		{"a service's, the limit on the group above", map[string]string{
			"proc/meminfo":     meminfo,
			"proc/self/cgroup": "0::/system.slice/weir.service\n",
			"sys/fs/cgroup/system.slice/weir.service/memory.max": "max\n",
			"sys/fs/cgroup/system.slice/memory.max":              "2147483648\n",
		}, 2 << 30},
		{"nonsense is as good as nothing", map[string]string{
			"proc/meminfo": "MemTotal: lots kB\n", "sys/fs/cgroup/memory.max": "-1\n",
		}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range tt.files {
				file := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := availableMemory(root); got != tt.want {
				t.Errorf("availableMemory = %d, want %d", got, tt.want)
			}
		})
	}
}
