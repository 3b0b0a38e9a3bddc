package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/config"
)

// The exit codes, as documented in docs/reference/command-line.md.
const (
	exitFine    = 0
	exitFailure = 1
	exitUsage   = 2
	exitInvalid = 3
)

// usageError is a command line that does not say what to do.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}

// silentError ends the process with a code after the command itself has said why.
type silentError struct{ code int }

func (e *silentError) Error() string { return fmt.Sprintf("exit %d", e.code) }

// report writes err, which cmd failed with, in one line (a configuration's problems
// in several) and returns the exit code.
func report(w io.Writer, cmd *cobra.Command, err error) int {
	if silent, ok := errors.AsType[*silentError](err); ok {
		return silent.code
	}
	name := cmd.CommandPath()
	if invalid, ok := errors.AsType[*config.Error](err); ok {
		fmt.Fprintln(w, invalid.Error())
		fmt.Fprintf(w, "%s: the configuration is invalid: %s\n", name, countProblems(invalid))
		return exitInvalid
	}
	if wrong, ok := errors.AsType[*environmentError](err); ok {
		fmt.Fprintln(w, wrong.Error())
		fmt.Fprintf(w, "%s: the environment is invalid: %s (see %s --help)\n", name, plural(len(wrong.problems), "problem"), name)
		return exitUsage
	}
	text := strings.TrimPrefix(strings.Join(strings.Fields(err.Error()), " "), "server: ")
	if _, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintf(w, "%s: %s (see %s --help)\n", name, text, name)
		return exitUsage
	}
	fmt.Fprintf(w, "%s: %s\n", name, text)
	return exitFailure
}

func countProblems(e *config.Error) string {
	return plural(len(e.Problems)+e.More, "problem")
}

// plural returns "1 quota", "2 quotas".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
