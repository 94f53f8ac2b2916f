#include "gateway/admission.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "services/common/status.h"

namespace yangtuo::gateway {

absl::StatusOr<AdmissionPermit> Admission::Admit() {
  {
    const MutexLock lock(mutex_);
    if (closed_) {
      return WithRetryAfter(
          WithReason(absl::UnavailableError("this gateway is shutting down: ask another one"),
                     "DRAINING"),
          limits_.retry_after);
    }
    if (requests_ < limits_.max_requests) {
      ++requests_;
      return AdmissionPermit(*this);
    }
  }
  return WithRetryAfter(
      WithReason(absl::ResourceExhaustedError(absl::StrFormat(
                     "the gateway already holds %u requests, its limit (--max-requests): try again "
                     "later",
                     limits_.max_requests)),
                 "QUEUE_FULL"),
      limits_.retry_after);
}

absl::Status Admission::AddTokens(std::uint64_t tokens) {
  std::uint64_t held = 0;
  {
    const MutexLock lock(mutex_);
    if (tokens_ == 0 || tokens_ + tokens <= limits_.max_tokens) {
      tokens_ += tokens;
      return absl::OkStatus();
    }
    held = tokens_;
  }
  return WithRetryAfter(
      WithReason(absl::ResourceExhaustedError(absl::StrFormat(
                     "this request may need %u tokens (prompt and answer of every choice), %u are "
                     "promised to others and the limit (--max-tokens) is %u: try again later, or "
                     "lower stop.max_new_tokens",
                     tokens, held, limits_.max_tokens)),
                 "TOKENS_FULL"),
      limits_.retry_after);
}

void Admission::Leave(std::uint64_t tokens) {
  const MutexLock lock(mutex_);
  --requests_;
  tokens_ -= tokens;
  left_.NotifyAll();
}

void Admission::Close() {
  const MutexLock lock(mutex_);
  closed_ = true;
}

bool Admission::WaitUntilEmpty(TimePoint deadline) {
  const MutexLock lock(mutex_);
  while (requests_ > 0 && SteadyClock().Now() < deadline) {
    left_.WaitUntil(mutex_, deadline);
  }
  return requests_ == 0;
}

std::uint32_t Admission::requests() const {
  const MutexLock lock(mutex_);
  return requests_;
}

std::uint64_t Admission::tokens() const {
  const MutexLock lock(mutex_);
  return tokens_;
}

AdmissionPermit::AdmissionPermit(AdmissionPermit&& other) noexcept
    : admission_(std::exchange(other.admission_, nullptr)),
      tokens_(std::exchange(other.tokens_, 0)) {}

AdmissionPermit& AdmissionPermit::operator=(AdmissionPermit&& other) noexcept {
  if (this != &other) {
    Release();
    admission_ = std::exchange(other.admission_, nullptr);
    tokens_ = std::exchange(other.tokens_, 0);
  }
  return *this;
}

absl::Status AdmissionPermit::AddTokens(std::uint64_t tokens) {
  const absl::Status added = admission_->AddTokens(tokens);
  if (added.ok()) {
    tokens_ += tokens;
  }
  return added;
}

void AdmissionPermit::Release() {
  if (admission_ != nullptr) {
    admission_->Leave(tokens_);
    admission_ = nullptr;
    tokens_ = 0;
  }
}

}  // namespace yangtuo::gateway
