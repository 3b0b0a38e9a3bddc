package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weir-project/weir/config"
)

// Settings come from flags, else from the environment, else from the server block of the
// configuration, else they have their default.
// The variable of a flag is its name in capitals after WEIR_: --grpc-addr is
// WEIR_GRPC_ADDR. An empty variable is as good as none.

const (
	envPrefix = "WEIR_"
	// envConfig names the files and directories where no argument does.
	envConfig = envPrefix + "CONFIG"
)

// secretFlag is the annotation of flags whose values are not shown.
const secretFlag = "weir_secret"

// notSettings are flags that say what a command does and not how, so that no
// variable stands for them.
var notSettings = map[string]bool{
	"help": true, "print-config": true, "output": true, "force": true,
	"config": true, "descriptor": true, "domain": true, "hits": true,
	"from": true, "limiters": true, "mode": true, "seeds": true, "trace": true, "out": true,
}

// envName returns the variable that stands for a flag, or "".
func envName(flag string) string {
	if notSettings[flag] {
		return ""
	}
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// settings is where the values of a command's flags came from.
type settings struct {
	cmd *cobra.Command
	// fromEnv holds the flags that variables set, and the names of those.
	fromEnv map[string]string
	// fromFile says where the file sets those flags that neither the command line nor a
	// variable sets.
	fromFile map[string]config.Setting
	// paths are the configuration's files and directories, and pathsFrom their source.
	paths     []string
	pathsFrom string
}

// readSettings fills the flags of cmd that the command line left out from the
// environment. Its error names the variable.
func readSettings(cmd *cobra.Command, environ, args []string) (*settings, error) {
	vars := weirVariables(environ)
	s := &settings{cmd: cmd, fromEnv: make(map[string]string)}
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := envName(f.Name)
		value := vars[name]
		if name == "" || value == "" || f.Changed || failed != nil {
			return
		}
		if err := f.Value.Set(value); err != nil {
			failed = usagef("%s=%q: %v", name, value, err)
			return
		}
		s.fromEnv[f.Name] = name
	})
	switch list := vars[envConfig]; {
	case len(args) > 0:
		s.paths, s.pathsFrom = args, "argument"
	case list != "":
		s.paths, s.pathsFrom = filepath.SplitList(list), "env "+envConfig
	default:
		s.pathsFrom = "default"
	}
	return s, failed
}

// takeFile fills the flags that are still open from the server block of the files. Its
// error names the line.
func (s *settings) takeFile(block []config.Setting) error {
	s.fromFile = make(map[string]config.Setting)
	for _, b := range block {
		f := s.cmd.Flags().Lookup(b.Name)
		if f == nil || f.Changed || s.fromEnv[b.Name] != "" {
			continue
		}
		if err := f.Value.Set(b.Value); err != nil {
			return usagef("%s: %s %q: %v", b, strings.ReplaceAll(b.Name, "-", "_"), b.Value, err)
		}
		s.fromFile[b.Name] = b
	}
	return nil
}

// says reports whether somebody set a flag: on the command line, in a variable, or in a
// file that was taken.
func (s *settings) says(flag string) bool {
	_, inFile := s.fromFile[flag]
	return inFile || s.fromEnv[flag] != "" || s.cmd.Flags().Lookup(flag).Changed
}

// weirVariables returns the variables that begin with WEIR_.
func weirVariables(environ []string) map[string]string {
	vars := make(map[string]string)
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok && strings.HasPrefix(name, envPrefix) {
			vars[name] = value
		}
	}
	return vars
}

// orchestratorVariable matches, as NAME=VALUE, what Kubernetes puts into every
// container for a Service called weir (or weir-something): it is not meant for us.
var orchestratorVariable = regexp.MustCompile(`^WEIR(_\w+)?_(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP)\w*|PORT=(tcp|udp)://.*)`)

// stranger is a variable that no command knows, and the known one most like it.
type stranger struct{ name, near string }

// strangers returns the WEIR_ variables that no command knows.
func strangers(root *cobra.Command, environ []string) []stranger {
	known := []string{envConfig}
	for _, c := range root.Commands() {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if name := envName(f.Name); name != "" {
				known = append(known, name)
			}
		})
	}
	var found []stranger
	vars := weirVariables(environ)
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if !slices.Contains(known, name) && !orchestratorVariable.MatchString(name+"="+vars[name]) {
			found = append(found, stranger{name, nearest(name, known)})
		}
	}
	return found
}

// setting is a value and where it came from.
type setting struct {
	name, value, source string
}

// list returns all settings, in the order of their names, the files last.
func (s *settings) list() []setting {
	var all []setting
	s.cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := envName(f.Name)
		if name == "" {
			return
		}
		source := "default"
		switch {
		case f.Changed:
			source = "flag --" + f.Name
		case s.fromEnv[f.Name] != "":
			source = "env " + s.fromEnv[f.Name]
		default:
			if b, ok := s.fromFile[f.Name]; ok {
				source = "file " + b.String()
			}
		}
		all = append(all, setting{f.Name, shown(f), source})
	})
	files := strings.Join(s.paths, " ")
	if files == "" {
		files = "(built-in)"
	}
	return append(all, setting{"config", files, s.pathsFrom})
}

// shown returns the value of f for people to read: of a secret only the name of a
// file that exists, since somebody may have put the secret itself there.
func shown(f *pflag.Flag) string {
	value := f.Value.String()
	switch {
	case value == "":
		return "(none)"
	case f.Annotations[secretFlag] == nil:
		return value
	}
	if info, err := os.Stat(value); err == nil && info.Mode().IsRegular() {
		return value
	}
	return "(hidden: not the name of a file)"
}

// fileFlag adds a flag that names a file.
func fileFlag(cmd *cobra.Command, into *string, name, usage string) {
	cmd.Flags().StringVar(into, name, "", usage)
	if err := cmd.MarkFlagFilename(name); err != nil {
		panic(fmt.Sprintf("flag %s was not added: %v", name, err))
	}
}
