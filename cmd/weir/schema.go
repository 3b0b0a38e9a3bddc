package main

import (
	"github.com/spf13/cobra"

	"github.com/weir-project/weir/config"
)

func newSchema(*process) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration file",
		Long: `Print the JSON Schema of the configuration file.

Editors with a YAML language server complete and check a file whose first line names it:
# yaml-language-server: $schema=weir.schema.json`,
		Example: `  weir schema > weir.schema.json`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(config.Schema())
			return err
		},
	}
}
