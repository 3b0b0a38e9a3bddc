package main

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/weir-project/weir/bench/internal/rawcodec"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// rawServer sends every message of a Session back as it came.
func rawServer() *grpc.Server {
	s := grpc.NewServer(grpc.ForceServerCodecV2(rawcodec.Codec{}))
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: weirv1.QuotaService_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: "Session", ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return bounce(stream) },
		}},
	}, struct{}{})
	return s
}

func bounce(stream grpc.ServerStream) error {
	for {
		var b []byte // a new one each time: sent messages are read after SendMsg returns
		if err := stream.RecvMsg(&b); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := stream.SendMsg(&b); err != nil {
			return err
		}
	}
}
