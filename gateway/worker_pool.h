#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "gateway/call_scope.h"
#include "gateway/gateway_metrics.h"
#include "gateway/peer_discovery.h"
#include "gateway/prefix_index.h"
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

// What routing may do.
struct RoutingLimits {
  // A group that fails its streams is kept away from them for a while.
  CircuitBreaker::Limits breaker;
  // But never more than this share of a model's groups: if all fail, the cause is elsewhere.
  double max_ejected_share = 0.5;
  // KV blocks of prompts whose group is remembered; 0: prompts are not sent where their beginning
  // was computed.
  std::size_t prefix_blocks = 65536;
};

// Which group a stream may go to.
struct RouteRequest {
  std::string model{};
  std::string numerics_id{};  // empty: any
  // What the prompt was made for: groups with another tokenizer, or less context, under the same
  // name (a model that is being exchanged) are none for it.
  std::string tokenizer_digest{};
  std::uint32_t context_tokens = 0;
  // Addresses that were tried already.
  std::vector<std::string> avoid{};
  // Whether one of those is better than none.
  enum class Tried { kLastResort, kNever } tried = Tried::kLastResort;
  // With the answer so far, if there is one.
  std::uint64_t prompt_tokens = 0;
  // For the groups that have its beginning; empty: of no interest.
  std::span<const std::uint32_t> prompt_ids{};
  std::string cache_salt{};
  // The answer has at least so many tokens, and this long. When no group can have it by then, the
  // route is refused.
  std::uint64_t least_tokens = 0;
  std::optional<Duration> time_left{};
};

// UNAVAILABLE with reason NO_READY_GROUP and a RetryInfo. `which` goes on after "ready".
absl::Status NoReadyGroup(const std::string& model, const char* which = "");

// All worker groups that discovery has found. Thread-safe.
class WorkerPool {
 public:
  WorkerPool(ClientTls tls, const RoutingLimits& limits, LiveCalls& calls, GatewayMetrics& metrics)
      : tls_(std::move(tls)),
        limits_(limits),
        calls_(calls),
        metrics_(metrics),
        prefixes_(limits.prefix_blocks) {}
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
  // The ready group that has most of the prompt's beginning, or the least loaded one.
  // UNAVAILABLE, with a RetryInfo, when there is none; DEADLINE_EXCEEDED with reason
  // DEADLINE_TOO_SOON when none can answer in time.
  absl::StatusOr<WorkerLease> Route(const RouteRequest& request) ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether there is a group for it at all.
  [[nodiscard]] bool CanRoute(const RouteRequest& request) const {
    return !Candidates(request).empty();
  }

  // Every known worker: address and whether it is up.
  [[nodiscard]] std::map<std::string, bool> Up() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Every known worker: address and whether its circuit breaker keeps streams away from it.
  [[nodiscard]] std::map<std::string, bool> Ejected() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Workers = std::vector<std::shared_ptr<Worker>>;
  // Ready groups that compute what is asked for, without those that are ejected.
  [[nodiscard]] Workers Candidates(const RouteRequest& request) const;
  // Takes those out that break their streams, the cap permitting.
  void Eject(Workers& groups, TimePoint now) const;
  // Fills in `cached_prompt_tokens`; the keys are those of the prompt, by root of their scheme.
  using KeysByRoot = std::map<std::string, std::vector<PrefixKey>>;
  KeysByRoot AddCachedTokens(const RouteRequest& request, const Workers& workers,
                             std::vector<GroupLoad>& loads) const;
  // Whether streams of this group could go on at once at another one.
  [[nodiscard]] bool HasIdleTwin(const Worker& worker) const ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] std::vector<std::shared_ptr<Worker>> Current() const ABSL_LOCKS_EXCLUDED(mutex_);

  const ClientTls tls_;
  const RoutingLimits limits_;
  LiveCalls& calls_;
  GatewayMetrics& metrics_;
  PrefixIndex prefixes_;
  mutable Mutex mutex_;
  std::uint64_t turn_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, std::shared_ptr<Worker>> workers_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Worker>> leaving_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yangtuo::gateway
