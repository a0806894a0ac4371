// Program gozero is a zrpc server and a zrpc client.
package main

import (
	"context"
	"os"

	"github.com/zeromicro/go-zero/core/conf"
	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/zrpc"
	"google.golang.org/grpc"

	"meshkit/greeting/hello"
	"meshkit/interop/peer"
)

func main() {
	logx.SetWriter(logx.NewWriter(os.Stderr)) // its default is the standard output, which has answers
	peer.Main(peer.Framework{Serve: serve, Dial: dial})
}

func serve(options peer.Options) error {
	var config zrpc.RpcServerConf
	if err := conf.FillDefault(&config); err != nil {
		return err
	}
	config.Name = options.Service
	config.ListenOn = options.Listen
	config.Etcd = etcd(options)
	server, err := zrpc.NewServer(config, func(server *grpc.Server) {
		hello.RegisterGreeterServer(server, peer.Greeter{Name: options.Name})
	})
	if err != nil {
		return err
	}
	server.Start() // go-zero itself takes SIGTERM
	return nil
}

func dial(options peer.Options) (peer.Call, error) {
	var config zrpc.RpcClientConf
	if err := conf.FillDefault(&config); err != nil {
		return nil, err
	}
	config.Etcd = etcd(options)
	client, err := zrpc.NewClient(config)
	if err != nil {
		return nil, err
	}
	greeter := hello.NewGreeterClient(client.Conn())
	return func(ctx context.Context, request *hello.HelloRequest) (*hello.HelloReply, error) {
		return greeter.SayHello(ctx, request)
	}, nil
}

func etcd(options peer.Options) discov.EtcdConf {
	return discov.EtcdConf{Hosts: []string{options.Etcd}, Key: options.Service}
}
