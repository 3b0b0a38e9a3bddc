//go:build !linux

package harness

import "syscall"

// attributes make a process the head of a group of its own.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
