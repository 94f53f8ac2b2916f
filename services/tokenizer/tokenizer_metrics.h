#pragma once

#include "absl/status/status.h"
#include "services/common/metrics.h"

namespace yangtuo {

// What a tokenizer service counts. Thread-safe; `metrics` outlives it.
class TokenizerMetrics {
 public:
  explicit TokenizerMetrics(Metrics& metrics);

  void CallEnded(const char* method, const absl::Status& status);
  void Encoded(double seconds, std::size_t tokens) {
    encode_seconds_.Observe(seconds);
    encoded_tokens_.Add(static_cast<double>(tokens));
  }
  void Decoded(std::size_t tokens) { decoded_tokens_.Add(static_cast<double>(tokens)); }
  void StreamsOpened(double streams) { open_streams_.Add(streams); }

 private:
  Metrics& metrics_;
  Histogram& encode_seconds_;
  Counter& encoded_tokens_;
  Counter& decoded_tokens_;
  Gauge& open_streams_;
};

}  // namespace yangtuo
