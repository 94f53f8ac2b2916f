#include "services/tokenizer/tokenizer_metrics.h"

namespace yangtuo {

TokenizerMetrics::TokenizerMetrics(Metrics& metrics)
    : metrics_(metrics),
      encode_seconds_(metrics.AddHistogram(
          "yangtuo_tokenizer_encode_seconds", "Time of one encoding, a text or a conversation.",
          {0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1})),
      encoded_tokens_(
          metrics.AddCounter("yangtuo_tokenizer_encoded_tokens_total", "Tokens made of text.")),
      decoded_tokens_(
          metrics.AddCounter("yangtuo_tokenizer_decoded_tokens_total", "Tokens turned into text.")),
      open_streams_(
          metrics.AddGauge("yangtuo_tokenizer_open_streams", "Text streams being decoded now.")) {}

void TokenizerMetrics::CallEnded(const char* method, const absl::Status& status) {
  metrics_
      .AddCounter("yangtuo_requests_total", "Calls by method and outcome.",
                  {{"method", method}, {"code", absl::StatusCodeToString(status.code())}})
      .Add();
}

}  // namespace yangtuo
