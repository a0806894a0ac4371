// Package peer is what the programs of all frameworks share: their command
// line, and how a test talks to them.
//
//	kratos serve -etcd 127.0.0.1:2379 -service hello -listen 127.0.0.1:9000 -name a -weight 100
//	kratos call -etcd 127.0.0.1:2379 -service hello
//
// A server answers every call with its name, until SIGTERM makes it leave. A
// client reads numbers from its input; it makes so many calls for each, and
// prints a line of JSON: how often who answered, and the errors.
package peer

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	"meshkit/greeting/hello"
)

const patience = 5 * time.Second

// Options say which service, and where.
type Options struct {
	Etcd    string
	Service string
	Listen  string
	Name    string
	Weight  int
}

// Framework is a client and a server of one.
type Framework struct {
	// Serve announces the service, serves it until SIGTERM, and leaves.
	Serve func(Options) error
	// Dial returns what calls the service.
	Dial func(Options) (Call, error)
}

// Call makes a call through the framework's own balancer.
type Call func(context.Context, *hello.HelloRequest) (*hello.HelloReply, error)

// Greeter answers with its name.
type Greeter struct {
	hello.UnimplementedGreeterServer
	Name string
}

// SayHello implements the service for all frameworks.
func (g Greeter) SayHello(context.Context, *hello.HelloRequest) (*hello.HelloReply, error) {
	return &hello.HelloReply{Message: g.Name}, nil
}

// Main runs what the command line asks for.
func Main(framework Framework) {
	if err := run(framework, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(framework Framework, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("serve or call?")
	}
	var options Options
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	flags.StringVar(&options.Etcd, "etcd", "", "host:port of etcd")
	flags.StringVar(&options.Service, "service", "", "its name")
	flags.StringVar(&options.Listen, "listen", "", "host:port of a server")
	flags.StringVar(&options.Name, "name", "", "what a server answers")
	flags.IntVar(&options.Weight, "weight", 0, "of a server, in the framework's own scale")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "serve":
		return framework.Serve(options)
	case "call":
		call, err := framework.Dial(options)
		if err != nil {
			return err
		}
		return answer(call)
	}
	return fmt.Errorf("serve or call, not %q", args[0])
}

type outcome struct {
	Replies map[string]int `json:"replies"`
	Errors  []string       `json:"errors"`
}

func answer(call Call) error {
	numbers := bufio.NewScanner(os.Stdin)
	for numbers.Scan() {
		count, err := strconv.Atoi(numbers.Text())
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(calls(call, count)); err != nil {
			return err
		}
	}
	return numbers.Err()
}

func calls(call Call, count int) outcome {
	made := outcome{Replies: map[string]int{}, Errors: []string{}}
	for range count {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		reply, err := call(ctx, &hello.HelloRequest{Name: "Go"})
		cancel()
		if err != nil {
			made.Errors = append(made.Errors, err.Error())
		} else {
			made.Replies[reply.Message]++
		}
	}
	return made
}
