package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func newHealthcheck(p *process) *cobra.Command {
	var service string
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a running weir whether it serves",
		Long: `Ask a running weir whether it serves, over the gRPC health protocol.

Exit code 0 means that it does, 1 that it does not: it drains, or does not answer.
It reads the same environment as serve, so that it needs no flags in a container.`,
		Example: `  weir healthcheck
  weir healthcheck --grpc-addr weir.internal:8081 --timeout 1s
  HEALTHCHECK CMD ["/weir", "healthcheck"]      # in a Dockerfile`,
		Args: noArgs,
	}
	cmd.Flags().StringVar(&service, "service", "", `the service asked about: "" or ratelimit`)
	d := addDialFlags(cmd, 3*time.Second)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := readSettings(cmd, p.environ, args); err != nil {
			return err
		}
		return healthcheck(cmd, d, service)
	}
	return cmd
}

func healthcheck(cmd *cobra.Command, d *dialFlags, service string) (failed error) {
	conn, err := d.dial()
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, conn.Close()) }()
	ctx, cancel := context.WithTimeout(cmd.Context(), d.timeout)
	defer cancel()
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	if status.Code(err) == codes.NotFound {
		return fmt.Errorf("%s knows no service %q", d.addr, service)
	}
	if err != nil {
		return d.explainFailure(err)
	}
	if s := answer.GetStatus(); s != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("%s is %s", d.addr, s)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s is SERVING\n", d.addr)
	return nil
}
