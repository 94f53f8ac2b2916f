#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "tools/bench_gateway/token_plan.h"

namespace yangtuo::bench_gateway {

// Who the producer says it is.
struct ProducerIdentity {
  std::string model;
  std::string tokenizer_digest;
  std::uint32_t vocabulary_size = 0;
};

// A stand-in at a worker's seat: an InferenceService on a loopback port whose streams get their
// planned tokens at a set rate from one pacing thread. The request's seed is the stream's number.
class TokenProducer {
 public:
  static absl::StatusOr<std::unique_ptr<TokenProducer>> Start(const ProducerIdentity& identity);
  ~TokenProducer();
  TokenProducer(const TokenProducer&) = delete;
  TokenProducer& operator=(const TokenProducer&) = delete;

  [[nodiscard]] std::string address() const;

  // Streams that begin from now on follow `plan`, with `tokens_per_second` each.
  void SetPlan(std::shared_ptr<TokenPlan> plan, double tokens_per_second);
  // Streams wait for this before their first token, so that all of a run begin together.
  void Release();
  // Streams that have begun since SetPlan.
  [[nodiscard]] std::size_t streams_begun() const;

 private:
  struct State;
  explicit TokenProducer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace yangtuo::bench_gateway
