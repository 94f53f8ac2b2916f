#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "gateway/generation_flow.h"
#include "gateway/grpc_front_end.h"
#include "gateway/http/http_server.h"
#include "gateway/openai/generate_request.h"

namespace yangtuo::gateway {

// The OpenAI-compatible HTTP API: finds the endpoint, gives every request its identity, deadline
// and record, and hands it to the same flows as the gRPC front end.
class HttpFrontEnd {
 public:
  HttpFrontEnd(FlowServices& services, FrontEndOptions options, std::function<bool()> ready);

  // On the server's threads.
  void Handle(const HttpRequest& request, const std::shared_ptr<HttpExchange>& exchange);
  static HttpResponse Refuse(int status, const std::string& message);

 private:
  struct Call;

  void Generate(openai::Api api, const Call& call);
  void Embed(const Call& call);
  void Tokenize(const Call& call);
  void Detokenize(const Call& call);
  void ApplyTemplate(const Call& call);
  void Models(const Call& call);
  void Model(const Call& call, const std::string& name);
  void Health(const Call& call);

  [[nodiscard]] std::shared_ptr<CallScope> MakeScope(const HttpRequest& request) const;

  FlowServices& services_;
  const FrontEndOptions options_;
  const std::function<bool()> ready_;
  const std::int64_t started_at_;  // Unix seconds
};

}  // namespace yangtuo::gateway
