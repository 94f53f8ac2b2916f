// Streams an answer from a Yangtuo gateway.
//
//	protoc -I../../../proto --go_out=. --go-grpc_out=. \
//	    --go_opt=Myangtuo/v1/generation.proto=example/yangtuo/v1 --go_opt=Myangtuo/v1/sampling.proto=example/yangtuo/v1 \
//	    --go-grpc_opt=Myangtuo/v1/generation.proto=example/yangtuo/v1 --go-grpc_opt=Myangtuo/v1/sampling.proto=example/yangtuo/v1 \
//	    --go_opt=module=example --go-grpc_opt=module=example yangtuo/v1/generation.proto yangtuo/v1/sampling.proto
//	go mod init example && go mod tidy
//	go run . 写一首题为《春望》的五言律诗。
//
// With Debian's packages alone: test_go_example in tests/cluster/clients_test.py.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"

	pb "example/yangtuo/v1"
)

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		log.Fatalf("usage: %s [SERVER] PROMPT", os.Args[0])
	}
	server := "127.0.0.1:50051"
	if len(os.Args) == 3 {
		server = os.Args[1]
	}
	// Of the ways to say that there is no TLS, the one that every version of the package knows.
	connection, err := grpc.Dial(server, grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	temperature, limit := float32(0), uint32(200)
	stream, err := pb.NewGenerationServiceClient(connection).Generate(ctx, &pb.GenerateRequest{
		Prompt: &pb.GenerateRequest_Chat{Chat: &pb.ChatPrompt{
			Messages: []*pb.ChatMessage{{Role: "user", Content: os.Args[len(os.Args)-1]}},
		}},
		Sampling: &pb.SamplingParams{Temperature: &temperature},
		Stop:     &pb.StopConditions{MaxNewTokens: &limit},
	})
	if err != nil {
		log.Fatal(err)
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		if delta := response.GetDelta(); delta != nil {
			fmt.Print(delta.GetText())
		} else if finished := response.GetFinished(); finished != nil {
			fmt.Printf("\n[%d prompt + %d answer tokens]\n",
				finished.GetUsage().GetPromptTokens(), finished.GetUsage().GetCompletionTokens())
		}
	}
}
