#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "gateway/generation_flow.h"
#include "gateway/grpc_front_end.h"
#include "gateway/http/http_server.h"
#include "gateway/openai/generate_request.h"

namespace yangtuo::gateway {

// The OpenAI-compatible HTTP API: finds the endpoint, asks for the API key, gives every request its
// identity, deadline and record, and hands it to the same flows as the gRPC front end.
class HttpFrontEnd {
 public:
  HttpFrontEnd(FlowServices& services, FrontEndOptions options, std::function<bool()> ready);

  // On the server's threads.
  void Handle(const HttpRequest& request, const std::shared_ptr<HttpExchange>& exchange);
  // Whether the body of this request may come: not from somebody without a key.
  [[nodiscard]] std::optional<HttpResponse> Admit(const HttpRequest& head) const;
  static HttpResponse Refuse(int status, const std::string& message);

 private:
  struct Call;
  struct Route;
  static const Route* FindRoute(const std::string& path);

  // The caller's key, and the call's place within its limits where it counts as a request.
  absl::Status Enter(const Route& route, Call& call) const;
  absl::Status EnterAsRequests(std::uint32_t requests, Call& call) const;
  [[nodiscard]] std::unique_ptr<RequestRecord> MakeRecord(const char* method,
                                                          const Call& call) const;
  [[nodiscard]] std::shared_ptr<CallScope> MakeScope(const Call& call, RequestRecord& record) const;

  [[nodiscard]] bool demo() const { return options_.compat == Compat::kDemo; }
  [[nodiscard]] HttpResponse Failure(const absl::Status& status) const;
  void Respond(Call& call, const absl::StatusOr<openai::Json>& result) const;
  absl::StatusOr<openai::GenerateCall> ParseDemoCall(openai::Api api, Call& call) const;
  void Chat(Call& call) { Generate(openai::Api::kChat, call); }
  void Complete(Call& call) { Generate(openai::Api::kCompletions, call); }
  void Generate(openai::Api api, Call& call);
  void Embed(Call& call);
  void Tokenize(Call& call);
  void Detokenize(Call& call);
  void ApplyTemplate(Call& call);
  void Models(Call& call);
  void Model(Call& call);
  void Health(Call& call);
  void Version(Call& call);

  FlowServices& services_;
  const FrontEndOptions options_;
  const std::function<bool()> ready_;
  const std::int64_t started_at_;  // Unix seconds
};

}  // namespace yangtuo::gateway
