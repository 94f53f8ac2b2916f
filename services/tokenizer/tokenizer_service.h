#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "inference_core/base/clock.h"
#include "services/common/tracer.h"
#include "services/tokenizer/decode_stream.h"
#include "services/tokenizer/tokenizer_metrics.h"
#include "services/tokenizer/tokenizer_registry.h"
#include "services/tokenizer/work_queue.h"
#include "yangtuo/internal/v1/tokenizer.grpc.pb.h"

namespace yangtuo {

// Its name in grpc.health.v1.
inline constexpr const char* kTokenizerServiceName = "yangtuo.internal.v1.TokenizerService";

struct TokenizerServiceLimits {
  int max_texts = 256;                                 // of one Encode
  std::size_t max_text_bytes = std::size_t{16} << 20;  // of one Encode or RenderChat, all texts
  int max_messages = 4096;                             // of one RenderChat
  int max_decode_ids = 1 << 20;                        // of one Decode
  std::size_t max_streams = 16384;                     // open text streams of one DecodeStream
  // Larger requests (bytes of text, ids) are worked on outside gRPC's threads: 32 KiB are encoded
  // in a few milliseconds.
  std::size_t large = std::size_t{32} << 10;
  int num_threads = 2;                 // for large requests
  std::size_t max_waiting_large = 64;  // large requests that wait; more get RESOURCE_EXHAUSTED
};

// yangtuo.internal.v1.TokenizerService over a registry. Thread-safe; registry and metrics outlive
// it, and it outlives the server that it is registered with.
class TokenizerService final : public internal::v1::TokenizerService::CallbackService {
 public:
  // Spans are made by `tracer`, which outlives it; null: none.
  TokenizerService(const TokenizerRegistry& registry, Metrics& metrics,
                   const TokenizerServiceLimits& limits = {}, const Tracer* tracer = nullptr);

  // DecodeStream calls end with UNAVAILABLE as soon as they are idle; the rest goes on.
  void Drain() { decode_streams_.Drain(); }

  grpc::ServerUnaryReactor* Encode(grpc::CallbackServerContext* context,
                                   const internal::v1::EncodeRequest* request,
                                   internal::v1::EncodeResponse* response) override;
  grpc::ServerUnaryReactor* Decode(grpc::CallbackServerContext* context,
                                   const internal::v1::DecodeRequest* request,
                                   internal::v1::DecodeResponse* response) override;
  grpc::ServerBidiReactor<internal::v1::DecodeStreamRequest, internal::v1::DecodeStreamResponse>*
  DecodeStream(grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* RenderChat(grpc::CallbackServerContext* context,
                                       const internal::v1::RenderChatRequest* request,
                                       internal::v1::RenderChatResponse* response) override;
  grpc::ServerUnaryReactor* GetTokenizer(grpc::CallbackServerContext* context,
                                         const internal::v1::GetTokenizerRequest* request,
                                         internal::v1::GetTokenizerResponse* response) override;

 private:
  // Answers a unary call with the status of `work`, which runs here or, when `size` is large, in
  // the queue; what work refers to lives until the answer.
  using Work = std::function<absl::Status(const Span&)>;
  grpc::ServerUnaryReactor* Run(const char* method, grpc::CallbackServerContext* context,
                                std::size_t size, Work work);
  [[nodiscard]] Span SpanOf(const char* method, const grpc::CallbackServerContext& context) const;
  // Counts ids that were made since `begin`.
  void CountEncoding(TimePoint begin, std::size_t num_tokens, const Span& span);

  absl::Status EncodeTexts(const internal::v1::EncodeRequest& request,
                           internal::v1::EncodeResponse& response, const Span& span);
  absl::Status DecodeIds(const internal::v1::DecodeRequest& request,
                         internal::v1::DecodeResponse& response);
  absl::Status RenderMessages(const internal::v1::RenderChatRequest& request,
                              internal::v1::RenderChatResponse& response, const Span& span);

  const TokenizerRegistry& registry_;
  const TokenizerServiceLimits limits_;
  const Tracer* const tracer_;
  TokenizerMetrics metrics_;
  DecodeStreams decode_streams_;
  WorkQueue large_requests_;  // last: its threads use the rest
};

}  // namespace yangtuo
