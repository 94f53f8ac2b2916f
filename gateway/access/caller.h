#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gateway/access/key_account.h"

namespace yangtuo::gateway {

// For whom a request is done and what they may ask. Immutable. Without API keys everybody is the
// same nameless caller, who may do everything.
struct Caller {
  std::string tenant = {};
  std::string key_id = {};
  std::vector<std::string> models = {};           // empty: all
  std::optional<std::int32_t> max_priority = {};  // empty: any
  std::shared_ptr<KeyAccount> account = {};       // null: no limits

  [[nodiscard]] bool MayUse(const std::string& model) const;

  // PERMISSION_DENIED for more than the cap.
  [[nodiscard]] absl::Status CheckPriority(std::int32_t priority) const;
  // What a request for `priority` gets: 0 is no wish, and lower where the cap is lower.
  [[nodiscard]] std::int32_t PriorityFor(std::int32_t priority) const;
};

absl::Status ModelNotAllowed(const std::string& model);

// The place that a request in progress takes among those of its key. Ends when it is dropped.
class Visit {
 public:
  // What the key's limits say about it; a caller without limits gets a visit that counts nothing.
  static absl::StatusOr<std::shared_ptr<Visit>> Enter(const Caller& caller, std::uint32_t requests,
                                                      TimePoint now);
  ~Visit();
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;

  void ChargeTokens(std::uint64_t tokens, TimePoint now);

 private:
  Visit(std::shared_ptr<KeyAccount> account, std::uint32_t requests)
      : account_(std::move(account)), requests_(requests) {}

  const std::shared_ptr<KeyAccount> account_;
  const std::uint32_t requests_;
};

}  // namespace yangtuo::gateway
