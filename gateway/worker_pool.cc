#include "gateway/worker_pool.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/base/status_macros.h"
#include "services/common/log.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

constexpr Duration kRetryAfter = std::chrono::seconds(2);

std::string Names(const std::map<std::string, ServedModel>& models) {
  return absl::StrJoin(models, ", ",
                       [](std::string* out, const auto& entry) { out->append(entry.first); });
}

// What a group would have to compute of a prompt.
std::uint64_t UncachedTokens(const RouteRequest& request, const GroupLoad& load) {
  return request.prompt_tokens - std::min(request.prompt_tokens, load.cached_prompt_tokens);
}

// The group itself if it can answer in time as far as is known, else the one that is soonest done.
absl::StatusOr<std::size_t> InTime(const RouteRequest& request,
                                   const std::vector<std::shared_ptr<Worker>>& workers,
                                   const std::vector<GroupLoad>& loads, std::size_t chosen) {
  const TimePoint now = std::chrono::steady_clock::now();
  const auto least = [&](std::size_t i) {
    return workers[i]
        ->LeastTime(now, UncachedTokens(request, loads[i]), request.least_tokens)
        .value_or(Duration{});
  };
  if (least(chosen) <= *request.time_left) {
    return chosen;
  }
  std::size_t soonest = chosen;
  for (std::size_t i = 0; i < workers.size(); ++i) {
    soonest = least(i) < least(soonest) ? i : soonest;
  }
  if (least(soonest) <= *request.time_left) {
    return soonest;
  }
  return WithReason(
      absl::DeadlineExceededError(absl::StrFormat(
          "the answer would take at least %.1f s, as fast as the workers have lately been and with "
          "what waits there, and the deadline is in %.1f s: allow more time, or ask for fewer "
          "tokens",
          ToSeconds(least(soonest)), ToSeconds(*request.time_left))),
      "DEADLINE_TOO_SOON");
}

}  // namespace

absl::Status NoReadyGroup(const std::string& model, const char* which) {
  return WithRetryAfter(
      WithReason(absl::UnavailableError(absl::StrFormat(
                     "no worker group of model \"%s\" is ready%s: try again later", model, which)),
                 "NO_READY_GROUP", {{"model", model}}),
      kRetryAfter);
}

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
    auto worker = Worker::Connect(peer, tls_, calls_, limits_.breaker);
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
  for (const auto& worker : all) {
    if (worker->holds_up_streams(now) && HasIdleTwin(*worker)) {
      worker->AbortStreams("its group lacks a shard, and another has room");
    }
  }
}

bool WorkerPool::HasIdleTwin(const Worker& worker) const {
  const auto status = worker.status();
  const Workers others = Current();
  return std::any_of(others.begin(), others.end(), [&](const auto& other) {
    return other->ready() && other->status()->model() == status->model() &&
           other->status()->numerics_id() == status->numerics_id() && other->load().waiting == 0;
  });
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

WorkerPool::Workers WorkerPool::Candidates(const RouteRequest& request) const {
  Workers groups;
  for (auto& worker : Current()) {
    const auto status = worker->status();
    if (worker->ready() && status->model() == request.model &&
        status->tokenizer_digest() == request.tokenizer_digest &&
        status->context_tokens() >= request.context_tokens &&
        (request.numerics_id.empty() || status->numerics_id() == request.numerics_id)) {
      groups.push_back(std::move(worker));
    }
  }
  Eject(groups, std::chrono::steady_clock::now());
  Workers fresh;
  Workers tried;
  for (auto& worker : groups) {
    const bool avoid = std::find(request.avoid.begin(), request.avoid.end(), worker->address()) !=
                       request.avoid.end();
    (avoid ? tried : fresh).push_back(std::move(worker));
  }
  const bool last_resort = fresh.empty() && request.tried == RouteRequest::Tried::kLastResort;
  return last_resort ? tried : fresh;
}

void WorkerPool::Eject(Workers& groups, TimePoint now) const {
  std::vector<std::pair<TimePoint, std::size_t>> kept_away;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (const auto until = groups[i]->kept_away_until(now); until.has_value()) {
      kept_away.emplace_back(*until, i);
    }
  }
  const auto most =
      static_cast<std::size_t>(limits_.max_ejected_share * static_cast<double>(groups.size()));
  // The worst ones stay away longest.
  std::sort(kept_away.rbegin(), kept_away.rend());
  kept_away.resize(std::min(kept_away.size(), most));
  for (const auto& [until, index] : kept_away) {
    groups[index] = nullptr;
  }
  groups.erase(std::remove(groups.begin(), groups.end(), nullptr), groups.end());
}

WorkerPool::KeysByRoot WorkerPool::AddCachedTokens(const RouteRequest& request,
                                                   const Workers& workers,
                                                   std::vector<GroupLoad>& loads) const {
  KeysByRoot keys;
  if (limits_.prefix_blocks == 0) {
    return keys;
  }
  for (std::size_t i = 0; i < workers.size(); ++i) {
    const auto status = workers[i]->status();
    const internal::v1::PrefixScheme& scheme = status->prefix_scheme();
    const auto [entry, fresh] = keys.try_emplace(scheme.root());
    if (fresh) {
      entry->second = PrefixKeys(scheme, request.cache_salt, request.prompt_ids);
    }
    const std::uint64_t life = workers[i]->life();
    loads[i].cached_prompt_tokens =
        prefixes_.LeadingBlocks(entry->second, {&life, 1}).front() * scheme.block_size();
  }
  return keys;
}

absl::StatusOr<WorkerLease> WorkerPool::Route(const RouteRequest& request) {
  const Workers candidates = Candidates(request);
  if (candidates.empty()) {
    return NoReadyGroup(request.model,
                        request.numerics_id.empty() ? "" : " that computes as the lost one did");
  }
  std::vector<GroupLoad> loads;
  loads.reserve(candidates.size());
  for (const auto& worker : candidates) {
    loads.push_back(worker->load());
  }
  const KeysByRoot keys = AddCachedTokens(request, candidates, loads);
  std::uint64_t turn = 0;
  {
    const MutexLock lock(mutex_);
    turn = turn_++;
  }
  std::size_t chosen = 0;
  const auto by_prefix = ChooseByPrefix(loads, turn);
  if (by_prefix.has_value()) {
    chosen = *by_prefix;
  } else {
    chosen = *ChooseGroup(loads, turn);
  }
  if (request.time_left.has_value()) {
    YANGTUO_ASSIGN_OR_RETURN(chosen, InTime(request, candidates, loads, chosen));
  }
  const auto& worker = candidates[chosen];
  metrics_.routed(loads[chosen].cached_prompt_tokens > 0 ? "prefix" : "load").Add();
  if (const auto found = keys.find(worker->status()->prefix_scheme().root()); found != keys.end()) {
    prefixes_.Remember(found->second, worker->life());
  }
  return WorkerLease(worker, UncachedTokens(request, loads[chosen]));
}

std::map<std::string, bool> WorkerPool::Up() const {
  std::map<std::string, bool> up;
  for (const auto& worker : Current()) {
    up.emplace(worker->address(), worker->up());
  }
  return up;
}

std::map<std::string, bool> WorkerPool::Ejected() const {
  std::map<std::string, bool> ejected;
  const TimePoint now = std::chrono::steady_clock::now();
  for (const auto& worker : Current()) {
    ejected.emplace(worker->address(), worker->kept_away_until(now).has_value());
  }
  return ejected;
}

}  // namespace yangtuo::gateway
