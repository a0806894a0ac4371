// gRPC servers that cost as little as possible, so that a benchmark measures the client.
//
// Each argument is a port and says how its server behaves: "echo" answers at once, "20ms" after
// that time, "20ms*4" works on four calls at a time and lets others wait, "fail" answers
// UNAVAILABLE at once. Waiting burns no CPU. The ports are printed, a line each.
//
// /bench.Echo/Count answers how many calls the port has had, and all are healthy; every other method
// answers with the bytes of each request, /bench.Echo/Many a hundred times.
package main

import (
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// raw passes messages through as bytes.
type raw struct{}

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func (raw) Name() string { return "proto" }

// serving is a HealthCheckResponse of status SERVING.
var serving = []byte{8, 1}

type server struct {
	delay   time.Duration
	workers chan struct{} // nil: as many calls at a time as come
	fails   bool
	calls   atomic.Int64
}

func newServer(behaviour string) *server {
	switch behaviour {
	case "echo":
		return &server{}
	case "fail":
		return &server{fails: true}
	}
	text, workers, limited := strings.Cut(behaviour, "*")
	delay, err := time.ParseDuration(text)
	check(err)
	if !limited {
		return &server{delay: delay}
	}
	count, err := strconv.Atoi(workers)
	check(err)
	return &server{delay: delay, workers: make(chan struct{}, count)}
}

func (s *server) handle(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	switch method {
	case "/bench.Echo/Count":
		count := []byte(strconv.FormatInt(s.calls.Load(), 10))
		return stream.SendMsg(&count)
	case "/grpc.health.v1.Health/Watch":
		if err := stream.SendMsg(&serving); err != nil {
			return err
		}
		<-stream.Context().Done()
		return nil
	}
	s.calls.Add(1)
	if s.fails {
		return status.Error(codes.Unavailable, "this server always fails")
	}
	s.work()
	times := 1
	if method == "/bench.Echo/Many" {
		times = 100
	}
	for {
		var message []byte
		if err := stream.RecvMsg(&message); err != nil {
			return nil
		}
		for range times {
			if err := stream.SendMsg(&message); err != nil {
				return err
			}
		}
	}
}

func (s *server) work() {
	if s.workers != nil {
		s.workers <- struct{}{} // in order of arrival
		defer func() { <-s.workers }()
	}
	time.Sleep(s.delay)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	for _, behaviour := range os.Args[1:] {
		server := newServer(behaviour)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		check(err)
		answering := grpc.NewServer(
			grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(server.handle))
		go func() { check(answering.Serve(listener)) }()
		fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	}
	select {}
}
