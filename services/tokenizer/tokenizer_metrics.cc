#include "services/tokenizer/tokenizer_metrics.h"

#include <vector>

#include "absl/status/status.h"
#include "services/common/log.h"
#include "services/common/request_context.h"
#include "services/common/status.h"

namespace yangtuo {
namespace {

const std::vector<double>& EncodeSecondsBuckets() {
  static const std::vector<double> buckets = {1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2,
                                              3e-2, 0.1,  0.3,  1,    3,    10};
  return buckets;
}

}  // namespace

TokenizerMetrics::TokenizerMetrics(Metrics& metrics)
    : metrics_(metrics),
      encode_seconds_(metrics.AddHistogram("yangtuo_tokenizer_encode_seconds",
                                           "Time to encode the texts of one request.",
                                           EncodeSecondsBuckets())),
      encoded_tokens_(metrics.AddCounter("yangtuo_tokenizer_tokens_total",
                                         "Tokens that were encoded or decoded.",
                                         {{"direction", "encoded"}})),
      decoded_tokens_(metrics.AddCounter("yangtuo_tokenizer_tokens_total",
                                         "Tokens that were encoded or decoded.",
                                         {{"direction", "decoded"}})),
      open_streams_(metrics.AddGauge("yangtuo_tokenizer_open_streams",
                                     "Text streams that are being decoded.")) {}

void TokenizerMetrics::CountCall(const char* method, const grpc::Status& status,
                                 const grpc::ServerContextBase& context) {
  const std::string code = absl::StatusCodeToString(FromGrpc(status).code());
  metrics_
      .AddCounter("yangtuo_tokenizer_requests_total", "Calls that ended, by method and status.",
                  {{"method", method}, {"code", code}})
      .Add();
  Log(status.ok() ? LogLevel::kDebug : LogLevel::kInfo, status.ok() ? "call ended" : "call failed",
      {{"method", std::string(method)},
       {"code", code},
       {"request_id", RequestContext::FromServer(context).request_id},
       {"message", status.error_message()}});
}

void TokenizerMetrics::CountEncoding(double seconds, std::size_t num_tokens) {
  encode_seconds_.Observe(seconds);
  encoded_tokens_.Add(static_cast<double>(num_tokens));
}

void TokenizerMetrics::CountDecoded(std::size_t num_tokens) {
  decoded_tokens_.Add(static_cast<double>(num_tokens));
}

void TokenizerMetrics::AddOpenStreams(int change) { open_streams_.Add(change); }

}  // namespace yangtuo
