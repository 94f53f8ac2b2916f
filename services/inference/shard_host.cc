#include "services/inference/shard_host.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "services/common/log.h"
#include "services/common/status.h"
#include "services/inference/shard_codec.h"
#include "services/inference/shard_handshake.h"

namespace yangtuo {
namespace {

namespace pb = internal::v1;

// A leader has as many steps in flight as its chain has shards; more is a faulty one.
constexpr std::size_t kMaxQueuedSteps = 64;
// Without a step for so long, traced requests are reported as they are.
constexpr Duration kTraceQuiet = std::chrono::seconds(1);

absl::Status NotReady(const char* why) {
  return WithRetryAfter(absl::UnavailableError(why), std::chrono::seconds(1));
}

}  // namespace

ShardHost::~ShardHost() {
  std::shared_ptr<ShardCaller> caller;
  {
    const MutexLock lock(mutex_);
    stop_ = true;
    caller = std::move(caller_);
    caller_ = nullptr;
    tasks_.clear();
  }
  changed_.NotifyAll();
  if (caller != nullptr) {
    caller->End(absl::UnavailableError("the shard is shutting down"));
  }
  if (thread_.joinable()) {
    thread_.join();
  }
}

void ShardHost::Serve(std::unique_ptr<Stage> stage, Place place) {
  stage_ = std::move(stage);
  place_ = place;
  thread_ = std::thread([this] { Loop(); });
  const MutexLock lock(mutex_);
  info_ = stage_->info();
}

absl::Status ShardHost::Begin(std::shared_ptr<ShardCaller> caller, const pb::Hello& hello) {
  std::shared_ptr<ShardCaller> replaced;
  std::optional<pb::Welcome> description;
  {
    const MutexLock lock(mutex_);
    if (draining_ || stop_) {
      return NotReady("the shard is shutting down");
    }
    if (!info_.has_value()) {
      return NotReady("the shard is still loading its layers");
    }
    YANGTUO_RETURN_IF_ERROR(CheckHello(hello, *info_));
    YANGTUO_RETURN_IF_ERROR(CheckEpoch(hello, epoch_));
    if (hello.epoch() == 0) {
      description = MakeWelcome(*info_, place_.last_layer, 0);
    } else {
      replaced = std::move(caller_);
      caller_ = caller;
      epoch_ = hello.epoch();
      rank_ = static_cast<std::int32_t>(std::min(hello.pipeline_rank(), hello.num_layers())) + 1;
      tasks_.clear();
      tasks_.push_back({caller, hello});
    }
  }
  changed_.NotifyAll();
  if (replaced != nullptr) {
    replaced->End(absl::AbortedError(
        absl::StrFormat("the group was formed anew with epoch %d", hello.epoch())));
  }
  if (description.has_value()) {
    caller->Welcome(*description);
    caller->End(absl::OkStatus());
  }
  return absl::OkStatus();
}

absl::Status ShardHost::Enqueue(const std::shared_ptr<ShardCaller>& caller,
                                const pb::StepRequest& request) {
  std::optional<StageInfo> info;
  {
    const MutexLock lock(mutex_);
    if (caller_ != caller) {
      return absl::OkStatus();
    }
    if (tasks_.size() >= kMaxQueuedSteps) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("more than %d steps in flight", kMaxQueuedSteps));
    }
    info = info_;
  }
  YANGTUO_ASSIGN_OR_RETURN(Step step, DecodeStep(request, *info));
  {
    const MutexLock lock(mutex_);
    if (caller_ != caller) {
      return absl::OkStatus();
    }
    last_step_ = std::chrono::steady_clock::now();
    tasks_.push_back({caller, std::move(step)});
  }
  changed_.NotifyAll();
  return absl::OkStatus();
}

void ShardHost::Forget(const ShardCaller* caller) {
  {
    const MutexLock lock(mutex_);
    if (caller_.get() != caller) {
      return;
    }
    caller_ = nullptr;
    tasks_.clear();
  }
  changed_.NotifyAll();
}

