#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>

#include "absl/status/status.h"
#include "inference_core/tokenizer/incremental_decoder.h"
#include "services/tokenizer/tokenizer_metrics.h"
#include "services/tokenizer/tokenizer_set.h"
#include "yangtuo/internal/v1/tokenizer.pb.h"

namespace yangtuo {

// The text streams of one DecodeStream call. Used by one reaction at a time.
class DecodeStreams {
 public:
  static constexpr std::size_t kMaxOpen = 16384;

  // Both outlive this.
  DecodeStreams(const TokenizerSet& tokenizers, TokenizerMetrics& metrics)
      : tokenizers_(tokenizers), metrics_(metrics) {}
  ~DecodeStreams() { metrics_.StreamsOpened(-static_cast<double>(open_.size())); }
  DecodeStreams(const DecodeStreams&) = delete;
  DecodeStreams& operator=(const DecodeStreams&) = delete;

  // One output per input, in order. What is wrong with one stream ends that stream alone. Costs
  // O(new ids).
  void Decode(const internal::v1::DecodeStreamRequest& request,
              internal::v1::DecodeStreamResponse& response);

 private:
  struct Stream {
    const Tokenizer* tokenizer;
    IncrementalDecoder decoder;
  };

  absl::Status Open(const internal::v1::DecodeStreamInput& input);
  absl::Status Feed(const internal::v1::DecodeStreamInput& input, Stream& stream,
                    internal::v1::DecodeStreamOutput& output);
  void Close(std::uint64_t id);

  const TokenizerSet& tokenizers_;
  TokenizerMetrics& metrics_;
  std::unordered_map<std::uint64_t, Stream> open_;
  std::vector<std::int32_t> ids_;  // scratch
};

}  // namespace yangtuo
