#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>

#include "absl/status/status.h"
#include "inference_core/tokenizer/incremental_decoder.h"
#include "services/tokenizer/tokenizer_metrics.h"
#include "services/tokenizer/tokenizer_registry.h"
#include "yangtuo/internal/v1/tokenizer.pb.h"

namespace yangtuo {

// The open text streams of one DecodeStream call: the call without its transport. Used by one
// thread at a time; registry and metrics outlive it.
class TextStreams {
 public:
  TextStreams(const TokenizerRegistry& registry, TokenizerMetrics& metrics, std::size_t max_open)
      : registry_(registry), metrics_(metrics), max_open_(max_open) {}
  ~TextStreams();
  TextStreams(const TextStreams&) = delete;
  TextStreams& operator=(const TextStreams&) = delete;

  // Replaces `response` by one output per input, in order. A stream that fails says so in its
  // output and is forgotten; the others go on.
  void Answer(const internal::v1::DecodeStreamRequest& request,
              internal::v1::DecodeStreamResponse& response);

  [[nodiscard]] bool empty() const { return streams_.empty(); }

 private:
  struct Stream {
    const Vocabulary* vocabulary;
    IncrementalDecoder decoder;
  };
  using Streams = std::unordered_map<std::uint64_t, Stream>;

  absl::StatusOr<Streams::iterator> FindOrOpen(const internal::v1::DecodeStreamInput& input);
  absl::Status AnswerInput(const internal::v1::DecodeStreamInput& input,
                           internal::v1::DecodeStreamOutput& output);
  void Forget(std::uint64_t stream_id);

  const TokenizerRegistry& registry_;
  TokenizerMetrics& metrics_;
  const std::size_t max_open_;
  Streams streams_;
};

}  // namespace yangtuo
