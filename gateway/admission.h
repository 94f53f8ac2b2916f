#pragma once

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"

namespace yangtuo::gateway {

// How much the gateway lets in at a time. What is in is running or queued at a worker.
struct AdmissionLimits {
  std::uint32_t max_requests = 1024;
  // Prompt plus longest possible answer, summed over choices and requests.
  std::uint64_t max_tokens = 4'000'000;
  // What a refused client is told to wait.
  Duration retry_after = std::chrono::seconds(1);
};

class AdmissionPermit;

// Counts requests and tokens in flight and refuses at once what would pass the limits: there is no
// queue here, so nothing can grow without bound. Thread-safe; outlives its permits.
class Admission {
 public:
  explicit Admission(AdmissionLimits limits) : limits_(limits) {}
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  // RESOURCE_EXHAUSTED with reason QUEUE_FULL and a RetryInfo when max_requests are in. UNAVAILABLE
  // with reason DRAINING once closed.
  absl::StatusOr<AdmissionPermit> Admit() ABSL_LOCKS_EXCLUDED(mutex_);

  // For a gateway that ends: nobody enters any more, those who are in stay.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);
  // Blocks until nobody is in; false when somebody still is at `deadline`.
  bool WaitUntilEmpty(TimePoint deadline) ABSL_LOCKS_EXCLUDED(mutex_);

  [[nodiscard]] std::uint32_t requests() const ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] std::uint64_t tokens() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class AdmissionPermit;
  absl::Status AddTokens(std::uint64_t tokens) ABSL_LOCKS_EXCLUDED(mutex_);
  void Leave(std::uint64_t tokens) ABSL_LOCKS_EXCLUDED(mutex_);

  const AdmissionLimits limits_;
  mutable Mutex mutex_;
  CondVar left_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::uint32_t requests_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t tokens_ ABSL_GUARDED_BY(mutex_) = 0;
};

// One admitted request's place. Dropping it gives the place and its tokens back.
class AdmissionPermit {
 public:
  AdmissionPermit(AdmissionPermit&& other) noexcept;
  AdmissionPermit& operator=(AdmissionPermit&& other) noexcept;
  AdmissionPermit(const AdmissionPermit&) = delete;
  AdmissionPermit& operator=(const AdmissionPermit&) = delete;
  ~AdmissionPermit() { Release(); }

  // Takes the request's tokens as well, once they are known. RESOURCE_EXHAUSTED with reason
  // TOKENS_FULL when they do not fit beside what is in. A request larger than the whole limit
  // enters when no other holds tokens, so that it is slow rather than impossible.
  absl::Status AddTokens(std::uint64_t tokens);

 private:
  friend class Admission;
  explicit AdmissionPermit(Admission& admission) : admission_(&admission) {}
  void Release();

  Admission* admission_;
  std::uint64_t tokens_ = 0;
};

}  // namespace yangtuo::gateway
