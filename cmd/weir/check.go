package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weir-project/weir/config"
)

func newCheck(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check FILE|DIR...",
		Short: "Say whether a configuration is valid, and all that is wrong with it",
		Long: `Say whether a configuration is valid, and all that is wrong with it.

The files are read as one configuration, as serve reads them; of a directory every
.yaml and .yml below it. Exit code 3 means that it is invalid.`,
		Example: `  weir check weir.yaml
  weir check /etc/weir
  weir check -o json weir.yaml`,
	}
	output := outputFlag(cmd)
	compat := compatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := readSettings(cmd, p.environ, args)
		if err != nil {
			return err
		}
		if len(s.paths) == 0 {
			return usagef("name a file or a directory")
		}
		loaded, err := reading(compat, p.environ).Load(s.paths, nil)
		if output.value == "json" {
			return checkJSON(cmd, loaded, err)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "valid: %s, %s, %s, plan %s\n", plural(len(loaded.Sources), "file"),
			plural(loaded.Quotas, "quota"), plural(loaded.Rules, "rule"), loaded.Digest)
		return nil
	}
	return cmd
}

// checked is the JSON that check prints.
type checked struct {
	Valid    bool      `json:"valid"`
	Plan     string    `json:"plan,omitempty"`
	Sources  []string  `json:"sources,omitempty"`
	Quotas   int       `json:"quotas"`
	Rules    int       `json:"rules"`
	Problems []problem `json:"problems,omitempty"`
	More     int       `json:"more,omitempty"`
}

type problem struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Text   string `json:"text"`
	Source string `json:"source,omitempty"`
}

func checkJSON(cmd *cobra.Command, loaded *config.Loaded, failed error) error {
	var out checked
	var invalid *config.Error
	switch {
	case errors.As(failed, &invalid):
		out.More = invalid.More
		for _, p := range invalid.Problems {
			out.Problems = append(out.Problems, problem{p.File, p.Line, p.Column, p.Text, p.Source})
		}
	case failed != nil:
		return failed
	default:
		out = checked{Valid: true, Plan: loaded.Digest, Sources: loaded.Sources, Quotas: loaded.Quotas, Rules: loaded.Rules}
	}
	e := json.NewEncoder(cmd.OutOrStdout())
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(out); err != nil {
		return err
	}
	if !out.Valid {
		return &silentError{exitInvalid}
	}
	return nil
}
