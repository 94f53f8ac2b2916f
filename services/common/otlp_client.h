#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/base/clock.h"
#include "services/common/otlp_json.h"

namespace yangtuo {

// Sends bodies to one collector, each over a connection of its own. Used by one thread, except for
// Hurry.
class OtlpClient {
 public:
  // `ca_file`: PEM file that verifies an https endpoint; empty: the system's authorities.
  // INVALID_ARGUMENT when it cannot be read.
  static absl::StatusOr<std::unique_ptr<OtlpClient>> Create(const OtlpEndpoint& endpoint,
                                                            const std::string& ca_file);
  ~OtlpClient();

  // The body of the answer to a POST. UNAVAILABLE: it may be sent again (not reached, too slow, or
  // the collector says so: 429, 502, 503, 504). Other errors are final. Blocks no longer than until
  // `deadline`, or what Hurry said.
  absl::StatusOr<std::string> Post(const std::string& body, TimePoint deadline);

  // A Post that runs or comes ends no later than at `deadline`. Thread-safe; once.
  void Hurry(TimePoint deadline);

 private:
  struct State;
  explicit OtlpClient(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace yangtuo
