package main

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/weir-project/weir/config"
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/server"
	"github.com/weir-project/weir/store/memory"
)

// serveHere runs a server in this process that nobody else can reach, so that a
// question is answered by the very code that answers it in production. The caller
// closes the connection and then calls stop.
func serveHere(ctx context.Context, files []string, o config.Options) (conn *grpc.ClientConn, stop func() error, failed error) {
	loaded, err := o.Load(files, nil)
	if err != nil {
		return nil, nil, err
	}
	grpcEnd, httpEnd := bufconn.Listen(1<<16), bufconn.Listen(1<<10)
	store := memory.New(limiter.Options{Shards: 1})
	srv, err := server.New(server.Options{
		GRPCListener: grpcEnd,
		HTTPListener: httpEnd,
		Store:        store,
		Loaded:       loaded,
		Logger:       slog.New(slog.DiscardHandler),
		DrainDelay:   -1, // nobody has to notice that it ends
		Version:      thisBuild().Version,
	})
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	stop = func() error {
		cancel()
		err := <-ended
		store.Close()
		return err
	}
	conn, err = grpc.NewClient("passthrough:///in-process",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return grpcEnd.DialContext(ctx) }))
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return conn, stop, nil
}
