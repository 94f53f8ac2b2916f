#include "services/inference/status_board.h"

#include <chrono>
#include <utility>

#include "services/common/status.h"

namespace yangtuo {
namespace {

namespace pb = internal::v1;

constexpr Duration kShowEvery = std::chrono::seconds(1);

}  // namespace

// One WatchStatus call. Only the newest status matters: one that could not be written yet is
// replaced. Owns itself until OnDone; the board shares it while it shows something.
class StatusBoard::Watcher final : public grpc::ServerWriteReactor<pb::WatchStatusResponse> {
 public:
  void Own(std::shared_ptr<Watcher> self) { self_ = std::move(self); }

  void Show(const pb::WorkerStatus& status) ABSL_LOCKS_EXCLUDED(mutex_) {
    Act act = Act::kNothing;
    {
      const MutexLock lock(mutex_);
      next_ = status;
      act = Advance();
    }
    Do(act);
  }

  void End(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_) {
    Act act = Act::kNothing;
    {
      const MutexLock lock(mutex_);
      if (!end_.has_value()) {
        end_ = status;
      }
      act = Advance();
    }
    Do(act);
  }

 private:
  enum class Act { kNothing, kWrite, kFinish };

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_) {
    Act act = Act::kNothing;
    {
      const MutexLock lock(mutex_);
      writing_ = false;
      if (!ok) {
        next_.reset();
        end_ = absl::CancelledError("the watcher is gone");
      }
      act = Advance();
    }
    Do(act);
  }
  void OnCancel() override { End(absl::CancelledError("the watcher is gone")); }
  void OnDone() override { const std::shared_ptr<Watcher> last = std::move(self_); }

  Act Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || finished_) {
      return Act::kNothing;
    }
    if (next_.has_value()) {
      *in_flight_.mutable_status() = *std::move(next_);
      next_.reset();
      writing_ = true;
      return Act::kWrite;
    }
    if (end_.has_value()) {
      final_status_ = *end_;
      finished_ = true;
      return Act::kFinish;
    }
    return Act::kNothing;
  }

  void Do(Act act) {
    if (act == Act::kWrite) {
      StartWrite(&in_flight_);
    } else if (act == Act::kFinish) {
      Finish(ToGrpc(final_status_));
    }
  }

  std::shared_ptr<Watcher> self_;
  Mutex mutex_;
  std::optional<pb::WorkerStatus> next_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  pb::WatchStatusResponse in_flight_;  // gRPC's while writing_
  absl::Status final_status_;
};

StatusBoard::StatusBoard(std::function<pb::WorkerStatus()> read) : read_(std::move(read)) {}

StatusBoard::~StatusBoard() = default;

grpc::ServerWriteReactor<pb::WatchStatusResponse>* StatusBoard::Watch() {
  const auto watcher = std::make_shared<Watcher>();
  watcher->Own(watcher);
  std::optional<absl::Status> closed;
  {
    const MutexLock lock(mutex_);
    closed = closed_;
    watchers_.push_back(watcher);
  }
  watcher->Show(Read());
  if (closed.has_value()) {
    watcher->End(*closed);
  }
  return watcher.get();
}

void StatusBoard::Close(const absl::Status& status) {
  {
    const MutexLock lock(mutex_);
    closed_ = status;
  }
  for (const std::shared_ptr<Watcher>& watcher : Watchers()) {
    watcher->Show(Read());
    watcher->End(status);
  }
}

void StatusBoard::OnTick(TimePoint now) {
  const pb::WorkerStatus status = Read();
  const bool changed = status.ready() != was_ready_ || status.draining() != was_draining_;
  if (!changed && now - last_shown_ < kShowEvery) {
    return;
  }
  was_ready_ = status.ready();
  was_draining_ = status.draining();
  last_shown_ = now;
  for (const std::shared_ptr<Watcher>& watcher : Watchers()) {
    watcher->Show(status);
  }
}

std::vector<std::shared_ptr<StatusBoard::Watcher>> StatusBoard::Watchers() {
  const MutexLock lock(mutex_);
  std::vector<std::shared_ptr<Watcher>> alive;
  std::vector<std::weak_ptr<Watcher>> kept;
  for (const std::weak_ptr<Watcher>& weak : watchers_) {
    if (std::shared_ptr<Watcher> watcher = weak.lock()) {
      alive.push_back(std::move(watcher));
      kept.push_back(weak);
    }
  }
  watchers_ = std::move(kept);
  return alive;
}

}  // namespace yangtuo
