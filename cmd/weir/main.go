// Command weir decides, for many programs that share one upstream quota, which call
// may be sent now. `weir serve` is the daemon; the other verbs check, explain and
// show what it does.
//
// Exit codes: 0 fine, 1 failed at run time, 2 used wrongly, 3 configuration invalid.
package main

import (
	"io"
	"os"
)

func main() {
	os.Exit(run(&process{
		name:    os.Args[0],
		args:    os.Args[1:],
		environ: os.Environ(),
		stdout:  os.Stdout,
		stderr:  os.Stderr,
	}))
}

// process is what the world outside gives a command.
type process struct {
	name    string // of the program, as it was started
	args    []string
	environ []string
	stdout  io.Writer
	stderr  io.Writer
}

// run runs the command that p.args names and returns the exit code.
func run(p *process) int {
	root := newRoot(p)
	root.SetArgs(verbOf(root, p))
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	cmd, err := root.ExecuteC()
	if err == nil {
		return exitFine
	}
	return report(p.stderr, cmd, err)
}
