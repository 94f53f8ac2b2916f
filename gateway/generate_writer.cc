#include "gateway/generate_writer.h"

#include <utility>

#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

// A client that does not read does not get its status either. When it has taken nothing for this
// long after the end, its call is cancelled, so that it holds nothing for ever.
constexpr Duration kUnreadLimit = std::chrono::seconds(10);

}  // namespace

std::shared_ptr<GenerateWriter> GenerateWriter::Create(grpc::CallbackServerContext& context,
                                                       std::size_t buffer_bytes, Timers& timers) {
  std::shared_ptr<GenerateWriter> writer(new GenerateWriter(context, buffer_bytes, timers));
  writer->self_ = writer;
  return writer;
}

void GenerateWriter::Attach(std::shared_ptr<GenerationFlow> flow) {
  bool cancelled = false;
  {
    const MutexLock lock(mutex_);
    cancelled = cancelled_;
    if (context_ != nullptr) {
      flow_ = flow;
    }
  }
  if (cancelled) {
    flow->Cancel();
  }
}

SinkRoom GenerateWriter::Add(v1::GenerateResponse response) {
  const MutexLock lock(mutex_);
  if (broken_ || end_.has_value()) {
    return SinkRoom::kLeft;  // OnCancel stops the flow
  }
  buffer_.Add(std::move(response));
  return buffer_.bytes() > buffer_bytes_ ? SinkRoom::kFull : SinkRoom::kLeft;
}

void GenerateWriter::Flush() {
  Next next = Next::kNothing;
  {
    const MutexLock lock(mutex_);
    next = Decide();
  }
  Act(next);
}

void GenerateWriter::End(const absl::Status& status) {
  Next next = Next::kNothing;
  bool waits = false;
  std::uint64_t written = 0;
  {
    const MutexLock lock(mutex_);
    if (DropsUnsent(status)) {
      buffer_.Clear();
    }
    end_ = status;
    next = Decide();
    waits = next != Next::kFinish;
    written = written_;
  }
  Act(next);
  if (waits) {
    WatchUnread(written);
  }
}

void GenerateWriter::WatchUnread(std::uint64_t written) {
  timers_.After(kUnreadLimit, [writer = weak_from_this(), written] {
    const auto alive = writer.lock();
    if (alive == nullptr) {
      return;
    }
    std::uint64_t now = 0;
    {
      const MutexLock lock(alive->mutex_);
      now = alive->written_;
    }
    now == written ? alive->CancelUnread() : alive->WatchUnread(now);
  });
}

GenerateWriter::Next GenerateWriter::Decide() {
  if (writing_ || finished_ || cancelling_) {
    return Next::kNothing;
  }
  if (!buffer_.empty() && !broken_) {
    in_flight_ = buffer_.TakeFirst();
    writing_ = true;
    return Next::kWrite;
  }
  if (end_.has_value()) {
    finished_ = true;
    return Next::kFinish;
  }
  return Next::kNothing;
}

void GenerateWriter::Act(Next next) {
  if (next == Next::kWrite) {
    StartWrite(&in_flight_);
  } else if (next == Next::kFinish) {
    absl::Status status;
    {
      const MutexLock lock(mutex_);
      status = *end_;
    }
    Finish(ToGrpc(status));
  }
}

void GenerateWriter::CancelUnread() {
  grpc::CallbackServerContext* context = nullptr;
  {
    const MutexLock lock(mutex_);
    if (context_ == nullptr || finished_) {
      return;
    }
    context = context_;
    cancelling_ = true;
  }
  // Reactions may run inside, so not under the lock. The context lives on meanwhile, because gRPC
  // drops it only after Finish.
  context->TryCancel();
  Next next = Next::kNothing;
  {
    const MutexLock lock(mutex_);
    cancelling_ = false;
    next = Decide();
  }
  Act(next);
}

void GenerateWriter::OnWriteDone(bool ok) {
  Next next = Next::kNothing;
  {
    const MutexLock lock(mutex_);
    writing_ = false;
    ++written_;
    if (!ok) {
      broken_ = true;
      buffer_.Clear();
    }
    next = Decide();
  }
  Act(next);
}

void GenerateWriter::OnCancel() {
  std::shared_ptr<GenerationFlow> flow;
  {
    const MutexLock lock(mutex_);
    cancelled_ = true;
    flow = flow_;
  }
  if (flow != nullptr) {
    flow->Cancel();
  }
}

void GenerateWriter::OnDone() {
  std::shared_ptr<GenerationFlow> flow;
  {
    const MutexLock lock(mutex_);
    context_ = nullptr;
    flow = std::move(flow_);
  }
  const std::shared_ptr<GenerateWriter> last = std::move(self_);
}

}  // namespace yangtuo::gateway
