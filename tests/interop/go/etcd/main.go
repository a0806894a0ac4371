// Program etcd uses what etcd itself has for gRPC: its endpoint manager and its
// name resolver. The service is the target, "meshkit/default/hello".
package main

import (
	"context"
	"net"
	"os/signal"
	"syscall"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"meshkit/greeting/hello"
	"meshkit/interop/peer"
)

const ttl = 15 // seconds

func main() {
	peer.Main(peer.Framework{Serve: serve, Dial: dial})
}

func serve(options peer.Options) error {
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	listener, err := net.Listen("tcp", options.Listen)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	hello.RegisterGreeterServer(server, peer.Greeter{Name: options.Name})
	go server.Serve(listener)
	defer server.GracefulStop()

	client, err := clientv3.NewFromURL("http://" + options.Etcd)
	if err != nil {
		return err
	}
	defer client.Close()
	lease, err := client.Grant(stop, ttl)
	if err != nil {
		return err
	}
	renewed, err := client.KeepAlive(stop, lease.ID)
	if err != nil {
		return err
	}
	manager, err := endpoints.NewManager(client, options.Service)
	if err != nil {
		return err
	}
	key := options.Service + "/" + options.Listen
	endpoint := endpoints.Endpoint{Addr: options.Listen, Metadata: map[string]int{"weight": options.Weight}}
	if err := manager.AddEndpoint(stop, key, endpoint, clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	for range renewed { // until the signal
	}
	return manager.DeleteEndpoint(context.Background(), key)
}

func dial(options peer.Options) (peer.Call, error) {
	client, err := clientv3.NewFromURL("http://" + options.Etcd)
	if err != nil {
		return nil, err
	}
	builder, err := resolver.NewBuilder(client)
	if err != nil {
		return nil, err
	}
	channel, err := grpc.NewClient(
		"etcd:///"+options.Service,
		grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
	)
	if err != nil {
		return nil, err
	}
	greeter := hello.NewGreeterClient(channel)
	return func(ctx context.Context, request *hello.HelloRequest) (*hello.HelloReply, error) {
		return greeter.SayHello(ctx, request)
	}, nil
}
