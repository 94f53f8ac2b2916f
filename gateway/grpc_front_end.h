#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "gateway/generation_flow.h"
#include "yangtuo/v1/generation.grpc.pb.h"

namespace yangtuo::gateway {

// Whose HTTP answers those of the gateway look like.
enum class Compat {
  kOpenAi,
  kDemo,  // gateway/openai/demo_shapes.h
};

struct FrontEndOptions {
  // Of a call whose client set none.
  Duration default_deadline = std::chrono::minutes(10);
  // Bytes of an answer that may wait for a client that reads slowly.
  std::size_t client_buffer_bytes = 1 << 20;
  Compat compat = Compat::kOpenAi;
};

// The public service: asks every call for its API key, gives it identity, deadline and record, and
// hands it to the flow that answers it. Knows no model.
class GrpcFrontEnd final : public v1::GenerationService::CallbackService {
 public:
  GrpcFrontEnd(FlowServices& services, FrontEndOptions options)
      : services_(services), options_(options) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context,
                                  const v1::EmbedRequest* request,
                                  v1::EmbedResponse* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;

 private:
  // A call that has come in, and whether it may go on.
  struct Arrival;
  enum class Counts { kAsRequest, kNot };  // towards the limits of its API key
  struct Entry {
    const char* method;
    std::string request_id = {};  // the client's own
    Counts counts = Counts::kAsRequest;
  };
  [[nodiscard]] Arrival Receive(const grpc::CallbackServerContext& context,
                                const Entry& entry) const;
  template <typename Response>
  class UnaryAnswer;

  FlowServices& services_;
  const FrontEndOptions options_;
};

}  // namespace yangtuo::gateway
