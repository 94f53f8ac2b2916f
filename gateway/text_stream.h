#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "inference_core/base/mutex.h"
#include "yangtuo/internal/v1/tokenizer.pb.h"

namespace yangtuo::gateway {

class DecodeCall;

// What one text stream tells. Called from gRPC's threads (or the timer thread, for a failure), one
// call at a time, and nothing after OnTextEnd.
class TextEvents {
 public:
  virtual ~TextEvents() = default;
  // Newly complete characters (perhaps none), and how many ids are behind all text so far.
  virtual void OnText(std::string_view text, std::uint32_t ids_consumed) = 0;
  // Once, last: OK after End when everything held back was told.
  virtual void OnTextEnd(const absl::Status& status) = 0;
};

// Ids in, text out: one choice's incremental decode on some tokenizer replica. It remembers its ids
// and how much text it told, so that it can move to another replica when one is lost: all ids are
// sent again and the text that was told already is skipped. Thread-safe.
class TextStream : public std::enable_shared_from_this<TextStream> {
 public:
  struct Options {
    std::string tokenizer;                     // as the service knows it
    std::vector<std::uint32_t> context_ids{};  // before the text, see DecodeStreamInput
  };

  TextStream(Options options, std::shared_ptr<TextEvents> events)
      : options_(std::move(options)), events_(std::move(events)) {}

  void Push(std::span<const std::uint32_t> ids) ABSL_LOCKS_EXCLUDED(mutex_);
  // No more ids follow.
  void End() ABSL_LOCKS_EXCLUDED(mutex_);
  // Nothing is told any more, not even the end.
  void Abandon() ABSL_LOCKS_EXCLUDED(mutex_);

  // The rest is for the pool and its calls.

  [[nodiscard]] const std::string& tokenizer() const { return options_.tokenizer; }
  // Begins again on `call` as `wire_id`. False when nobody waits for the text any more.
  bool MoveTo(std::shared_ptr<DecodeCall> call, std::uint64_t wire_id) ABSL_LOCKS_EXCLUDED(mutex_);
  enum class Input {
    kNone,   // nothing to send
    kSome,   // `input` is to be sent
    kForget  // nothing was sent and nobody waits any more: no end will come for `input.stream_id`
  };
  // Writes what is new into `input`.
  Input TakeInput(internal::v1::DecodeStreamInput& input) ABSL_LOCKS_EXCLUDED(mutex_);
  void Deliver(const internal::v1::DecodeStreamOutput& output) ABSL_LOCKS_EXCLUDED(mutex_);
  void Fail(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  // How often it has begun on a call since text came last.
  [[nodiscard]] int moves() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  enum class State { kOpen, kEnding, kAbandoned, kDone };

  // Returns the call to tell that there is something to send, if it does not know yet.
  std::shared_ptr<DecodeCall> MarkDirty() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  mutable Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kOpen;
  std::shared_ptr<TextEvents> events_ ABSL_GUARDED_BY(mutex_);  // null once nothing is told
  std::vector<std::uint32_t> ids_ ABSL_GUARDED_BY(mutex_);
  std::size_t told_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint32_t told_ids_ ABSL_GUARDED_BY(mutex_) = 0;
  int moves_ ABSL_GUARDED_BY(mutex_) = 0;

  // On the current call.
  std::shared_ptr<DecodeCall> call_ ABSL_GUARDED_BY(mutex_);
  std::uint64_t wire_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::size_t sent_ids_ ABSL_GUARDED_BY(mutex_) = 0;
  std::size_t skip_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool opened_ ABSL_GUARDED_BY(mutex_) = false;  // the first input was sent
  bool end_sent_ ABSL_GUARDED_BY(mutex_) = false;
  bool dirty_ ABSL_GUARDED_BY(mutex_) = false;  // the call knows that there is something
};

}  // namespace yangtuo::gateway
