package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// ratelimitVerb is the verb that stands in for envoyproxy/ratelimit, and the name of the
// program for which it is the default.
const ratelimitVerb = "ratelimit"

func newRatelimit(p *process) *cobra.Command {
	f := newServeFlags()
	cmd := &cobra.Command{
		Use:   "ratelimit [FILE|DIR...]",
		Short: "Decide, in place of envoyproxy/ratelimit",
		Long: `Decide, in place of envoyproxy/ratelimit: with its variables, ports and directories.

This is serve, with what it finds in the variables of envoyproxy/ratelimit: HTTP at
HOST:PORT (0.0.0.0:8080), gRPC at GRPC_HOST:GRPC_PORT (0.0.0.0:8081), rules below
RUNTIME_ROOT/RUNTIME_SUBDIRECTORY/RUNTIME_APPDIRECTORY. Started under the name
ratelimit, the program does this by itself. Variables without effect are named in the
log, with what weir does instead; docs/reference/ratelimit-environment.md lists all.

Limits hold in any interval, and refusals cost nothing; --compat=ratelimit counts in
fixed windows instead, as envoyproxy/ratelimit does. Flags win over WEIR_ variables,
those over the variables of envoyproxy/ratelimit, and those over files.`,
		Example: `  RUNTIME_ROOT=/data RUNTIME_SUBDIRECTORY=ratelimit weir ratelimit
  ln -s /usr/bin/weir /bin/ratelimit && /bin/ratelimit
  weir ratelimit --compat=ratelimit ./config
  weir ratelimit --print-config`,
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := readSettings(cmd, p.environ, args)
		if err != nil {
			return err
		}
		f.reference = newRefSettings(p.environ, true, f.compat.value != "")
		return f.serve(cmd, s, p)
	}
	return cmd
}

// verbOf returns the arguments of p, with the verb that the name of the program stands
// for in front if they name none.
func verbOf(root *cobra.Command, p *process) []string {
	name := strings.TrimSuffix(filepath.Base(p.name), ".exe")
	if name != ratelimitVerb {
		return p.args
	}
	if len(p.args) > 0 {
		if c, _, err := root.Find(p.args[:1]); err == nil && c != root || strings.HasPrefix(p.args[0], "__complete") {
			return p.args
		}
	}
	return append([]string{ratelimitVerb}, p.args...)
}
