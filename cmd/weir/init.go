package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/config"
)

func newInit(*process) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a commented configuration to start from",
		Long:  "Write a commented configuration to start from, to FILE or else to the standard output.",
		Example: `  weir init weir.yaml
  weir init > weir.yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("expected one file, got %d", len(args))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "overwrite FILE if it exists")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			_, err := cmd.OutOrStdout().Write(config.Starter())
			return err
		}
		return writeStarter(cmd, args[0], force)
	}
	return cmd
}

// writeStarter writes the starter configuration to a file of that name, which must
// not exist unless force is set.
func writeStarter(cmd *cobra.Command, name string, force bool) error {
	mode := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if !force {
		mode |= os.O_EXCL
	}
	f, err := os.OpenFile(name, mode, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already; --force overwrites it", name)
	}
	if err != nil {
		return err
	}
	if _, err := f.Write(config.Starter()); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s; next: weir serve %s\n", name, name)
	return nil
}
