// Program xds calls xds:///hello_service with grpc-go's own xDS client. Lines in,
// a line of JSON out for each:
//
//	call 20 x-canary=1    who answered how many of 20 calls, and the errors
//	wait 5                who answered a call that waits until it can be sent
//	state                 what it made of each resource, by type and name
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds"
	"google.golang.org/grpc/xds/csds"

	"meshkit/greeting/hello"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	credentials := grpc.WithTransportCredentials(insecure.NewCredentials())
	channel, err := grpc.NewClient("xds:///hello_service", credentials)
	if err != nil {
		return err
	}
	greeter := hello.NewGreeterClient(channel)
	states, err := csds.NewClientStatusDiscoveryServer()
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		var answer any
		switch words[0] {
		case "call":
			answer, err = call(greeter, words[1], words[2:])
		case "wait":
			answer, err = wait(greeter, words[1])
		case "state":
			answer, err = state(states)
		default:
			err = fmt.Errorf("call, wait or state, not %q", words[0])
		}
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func call(greeter hello.GreeterClient, count string, pairs []string) (map[string]int, error) {
	times, err := strconv.Atoi(count)
	if err != nil {
		return nil, err
	}
	headers := metadata.MD{}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		headers.Append(name, value)
	}
	found := map[string]int{}
	for range times {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		ctx = metadata.NewOutgoingContext(ctx, headers)
		found[who(greeter.SayHello(ctx, &hello.HelloRequest{}))]++
		cancel()
	}
	return found, nil
}

func wait(greeter hello.GreeterClient, seconds string) (map[string]any, error) {
	timeout, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(timeout*float64(time.Second)))
	defer cancel()
	answer := who(greeter.SayHello(ctx, &hello.HelloRequest{}, grpc.WaitForReady(true)))
	return map[string]any{"who": answer, "seconds": time.Since(began).Seconds()}, nil
}

func who(reply *hello.HelloReply, err error) string {
	if err != nil {
		failed := status.Convert(err)
		return strings.ToUpper(failed.Code().String()) + ": " + failed.Message()
	}
	return reply.Message
}

func state(states *csds.ClientStatusDiscoveryServer) (map[string]string, error) {
	answer, err := states.FetchClientStatus(context.Background(), &statusv3.ClientStatusRequest{})
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, config := range answer.Config {
		for _, resource := range config.GenericXdsConfigs {
			kind := resource.TypeUrl[strings.LastIndex(resource.TypeUrl, ".")+1:]
			found[kind+" "+resource.Name] = resource.ClientStatus.String()
		}
	}
	return found, nil
}
