#include "gateway/access/caller.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "services/common/status.h"

namespace yangtuo::gateway {

absl::Status ModelNotAllowed(const std::string& model) {
  return WithReason(
      absl::PermissionDeniedError(absl::StrFormat(
          "this API key does not allow the model \"%s\": /v1/models lists those it allows", model)),
      "MODEL_NOT_ALLOWED");
}

bool Caller::MayUse(const std::string& model) const {
  return models.empty() || std::find(models.begin(), models.end(), model) != models.end();
}

absl::Status Caller::CheckPriority(std::int32_t priority) const {
  if (!max_priority.has_value() || priority == 0 || priority <= *max_priority) {
    return absl::OkStatus();
  }
  return WithReason(absl::PermissionDeniedError(absl::StrFormat(
                        "this API key allows priorities up to %d, the request asks for %d",
                        *max_priority, priority)),
                    "PRIORITY_NOT_ALLOWED");
}

std::int32_t Caller::PriorityFor(std::int32_t priority) const {
  return max_priority.has_value() ? std::min(priority, *max_priority) : priority;
}

absl::StatusOr<std::shared_ptr<Visit>> Visit::Enter(const Caller& caller, std::uint32_t requests,
                                                    TimePoint now) {
  if (caller.account != nullptr) {
    YANGTUO_RETURN_IF_ERROR(caller.account->Enter(requests, now));
  }
  return std::shared_ptr<Visit>(new Visit(caller.account, requests));
}

Visit::~Visit() {
  if (account_ != nullptr) {
    account_->Leave(requests_);
  }
}

void Visit::ChargeTokens(std::uint64_t tokens, TimePoint now) {
  if (account_ != nullptr) {
    account_->ChargeTokens(tokens, now);
  }
}

}  // namespace yangtuo::gateway
