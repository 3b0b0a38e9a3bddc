package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/config"
)

func newConvert(*process) *cobra.Command {
	from := &choice{of: []string{string(config.FromRatelimit), string(config.FromLimitador)}}
	cmd := &cobra.Command{
		Use:   "convert FILE|DIR...",
		Short: "Make a weir configuration of one of envoyproxy/ratelimit or Limitador",
		Long: `Make a weir configuration of one of envoyproxy/ratelimit or Limitador.

It goes to the standard output, with where each rule comes from as comments. What it does
not keep of the files, or keeps in another way, goes to the standard error, each with its
place: read these before you serve it. Of a directory every .yaml and .yml below it is
read. Exit code 3 means that the files are invalid, or that nothing in them can be kept.`,
		Example: `  weir convert config/ > weir.yaml
  weir convert limits.yaml > weir.yaml
  weir convert --from limitador limits.yaml > weir.yaml 2> notes.txt`,
	}
	choiceFlag(cmd, from, "from", "", "what the files are: ratelimit or limitador; by themselves they tell")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("name a file or a directory")
		}
		out, err := config.Convert(args, config.Format(from.value))
		if err != nil {
			return err
		}
		if _, err := cmd.OutOrStdout().Write(out.Text); err != nil {
			return err
		}
		for _, n := range out.Notes {
			fmt.Fprintln(cmd.ErrOrStderr(), n.String())
		}
		if out.More > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "and %d more\n", out.More)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s of %s in the format of %s, %s\n", cmd.CommandPath(), plural(out.Rules, "rule"),
			plural(out.Files, "file"), out.Format, plural(len(out.Notes)+out.More, "note"))
		return nil
	}
	return cmd
}
