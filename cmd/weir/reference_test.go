package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/reference/command-line.md")

const referencePage = "../../docs/reference/command-line.md"

// TestReferencePage holds the reference page to the commands.
func TestReferencePage(t *testing.T) {
	want := reference(newRoot(&process{}))
	if *update {
		if err := os.WriteFile(referencePage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(referencePage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is not what the commands say; run go test ./cmd/weir -update (-want +got):\n%s", referencePage, diff)
	}
}

const referenceHead = `# Command line

<!-- Written by go test ./cmd/weir -update; do not edit. -->

%s

Every flag that says how, and not what, can be an environment variable: its name in capitals after ` + "`WEIR_`" + `.
` + "`WEIR_CONFIG`" + ` names the configuration's files and directories, separated like those of PATH. Flags win over
variables, variables over the [server](configuration.md#server) block of a file (which is for ` + "`weir serve`" + ` alone), and that
over defaults; an empty variable is as good as none. Variables that begin with ` + "`WEIR_`" + ` and that nobody knows are warned about. ` + "`weir serve --print-config`" + ` shows every setting and where it came from.

| exit code | meaning |
|---|---|
| 0 | fine |
| 1 | failed at run time |
| 2 | used wrongly: an unknown flag, a wrong value, an argument that is missing |
| 3 | the configuration is invalid |

Results go to the standard output, errors and logs to the standard error. An error is one line; the problems of a
configuration are shown with their lines.
`

// reference returns the page.
func reference(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, referenceHead, root.Long)
	for _, c := range root.Commands() {
		if !c.IsAvailableCommand() {
			continue
		}
		fmt.Fprintf(&b, "\n## weir %s\n\n", c.Name())
		if c.Name() == "completion" {
			fmt.Fprintf(&b, "%s: `bash`, `zsh`, `fish` or `powershell`. `weir completion bash --help` says how to install it.\n", c.Short)
			continue
		}
		long := c.Long
		if long == "" {
			long = c.Short + "."
		}
		fmt.Fprintf(&b, "%s\n\n```sh\n%s\n```\n", long, strings.ReplaceAll(strings.TrimPrefix(c.Example, "  "), "\n  ", "\n"))
		flags(&b, c)
	}
	return b.String()
}

// flags writes the flags of c as a table.
func flags(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "\nUsage: `%s`\n", c.UseLine())
	if !c.HasAvailableLocalFlags() {
		return
	}
	fmt.Fprint(b, "\n| flag | variable | default | |\n|---|---|---|---|\n")
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		name, value, variable := "`--"+f.Name+"`", "", ""
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		if f.DefValue != "" && f.DefValue != "[]" && f.DefValue != "false" {
			value = "`" + f.DefValue + "`"
		}
		if v := envName(f.Name); v != "" {
			variable = "`" + v + "`"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", name, variable, value, f.Usage)
	})
}
