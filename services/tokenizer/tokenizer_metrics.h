#pragma once

#include <cstddef>
#include <string>

#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"
#include "services/common/metrics.h"

namespace yangtuo {

// What the tokenizer service counts. Thread-safe; `metrics` outlives it.
class TokenizerMetrics {
 public:
  explicit TokenizerMetrics(Metrics& metrics);

  // A call ended; failures are logged with their request id.
  void CountCall(const char* method, const grpc::Status& status,
                 const grpc::ServerContextBase& context);

  void CountEncoding(double seconds, std::size_t num_tokens);
  void CountDecoded(std::size_t num_tokens);
  void AddOpenStreams(int change);

 private:
  Metrics& metrics_;
  Histogram& encode_seconds_;
  Counter& encoded_tokens_;
  Counter& decoded_tokens_;
  Gauge& open_streams_;
};

}  // namespace yangtuo
