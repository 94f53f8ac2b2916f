#include "gateway/worker_pool.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "services/common/log.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

constexpr Duration kRetryAfter = std::chrono::seconds(2);

std::string Names(const std::map<std::string, ServedModel>& models) {
  return absl::StrJoin(models, ", ",
                       [](std::string* out, const auto& entry) { out->append(entry.first); });
}

}  // namespace

void WorkerPool::SetPeers(const std::vector<PeerAddress>& peers) {
  std::set<std::string> wanted;
  const MutexLock lock(mutex_);
  for (const PeerAddress& peer : peers) {
    wanted.insert(peer.target);
    if (workers_.contains(peer.target)) {
      continue;
    }
    const auto back = std::find_if(leaving_.begin(), leaving_.end(), [&](const auto& worker) {
      return worker->address() == peer.target;
    });
    if (back != leaving_.end()) {
      workers_.emplace(peer.target, *back);
      leaving_.erase(back);
      continue;
    }
    auto worker = Worker::Connect(peer, tls_, calls_);
    if (!worker.ok()) {
      Log(LogLevel::kError, "worker not reachable",
          {{"worker", peer.target}, {"error", std::string(worker.status().message())}});
      continue;
    }
    workers_.emplace(peer.target, *std::move(worker));
  }
  for (auto entry = workers_.begin(); entry != workers_.end();) {
    if (wanted.contains(entry->first)) {
      ++entry;
      continue;
    }
    Log(LogLevel::kInfo, "worker leaves", {{"worker", entry->first}});
    leaving_.push_back(entry->second);
    entry = workers_.erase(entry);
  }
}

void WorkerPool::Tick(TimePoint now) {
  std::vector<std::shared_ptr<Worker>> gone;
  std::vector<std::shared_ptr<Worker>> all;
  {
    const MutexLock lock(mutex_);
    for (auto worker = leaving_.begin(); worker != leaving_.end();) {
      if ((*worker)->open_streams() == 0) {
        gone.push_back(*worker);
        worker = leaving_.erase(worker);
      } else {
        all.push_back(*worker);
        ++worker;
      }
    }
    for (const auto& [address, worker] : workers_) {
      all.push_back(worker);
    }
  }
  for (const auto& worker : all) {
    worker->Tick(now);
  }
  for (const auto& worker : gone) {
    worker->Close();
  }
}

void WorkerPool::Close() {
  std::vector<std::shared_ptr<Worker>> all = Current();
  {
    const MutexLock lock(mutex_);
    all.insert(all.end(), leaving_.begin(), leaving_.end());
    workers_.clear();
    leaving_.clear();
  }
  for (const auto& worker : all) {
    worker->Close();
  }
}

std::vector<std::shared_ptr<Worker>> WorkerPool::Current() const {
  std::vector<std::shared_ptr<Worker>> all;
  const MutexLock lock(mutex_);
  all.reserve(workers_.size());
  for (const auto& [address, worker] : workers_) {
    all.push_back(worker);
  }
  return all;
}

std::map<std::string, ServedModel> WorkerPool::Models() const {
  std::map<std::string, ServedModel> models;
  for (const auto& worker : Current()) {
    auto status = worker->status();
    if (status == nullptr) {
      continue;
    }
    ServedModel& model = models[status->model()];
    const bool ready = worker->ready();
    if (model.status == nullptr || (ready && model.ready_groups == 0)) {
      model.status = std::move(status);
    }
    model.ready_groups += ready ? 1 : 0;
  }
  return models;
}

absl::StatusOr<ServedModel> WorkerPool::Resolve(const std::string& name) const {
  std::map<std::string, ServedModel> models = Models();
  if (models.empty()) {
    return WithRetryAfter(
        WithReason(absl::UnavailableError("no worker has reported to this gateway yet, so no model "
                                          "is known: check --workers and the workers' logs"),
                   "NO_WORKER"),
        kRetryAfter);
  }
  if (name.empty() && models.size() == 1) {
    return models.begin()->second;
  }
  if (name.empty()) {
    return WithReason(absl::InvalidArgumentError(absl::StrFormat(
                          "model is empty, which is allowed only when one model is served: name "
                          "one of %s",
                          Names(models))),
                      "MODEL_REQUIRED");
  }
  const auto found = models.find(name);
  if (found == models.end()) {
    return WithReason(absl::NotFoundError(absl::StrFormat(
                          "model \"%s\" is unknown, this cluster serves: %s", name, Names(models))),
                      "MODEL_NOT_FOUND", {{"model", name}});
  }
  return found->second;
}

absl::StatusOr<WorkerLease> WorkerPool::Route(const RouteRequest& request) {
  std::vector<std::shared_ptr<Worker>> fresh;
  std::vector<std::shared_ptr<Worker>> tried;
  for (auto& worker : Current()) {
    const auto status = worker->status();
    if (!worker->ready() || status->model() != request.model ||
        (!request.numerics_id.empty() && status->numerics_id() != request.numerics_id)) {
      continue;
    }
    const bool avoid = std::find(request.avoid.begin(), request.avoid.end(), worker->address()) !=
                       request.avoid.end();
    (avoid ? tried : fresh).push_back(std::move(worker));
  }
  const bool last_resort = fresh.empty() && request.tried == RouteRequest::Tried::kLastResort;
  const std::vector<std::shared_ptr<Worker>>& candidates = last_resort ? tried : fresh;
  std::vector<GroupLoad> loads;
  loads.reserve(candidates.size());
  for (const auto& worker : candidates) {
    loads.push_back(worker->load());
  }
  std::uint64_t turn = 0;
  {
    const MutexLock lock(mutex_);
    turn = turn_++;
  }
  if (const auto chosen = ChooseGroup(loads, turn); chosen.has_value()) {
    return WorkerLease(candidates[*chosen], request.prompt_tokens);
  }
  return WithRetryAfter(
      WithReason(absl::UnavailableError(absl::StrFormat(
                     "no worker group of model \"%s\" is ready%s: try again later", request.model,
                     request.numerics_id.empty() ? "" : " that computes as the lost one did")),
                 "NO_READY_GROUP", {{"model", request.model}}),
      kRetryAfter);
}

std::map<std::string, bool> WorkerPool::Up() const {
  std::map<std::string, bool> up;
  for (const auto& worker : Current()) {
    up.emplace(worker->address(), worker->up());
  }
  return up;
}

}  // namespace yangtuo::gateway
