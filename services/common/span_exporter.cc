#include "services/common/span_exporter.h"

#include <algorithm>
#include <string>
#include <utility>

#include "services/common/log.h"

namespace yangtuo {
namespace {

constexpr Duration kLogAgain = std::chrono::seconds(60);

Counter& Dropped(Metrics& metrics, const char* reason) {
  return metrics.AddCounter("yangtuo_spans_dropped_total", "Spans that no collector got, by reason",
                            {{"reason", reason}});
}

}  // namespace

SpanExporter::SpanExporter(Options options, std::unique_ptr<OtlpClient> client, Metrics& metrics)
    : options_(std::move(options)),
      client_(std::move(client)),
      exported_(metrics.AddCounter("yangtuo_spans_exported_total", "Spans that a collector took")),
      dropped_full_(Dropped(metrics, "queue_full")),
      dropped_failed_(Dropped(metrics, "export_failed")),
      dropped_rejected_(Dropped(metrics, "rejected")),
      thread_([this] { Run(); }) {}

SpanExporter::~SpanExporter() {
  const TimePoint end = std::chrono::steady_clock::now() + options_.flush_limit;
  client_->Hurry(end);
  {
    const MutexLock lock(mutex_);
    ending_ = true;
    end_ = end;
  }
  changed_.NotifyAll();
  thread_.join();
}

void SpanExporter::Add(SpanData span) {
  bool full_batch = false;
  {
    const MutexLock lock(mutex_);
    if (queue_.size() >= options_.max_queue) {
      dropped_full_.Add();
      return;
    }
    queue_.push_back(std::move(span));
    full_batch = queue_.size() == options_.max_batch;
  }
  if (full_batch) {
    changed_.NotifyOne();
  }
}

void SpanExporter::Run() {
  for (std::vector<SpanData> batch = TakeBatch(); !batch.empty(); batch = TakeBatch()) {
    if (Send(batch) == Outcome::kGivenUp) {
      dropped_failed_.Add(static_cast<double>(batch.size()));
    }
  }
}

std::vector<SpanData> SpanExporter::TakeBatch() {
  const MutexLock lock(mutex_);
  TimePoint due = std::chrono::steady_clock::now() + options_.period;
  while (!ending_ && queue_.size() < options_.max_batch) {
    if (changed_.WaitUntil(mutex_, due) || std::chrono::steady_clock::now() < due) {
      continue;
    }
    if (!queue_.empty()) {
      break;
    }
    due = std::chrono::steady_clock::now() + options_.period;
  }
  if (ending_ && std::chrono::steady_clock::now() >= end_) {
    dropped_failed_.Add(static_cast<double>(queue_.size()));
    queue_.clear();
  }
  const auto size = static_cast<std::ptrdiff_t>(std::min(queue_.size(), options_.max_batch));
  std::vector<SpanData> batch(std::make_move_iterator(queue_.begin()),
                              std::make_move_iterator(queue_.begin() + size));
  queue_.erase(queue_.begin(), queue_.begin() + size);
  return batch;
}

SpanExporter::Outcome SpanExporter::Send(const std::vector<SpanData>& batch) {
  const std::string body = ToOtlpJson(options_.resource, batch);
  Duration pause = options_.retry_pause;
  for (int attempt = 1;; ++attempt) {
    const absl::StatusOr<std::string> answer =
        client_->Post(body, std::chrono::steady_clock::now() + options_.post_limit);
    if (answer.ok()) {
      const auto size = static_cast<std::int64_t>(batch.size());
      const std::int64_t rejected = std::min(RejectedSpans(*answer), size);
      exported_.Add(static_cast<double>(size - rejected));
      dropped_rejected_.Add(static_cast<double>(rejected));
      if (std::exchange(failing_, false)) {
        Log(LogLevel::kInfo, "spans reach the collector again");
      }
      return Outcome::kSent;
    }
    LogFailure(answer.status());
    if (!absl::IsUnavailable(answer.status()) || attempt >= options_.attempts || !Pause(pause)) {
      return Outcome::kGivenUp;
    }
    pause *= 2;
  }
}

bool SpanExporter::Pause(Duration pause) {
  const TimePoint until = std::chrono::steady_clock::now() + pause;
  const MutexLock lock(mutex_);
  while (!ending_ && std::chrono::steady_clock::now() < until) {
    changed_.WaitUntil(mutex_, until);
  }
  return !ending_;
}

void SpanExporter::LogFailure(const absl::Status& why) {
  const TimePoint now = std::chrono::steady_clock::now();
  if (failing_ && now - last_log_ < kLogAgain) {
    return;
  }
  failing_ = true;
  last_log_ = now;
  Log(LogLevel::kWarning, "spans do not reach the collector; they are dropped and counted",
      {{"error", std::string(why.message())}});
}

}  // namespace yangtuo
