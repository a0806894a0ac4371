// Program greeting is what the Python programs beside its folder are: it says
// hello to hello_service, and counts who answered. Where the balancer stands
// is up to the target:
//
//	go run . 127.0.0.1:8080                           in a central proxy, or a sidecar
//	go run . etcd:///meshkit/default/hello_service    here, as etcd's own resolver tells
//	go run . xds:///hello_service                     here, as GRPC_XDS_BOOTSTRAP's control plane tells
//
// It is plain gRPC, and knows nothing of meshkit.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"maps"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/xds" // knows the targets of xds:

	"meshkit/greeting/hello"
)

const (
	service = "hello_service"
	calls   = 30
)

func main() {
	etcd := flag.String("etcd", "127.0.0.1:2379", "host:port of etcd, for its targets")
	// The first connection would take all calls, before the second one stands.
	pause := flag.Duration("pause", 50*time.Millisecond, "after each call")
	forever := flag.Bool("forever", false, "call and count until Ctrl-C")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("which target? 127.0.0.1:8080, etcd:///meshkit/default/hello_service or xds:///hello_service")
	}

	channel, err := dial(flag.Arg(0), *etcd)
	if err != nil {
		log.Fatal(err)
	}
	defer channel.Close()
	for again := true; again; again = *forever {
		if err := greet(channel, *pause); err != nil {
			log.Fatal(err)
		}
	}
}

func dial(target, etcd string) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority(service), // a gateway reads from it which service the call is for
	}
	if strings.HasPrefix(target, "etcd:") {
		client, err := clientv3.NewFromURL("http://" + etcd)
		if err != nil {
			return nil, err
		}
		builder, err := resolver.NewBuilder(client)
		if err != nil {
			return nil, err
		}
		options = append(options,
			grpc.WithResolvers(builder),
			grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		)
	}
	return grpc.NewClient(target, options...)
}

func greet(channel *grpc.ClientConn, pause time.Duration) error {
	greeter := hello.NewGreeterClient(channel)
	answered := map[string]int{}
	for range calls {
		who, err := call(greeter)
		if err != nil {
			return err
		}
		answered[who]++
		time.Sleep(pause)
	}
	fmt.Printf("%d calls, answered by:\n", calls)
	for _, who := range slices.Sorted(maps.Keys(answered)) {
		fmt.Printf("  %-22s %3d\n", who, answered[who])
	}
	return nil
}

// call returns the last word of an answer, which is the server's address.
func call(greeter hello.GreeterClient) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	reply, err := greeter.SayHello(ctx, &hello.HelloRequest{Name: "Ada"})
	if err != nil {
		return "", err
	}
	return reply.Message[strings.LastIndex(reply.Message, " ")+1:], nil
}
