// Streams an answer from a Yangtuo gateway: the whole of a C++ client.
//
//   yangtuo-example-client [SERVER] PROMPT          (SERVER defaults to 127.0.0.1:50051)

#include <chrono>
#include <cstdio>
#include <memory>
#include <string>

#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "yangtuo/v1/generation.grpc.pb.h"

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fprintf(stderr, "usage: %s [SERVER] PROMPT\n", argv[0]);
    return 2;
  }
  const std::string server = argc == 3 ? argv[1] : "127.0.0.1:50051";

  yangtuo::v1::GenerateRequest request;
  yangtuo::v1::ChatMessage& message = *request.mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content(argv[argc - 1]);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stop()->set_max_new_tokens(200);

  const auto stub = yangtuo::v1::GenerationService::NewStub(
      grpc::CreateChannel(server, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  const auto stream = stub->Generate(&context, request);

  yangtuo::v1::GenerateResponse response;
  while (stream->Read(&response)) {
    if (response.has_delta()) {
      std::fputs(response.delta().text().c_str(), stdout);
      std::fflush(stdout);
    } else if (response.has_finished()) {
      std::printf("\n[%u prompt + %u answer tokens]\n", response.finished().usage().prompt_tokens(),
                  response.finished().usage().completion_tokens());
    }
  }
  const grpc::Status status = stream->Finish();
  if (!status.ok()) {
    std::fprintf(stderr, "error %d: %s\n", static_cast<int>(status.error_code()),
                 status.error_message().c_str());
    return 1;
  }
  return 0;
}