void ShardHost::Drain(Duration quiet, TimePoint deadline) {
  std::shared_ptr<ShardCaller> caller;
  {
    const MutexLock lock(mutex_);
    while (caller_ != nullptr) {
      const TimePoint until = std::min(deadline, last_step_ + quiet);
      if (std::chrono::steady_clock::now() >= until) {
        break;
      }
      changed_.WaitUntil(mutex_, until);
    }
    draining_ = true;
    caller = std::move(caller_);
    caller_ = nullptr;
    tasks_.clear();
  }
  if (caller != nullptr) {
    caller->End(absl::UnavailableError("the shard is shutting down"));
  }
}

ShardHost::State ShardHost::state() const {
  const MutexLock lock(mutex_);
  State state{.loaded = info_.has_value(), .connected = caller_ != nullptr, .rank = rank_};
  if (info_.has_value()) {
    state.depth = info_->depth;
    state.kv_blocks = info_->kv_blocks;
  }
  return state;
}

std::optional<ShardHost::Task> ShardHost::TakeTask() {
  const MutexLock lock(mutex_);
  while (!stop_ && tasks_.empty()) {
    if (!traces_.pending()) {
      changed_.Wait(mutex_);
    } else if (!changed_.WaitUntil(mutex_, std::chrono::steady_clock::now() + kTraceQuiet)) {
      traces_.Flush();
    }
  }
  if (stop_) {
    traces_.EndAll();
    return std::nullopt;
  }
  Task task = std::move(tasks_.front());
  tasks_.pop_front();
  return task;
}

void ShardHost::Loop() {
  while (std::optional<Task> task = TakeTask()) {
    if (const auto* hello = std::get_if<pb::Hello>(&task->work)) {
      FormGroup(task->caller, *hello);
    } else {
      Compute(task->caller, std::get<Step>(std::move(task->work)));
    }
  }
}

void ShardHost::FormGroup(const std::shared_ptr<ShardCaller>& caller, const pb::Hello& hello) {
  traces_.EndAll();
  if (place_.relay != nullptr) {
    RelayStage::Route route;
    route.epoch = hello.epoch();
    route.own_rank = static_cast<std::int32_t>(hello.pipeline_rank()) + 1;
    route.events.on_result = [caller](const pb::StepResponse& response) {
      caller->Answer(response);
    };
    route.events.on_lost = [caller](const absl::Status& why) {
      caller->End(absl::UnavailableError(
          absl::StrFormat("lost the next shard: %s", std::string(why.message()))));
    };
    place_.relay->SetRoute(std::move(route));
  }
  if (const absl::Status reset = stage_->Reset(); !reset.ok()) {
    Fail(caller, reset);
    return;
  }
  Log(LogLevel::kInfo, "shard group formed",
      {{"epoch", static_cast<std::int64_t>(hello.epoch())},
       {"rank", static_cast<std::int64_t>(hello.pipeline_rank()) + 1},
       {"shards_from_here", static_cast<std::int64_t>(stage_->info().depth)}});
  caller->Welcome(MakeWelcome(stage_->info(), place_.last_layer, hello.epoch()));
}

void ShardHost::Compute(const std::shared_ptr<ShardCaller>& caller, Step step) {
  const std::uint64_t id = step.id;
  std::int32_t rank = 0;
  {
    const MutexLock lock(mutex_);
    rank = rank_;
  }
  traces_.Begin(step, rank);
  const TimePoint begin = std::chrono::steady_clock::now();
  if (place_.relay != nullptr) {
    place_.relay->NoteStart();
  }
  absl::Status status = stage_->Submit(std::move(step));
  if (status.ok()) {
    // Never waits: the end of the chain has computed, and a relay answers at once.
    absl::StatusOr<StepResult> result = stage_->Next();
    if (result.ok()) {
      traces_.Computed(begin, std::chrono::steady_clock::now());
      if (place_.relay == nullptr) {
        caller->Answer(EncodeStepResult(*result));
      }
      return;
    }
    status = result.status();
  }
  caller->Answer(EncodeStepError(id, status));
  Fail(caller, status);
}

void ShardHost::Fail(const std::shared_ptr<ShardCaller>& caller, const absl::Status& why) {
  {
    const MutexLock lock(mutex_);
    if (caller_ == caller) {
      caller_ = nullptr;
      tasks_.clear();
    }
  }
  Log(LogLevel::kWarning, "shard stream failed", {{"reason", std::string(why.message())}});
  caller->End(why);
}

}  // namespace yangtuo
