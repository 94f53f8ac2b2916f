#pragma once

#include "services/tokenizer/tokenizer_metrics.h"
#include "services/tokenizer/tokenizer_set.h"
#include "yangtuo/internal/v1/tokenizer.grpc.pb.h"

namespace yangtuo {

// Translates between proto and tokenizers. Thread-safe. `tokenizers` and `metrics` outlive the
// server that this is registered with.
//
// Calls compute in the reaction: encoding takes about a microsecond per token, and the size limits
// keep the longest call in the range of a second.
class TokenizerService final : public internal::v1::TokenizerService::CallbackService {
 public:
  TokenizerService(const TokenizerSet& tokenizers, TokenizerMetrics& metrics)
      : tokenizers_(tokenizers), metrics_(metrics) {}

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
  absl::Status EncodeTexts(const internal::v1::EncodeRequest& request,
                           internal::v1::EncodeResponse& response) const;
  absl::Status DecodeIds(const internal::v1::DecodeRequest& request,
                         internal::v1::DecodeResponse& response) const;
  absl::Status Render(const internal::v1::RenderChatRequest& request,
                      internal::v1::RenderChatResponse& response) const;
  absl::Status Describe(const internal::v1::GetTokenizerRequest& request,
                        internal::v1::GetTokenizerResponse& response) const;
  grpc::ServerUnaryReactor* End(grpc::CallbackServerContext& context, const char* method,
                                const absl::Status& status);

  const TokenizerSet& tokenizers_;
  TokenizerMetrics& metrics_;
};

}  // namespace yangtuo
