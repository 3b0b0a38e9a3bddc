package harness

import "syscall"

// attributes make a process the head of a group of its own, and end it when the
// tests are killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
