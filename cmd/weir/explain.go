package main

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/weir-project/weir/config"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// explainFlags are the flags of explain.
type explainFlags struct {
	files      []string
	domain     string
	descriptor bool
	hits       uint64
	output     *choice
	compat     *choice
	dial       *dialFlags
}

func newExplain(p *process) *cobra.Command {
	f := &explainFlags{}
	cmd := &cobra.Command{
		Use:   "explain KEY=VALUE...",
		Short: "Say what would be decided about a call, and why, without charging it",
		Long: `Say what would be decided about a call, and why, without charging it.

Without --config a running weir is asked, with what it has counted so far; with it
the files are read and nothing has been counted yet. The arguments are attributes of
the call (org, tenant, model, or any key that a quota or rule matches) and what it is
expected to use: input_tokens, cached_input_tokens, body_bytes, max_tokens, requests.
With --descriptor they are the entries of one Envoy descriptor, in order.`,
		Example: `  weir explain org=acme model=claude-opus-4-1 input_tokens=3000 max_tokens=1024
  weir explain --config weir.yaml org=acme tenant=chat model=claude-opus-4-1
  weir explain --config weir.yaml --domain edge --descriptor user=alice path=/login
  weir explain -o json --grpc-addr weir.internal:8081 org=acme model=claude-opus-4-1`,
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.files, "config", nil, "file or directory to decide by, instead of asking a server; may be repeated")
	flags.StringVar(&f.domain, "domain", "", "the rules' domain (default the LLM domain of the configuration)")
	flags.BoolVar(&f.descriptor, "descriptor", false, "the arguments are the entries of a descriptor")
	flags.Uint64Var(&f.hits, "hits", 1, "the descriptor's hits_addend")
	f.output = outputFlag(cmd)
	f.compat = compatFlag(cmd)
	f.dial = addDialFlags(cmd, 5*time.Second)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := readSettings(cmd, p.environ, nil); err != nil {
			return err
		}
		ask, err := f.request(cmd, args)
		if err != nil {
			return err
		}
		return f.explain(cmd, ask, reading(f.compat, p.environ))
	}
	return cmd
}

// request makes the question of the arguments.
func (f *explainFlags) request(cmd *cobra.Command, args []string) (*weirv1.ExplainRequest, error) {
	if len(args) == 0 {
		return nil, usagef("say what the call is, for example org=acme model=claude-opus-4-1")
	}
	if cmd.Flags().Changed("hits") && !f.descriptor {
		return nil, usagef("--hits needs --descriptor; a call's amounts are arguments, for example input_tokens=3000")
	}
	ask := &weirv1.ExplainRequest{Domain: f.domain, Estimate: &weirv1.Estimate{}}
	if f.descriptor {
		ask.Hits = &f.hits
	}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return nil, usagef("argument %q: expected key=value", arg)
		}
		if f.descriptor {
			ask.Descriptor_ = append(ask.Descriptor_, &weirv1.DescriptorEntry{Key: key, Value: value})
			continue
		}
		if err := addAttribute(ask, key, value); err != nil {
			return nil, err
		}
	}
	return ask, nil
}

// addAttribute adds an attribute, or a part of the estimate, to ask.
func addAttribute(ask *weirv1.ExplainRequest, key, value string) error {
	amounts := map[string]**uint64{
		"input_tokens":        &ask.Estimate.InputTokens,
		"cached_input_tokens": &ask.Estimate.CachedInputTokens,
		"body_bytes":          &ask.Estimate.BodyBytes,
		"max_tokens":          &ask.Estimate.MaxTokens,
		"requests":            &ask.Estimate.Requests,
	}
	if amount, ok := amounts[key]; ok {
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return usagef("%s=%q: expected a whole number, not below 0", key, value)
		}
		*amount = &n
		return nil
	}
	if _, twice := ask.Attributes[key]; twice {
		return usagef("%s is given twice", key)
	}
	if ask.Attributes == nil {
		ask.Attributes = make(map[string]string)
	}
	ask.Attributes[key] = value
	return nil
}

// explain asks a server, or one of its own, and prints the answer.
func (f *explainFlags) explain(cmd *cobra.Command, ask *weirv1.ExplainRequest, o config.Options) (failed error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), f.dial.timeout)
	defer cancel()
	var conn *grpc.ClientConn
	var err error
	if len(f.files) > 0 {
		var stop func() error
		conn, stop, err = serveHere(ctx, f.files, o)
		if err == nil {
			defer func() { failed = errors.Join(failed, stop()) }()
		}
	} else {
		conn, err = f.dial.dial()
	}
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, conn.Close()) }()
	answer, err := weirv1.NewAdminServiceClient(conn).Explain(ctx, ask)
	if err != nil {
		return f.dial.explainFailure(err)
	}
	if f.output.value == "json" {
		return printJSON(cmd.OutOrStdout(), answer)
	}
	return printExplanation(cmd.OutOrStdout(), answer)
}
