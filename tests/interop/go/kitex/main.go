// Program kitex is a Kitex server and a Kitex client that speak gRPC.
package main

import (
	"context"
	"net"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/registry"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/cloudwego/kitex/pkg/streaming"
	"github.com/cloudwego/kitex/server"
	"github.com/cloudwego/kitex/transport"
	etcd "github.com/kitex-contrib/registry-etcd"

	"meshkit/greeting/hello"
	"meshkit/interop/peer"
)

// greeter is what Kitex's generator writes for the service, without the parts
// for its own protocols.
var greeter = &serviceinfo.ServiceInfo{
	ServiceName:  "Greeter",
	PackageName:  "helloworld",
	HandlerType:  (*hello.GreeterServer)(nil),
	PayloadCodec: serviceinfo.Protobuf,
	Extra:        map[string]any{"PackageName": "helloworld"},
	Methods: map[string]serviceinfo.MethodInfo{
		"SayHello": serviceinfo.NewMethodInfo(
			sayHello, nil, nil, false, serviceinfo.WithStreamingMode(serviceinfo.StreamingUnary),
		),
	},
}

func sayHello(ctx context.Context, handler, args, _ any) error {
	stream := args.(*streaming.Args).Stream
	request := new(hello.HelloRequest)
	if err := stream.RecvMsg(request); err != nil {
		return err
	}
	reply, err := handler.(hello.GreeterServer).SayHello(ctx, request)
	if err != nil {
		return err
	}
	return stream.SendMsg(reply)
}

func main() {
	peer.Main(peer.Framework{Serve: serve, Dial: dial})
}

func serve(options peer.Options) error {
	announcer, err := etcd.NewEtcdRegistry([]string{options.Etcd})
	if err != nil {
		return err
	}
	address, err := net.ResolveTCPAddr("tcp", options.Listen)
	if err != nil {
		return err
	}
	kitex := server.NewServer(
		server.WithServiceAddr(address),
		server.WithServerBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: options.Service}),
		server.WithRegistry(announcer),
		server.WithRegistryInfo(&registry.Info{Weight: options.Weight}),
	)
	if err := kitex.RegisterService(greeter, &peer.Greeter{Name: options.Name}); err != nil {
		return err
	}
	return kitex.Run() // until SIGTERM
}

func dial(options peer.Options) (peer.Call, error) {
	resolver, err := etcd.NewEtcdResolver([]string{options.Etcd})
	if err != nil {
		return nil, err
	}
	kitex, err := client.NewClient(
		greeter,
		client.WithDestService(options.Service),
		client.WithResolver(resolver),
		client.WithTransportProtocol(transport.GRPC),
	)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, request *hello.HelloRequest) (*hello.HelloReply, error) {
		reply := new(hello.HelloReply)
		return reply, kitex.Call(ctx, "SayHello", request, reply)
	}, nil
}
