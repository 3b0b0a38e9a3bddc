package main

import (
	"github.com/spf13/cobra"

	"github.com/weir-project/weir/config"
)

// compatFlag adds --compat to a command that reads a configuration and does not serve it.
func compatFlag(cmd *cobra.Command) *choice {
	c := &choice{of: []string{"ratelimit"}}
	choiceFlag(cmd, c, "compat", "", "ratelimit: read files of envoyproxy/ratelimit as strictly as it does itself, and count in its windows")
	return c
}

// reading says how files are read under --compat, and what the environment of
// envoyproxy/ratelimit says of that.
func reading(compat *choice, environ []string) config.Options {
	if compat.value == "" {
		return config.Options{}
	}
	return config.Options{Strict: true, MergeDomains: readRefEnv(environ).truth("MERGE_DOMAIN_CONFIG")}
}
