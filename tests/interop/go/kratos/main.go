// Program kratos is a Kratos app and a Kratos client, with its registry on etcd.
package main

import (
	"context"
	"strconv"

	registry "github.com/go-kratos/kratos/contrib/registry/etcd/v2"
	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/transport/grpc"
	clientv3 "go.etcd.io/etcd/client/v3"

	"meshkit/greeting/hello"
	"meshkit/interop/peer"
)

func main() {
	peer.Main(peer.Framework{Serve: serve, Dial: dial})
}

func serve(options peer.Options) error {
	client, err := clientv3.NewFromURL("http://" + options.Etcd)
	if err != nil {
		return err
	}
	defer client.Close()
	server := grpc.NewServer(grpc.Address(options.Listen))
	hello.RegisterGreeterServer(server, peer.Greeter{Name: options.Name})
	return kratos.New(
		kratos.Name(options.Service),
		kratos.Version("go"),
		kratos.Metadata(map[string]string{"weight": strconv.Itoa(options.Weight)}),
		kratos.Server(server),
		kratos.Registrar(registry.New(client)),
	).Run() // until SIGTERM
}

func dial(options peer.Options) (peer.Call, error) {
	client, err := clientv3.NewFromURL("http://" + options.Etcd)
	if err != nil {
		return nil, err
	}
	channel, err := grpc.DialInsecure(
		context.Background(),
		grpc.WithEndpoint("discovery:///"+options.Service),
		grpc.WithDiscovery(registry.New(client)),
	)
	if err != nil {
		return nil, err
	}
	greeter := hello.NewGreeterClient(channel)
	return func(ctx context.Context, request *hello.HelloRequest) (*hello.HelloReply, error) {
		return greeter.SayHello(ctx, request)
	}, nil
}
