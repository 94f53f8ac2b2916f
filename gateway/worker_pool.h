#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "gateway/call_scope.h"
#include "gateway/peer_discovery.h"
#include "gateway/worker.h"
#include "inference_core/base/mutex.h"
#include "services/common/service_options.h"

namespace yangtuo::gateway {

// A model as its groups describe it.
struct ServedModel {
  // Of a ready group if there is one, else as last seen.
  std::shared_ptr<const internal::v1::WorkerStatus> status;
  std::uint32_t ready_groups = 0;
};

// Which group a stream may go to.
struct RouteRequest {
  std::string model{};
  std::string numerics_id{};  // empty: any
  // Addresses that were tried already.
  std::vector<std::string> avoid{};
  // Whether one of those is better than none.
  enum class Tried { kLastResort, kNever } tried = Tried::kLastResort;
  std::uint64_t prompt_tokens = 0;
};

// All worker groups that discovery has found. Thread-safe.
class WorkerPool {
 public:
  WorkerPool(ClientTls tls, LiveCalls& calls) : tls_(std::move(tls)), calls_(calls) {}
  ~WorkerPool() { Close(); }
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // The peers there are now. New ones are connected; ones that left take no new streams and are
  // dropped when their last one ends.
  void SetPeers(const std::vector<PeerAddress>& peers) ABSL_LOCKS_EXCLUDED(mutex_);
  void Tick(TimePoint now) ABSL_LOCKS_EXCLUDED(mutex_);
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);

  // By public name, in order.
  [[nodiscard]] std::map<std::string, ServedModel> Models() const ABSL_LOCKS_EXCLUDED(mutex_);
  // `name` may be empty when there is exactly one model. NOT_FOUND names the models; UNAVAILABLE
  // when no worker has been seen yet.
  [[nodiscard]] absl::StatusOr<ServedModel> Resolve(const std::string& name) const;
  // The least loaded ready group. UNAVAILABLE, with a RetryInfo, when there is none.
  absl::StatusOr<WorkerLease> Route(const RouteRequest& request) ABSL_LOCKS_EXCLUDED(mutex_);

  // Every known worker: address and whether it is up.
  [[nodiscard]] std::map<std::string, bool> Up() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  [[nodiscard]] std::vector<std::shared_ptr<Worker>> Current() const ABSL_LOCKS_EXCLUDED(mutex_);

  const ClientTls tls_;
  LiveCalls& calls_;
  mutable Mutex mutex_;
  std::uint64_t turn_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, std::shared_ptr<Worker>> workers_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Worker>> leaving_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yangtuo::gateway
