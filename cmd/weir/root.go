package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const rootLong = `weir decides which call to an LLM API may be sent now, for everyone who shares the quota.

With no configuration it learns the limits of each organisation and model class from
what Anthropic answers, from a request a second on.
Envoy asks it with its stock rate limit filter, other programs over gRPC or JSON.`

const rootExample = `  weir serve                                   start with no configuration
  weir init weir.yaml && weir serve weir.yaml  start with one to edit
  weir check weir.yaml                         is it valid?
  weir convert config/ > weir.yaml             come from envoyproxy/ratelimit or Limitador
  weir explain org=acme model=claude-opus-4-1  what would be decided, and why`

// newRoot returns the command line.
func newRoot(p *process) *cobra.Command {
	root := &cobra.Command{
		Use:           "weir",
		Short:         "A rate-limit decision service for LLM APIs",
		Long:          rootLong,
		Example:       rootExample,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          runRoot,
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(newHelp())
	root.AddCommand(
		newServe(p),
		newRatelimit(p),
		newInit(p),
		newCheck(p),
		newConvert(p),
		newExplain(p),
		newHealthcheck(p),
		newSchema(p),
		newSimulate(p),
		newVersion(p),
	)
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args, c.RunE = cobra.ArbitraryArgs, runCompletion
		}
	}
	return root
}

func runRoot(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return unknownVerb(cmd, args[0])
}

func runCompletion(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("name the shell: bash, zsh, fish or powershell")
	}
	return unknownVerb(cmd, args[0])
}

// unknownVerb says that parent has no verb of that name, and which it might be.
func unknownVerb(parent *cobra.Command, word string) error {
	var names []string
	for _, c := range parent.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return usagef("unknown command %q%s", word, didYouMean(word, names))
}

// flagError makes a usage error of what the flag parser says.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && len(unknown.GetSpecifiedName()) > 1 {
		name := strings.TrimLeft(unknown.GetSpecifiedName(), "-")
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
		return usagef("unknown flag --%s%s", name, didYouMean("--"+name, names))
	}
	return usagef("%s", err)
}

// noArgs refuses arguments.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

// outputFlag adds -o to cmd, for text and json.
func outputFlag(cmd *cobra.Command) *choice {
	c := &choice{value: "text", of: []string{"text", "json"}}
	choiceFlag(cmd, c, "output", "o", "what to print: text or json")
	return c
}

// choiceFlag adds a flag whose words a shell can complete.
func choiceFlag(cmd *cobra.Command, c *choice, name, short, usage string) {
	cmd.Flags().VarP(c, name, short, usage)
	if err := cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(c.of, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic("flag " + name + " was not added: " + err.Error())
	}
}

// choice is a flag whose value is one of a few words, or what it is at first.
type choice struct {
	value string
	of    []string
}

// String implements pflag.Value.
func (c *choice) String() string { return c.value }

// Type implements pflag.Value.
func (c *choice) Type() string { return strings.Join(c.of, "|") }

// Set implements pflag.Value.
func (c *choice) Set(s string) error {
	if slices.Contains(c.of, s) || s == "" && c.value == "" {
		c.value = s
		return nil
	}
	if len(c.of) == 1 {
		return errors.New("expected " + c.of[0] + ", or nothing" + didYouMean(s, c.of))
	}
	return errors.New("expected one of " + strings.Join(c.of, ", ") + didYouMean(s, c.of))
}

// newHelp returns the command behind `weir help VERB`.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:    "help [VERB]",
		Short:  "Print the help of a verb",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			verb, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownVerb(cmd.Root(), args[0])
			}
			return verb.Help()
		},
	}
}
