#include "gateway/text_stream.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "gateway/decode_call.h"

namespace yangtuo::gateway {

std::shared_ptr<DecodeCall> TextStream::MarkDirty() {
  if (dirty_ || call_ == nullptr) {
    return nullptr;
  }
  dirty_ = true;
  return call_;
}

void TextStream::Push(std::span<const std::uint32_t> ids) {
  std::shared_ptr<DecodeCall> call;
  {
    const MutexLock lock(mutex_);
    if (state_ != State::kOpen || ids.empty()) {
      return;
    }
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    call = MarkDirty();
  }
  if (call != nullptr) {
    call->Wake(shared_from_this());
  }
}

void TextStream::End() {
  std::shared_ptr<DecodeCall> call;
  {
    const MutexLock lock(mutex_);
    if (state_ != State::kOpen) {
      return;
    }
    state_ = State::kEnding;
    call = MarkDirty();
  }
  if (call != nullptr) {
    call->Wake(shared_from_this());
  }
}

void TextStream::Abandon() {
  std::shared_ptr<TextEvents> dropped;  // destroyed after the lock is free
  std::shared_ptr<DecodeCall> call;
  {
    const MutexLock lock(mutex_);
    if (state_ == State::kDone || state_ == State::kAbandoned) {
      return;
    }
    state_ = State::kAbandoned;
    dropped = std::move(events_);
    call = MarkDirty();  // the service should forget it too
  }
  if (call != nullptr) {
    call->Wake(shared_from_this());
  }
}

bool TextStream::MoveTo(std::shared_ptr<DecodeCall> call, std::uint64_t wire_id) {
  const MutexLock lock(mutex_);
  if (state_ == State::kDone || state_ == State::kAbandoned) {
    return false;
  }
  ++moves_;
  call_ = std::move(call);
  wire_id_ = wire_id;
  sent_ids_ = 0;
  skip_bytes_ = told_bytes_;
  opened_ = false;
  end_sent_ = false;
  dirty_ = true;  // the caller queues it
  return true;
}

TextStream::Input TextStream::TakeInput(internal::v1::DecodeStreamInput& input) {
  const MutexLock lock(mutex_);
  dirty_ = false;
  input.set_stream_id(wire_id_);
  if (!opened_ && state_ == State::kAbandoned) {
    return Input::kForget;
  }
  const bool end = state_ == State::kEnding || state_ == State::kAbandoned;
  if (end_sent_ || (!end && sent_ids_ == ids_.size())) {
    return Input::kNone;
  }
  if (!opened_) {
    input.set_tokenizer(options_.tokenizer);
    input.mutable_context_ids()->Assign(options_.context_ids.begin(), options_.context_ids.end());
    opened_ = true;
  }
  const auto unsent = ids_.begin() + static_cast<std::ptrdiff_t>(sent_ids_);
  input.mutable_ids()->Assign(unsent, ids_.end());
  sent_ids_ = ids_.size();
  input.set_end(end);
  end_sent_ = end;
  return Input::kSome;
}

void TextStream::Deliver(const internal::v1::DecodeStreamOutput& output) {
  std::shared_ptr<TextEvents> events;
  std::string_view text = output.text();
  bool end = false;
  bool news = false;
  {
    const MutexLock lock(mutex_);
    if (state_ == State::kDone || state_ == State::kAbandoned) {
      return;
    }
    const std::size_t skip = std::min(skip_bytes_, text.size());
    skip_bytes_ -= skip;
    text.remove_prefix(skip);
    told_bytes_ += text.size();
    news = !text.empty() || output.ids_consumed() > told_ids_;
    told_ids_ = std::max(told_ids_, output.ids_consumed());
    moves_ = news ? 0 : moves_;
    end = output.end();
    events = events_;
    if (end) {
      state_ = State::kDone;
      events_ = nullptr;
      call_ = nullptr;
    }
  }
  if (!output.error().empty()) {
    events->OnTextEnd(absl::InternalError(
        absl::StrFormat("tokenizer %s cannot decode an answer: %s", tokenizer(), output.error())));
    return;
  }
  if (news) {
    events->OnText(text, output.ids_consumed());
  }
  if (end) {
    events->OnTextEnd(absl::OkStatus());
  }
}

void TextStream::Fail(const absl::Status& status) {
  std::shared_ptr<TextEvents> events;
  {
    const MutexLock lock(mutex_);
    if (state_ == State::kDone || state_ == State::kAbandoned) {
      return;
    }
    state_ = State::kDone;
    events = std::move(events_);
    call_ = nullptr;
  }
  events->OnTextEnd(status);
}

int TextStream::moves() const {
  const MutexLock lock(mutex_);
  return moves_;
}

}  // namespace yangtuo::gateway
