package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version is set by the linker in releases: -X main.version=0.1.0.
var version string

// build describes the binary.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// thisBuild describes this binary, as far as it knows itself.
func thisBuild() build {
	b := build{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Commit = s.Value[:min(12, len(s.Value))]
		}
	}
	if v := info.Main.Version; b.Version == "" && v != "" && v != "(devel)" {
		b.Version = strings.TrimPrefix(v, "v")
	}
	if b.Version == "" {
		b.Version = "devel"
	}
	return b
}

func newVersion(*process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Example: `  weir version
  weir version -o json`,
		Args: noArgs,
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b := thisBuild()
		if output.value == "json" {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(b)
		}
		commit := ""
		if b.Commit != "" {
			commit = " " + b.Commit
		}
		fmt.Fprintf(cmd.OutOrStdout(), "weir %s%s %s %s/%s\n", b.Version, commit, b.Go, b.OS, b.Arch)
		return nil
	}
	return cmd
}
