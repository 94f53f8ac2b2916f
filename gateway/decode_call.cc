#include "gateway/decode_call.h"

#include <utility>

namespace yangtuo::gateway {

std::shared_ptr<DecodeCall> DecodeCall::Start(
    internal::v1::TokenizerService::StubInterface::async_interface& stub, LiveCalls::Token token,
    OnLost on_lost) {
  std::shared_ptr<DecodeCall> call(new DecodeCall(std::move(token), std::move(on_lost)));
  call->self_ = call;
  stub.DecodeStream(&call->context_, call.get());
  call->AddHold();  // writes begin outside reactions
  call->StartRead(&call->response_);
  call->StartCall();
  return call;
}

bool DecodeCall::Attach(const std::shared_ptr<TextStream>& stream) {
  bool write = false;
  {
    const MutexLock lock(mutex_);
    if (over_) {
      return false;
    }
    const std::uint64_t id = next_id_++;
    if (!stream->MoveTo(shared_from_this(), id)) {
      return true;  // nothing left to do for it
    }
    open_.emplace(id, stream);
    dirty_.push_back(stream);
    write = BeginWrite();
  }
  if (write) {
    WriteNext();
  }
  return true;
}

void DecodeCall::Wake(std::shared_ptr<TextStream> stream) {
  bool write = false;
  {
    const MutexLock lock(mutex_);
    if (over_) {
      return;
    }
    dirty_.push_back(std::move(stream));
    write = BeginWrite();
  }
  if (write) {
    WriteNext();
  }
}

bool DecodeCall::BeginWrite() {
  if (over_ || writing_ || unanswered_ || dirty_.empty()) {
    return false;
  }
  writing_ = true;
  unanswered_ = true;
  sent_at_ = std::chrono::steady_clock::now();
  sending_.swap(dirty_);
  return true;
}

void DecodeCall::WriteNext() {
  while (true) {
    request_.clear_inputs();
    std::vector<std::uint64_t> forgotten;
    for (const std::shared_ptr<TextStream>& stream : sending_) {
      internal::v1::DecodeStreamInput& input = *request_.add_inputs();
      const TextStream::Input taken = stream->TakeInput(input);
      if (taken == TextStream::Input::kForget) {
        forgotten.push_back(input.stream_id());
      }
      if (taken != TextStream::Input::kSome) {
        request_.mutable_inputs()->RemoveLast();
      }
    }
    Forget(forgotten);
    sending_.clear();
    if (request_.inputs_size() > 0) {
      StartWrite(&request_);
      return;
    }
    bool remove_hold = false;
    {
      const MutexLock lock(mutex_);
      writing_ = false;
      unanswered_ = false;
      remove_hold = over_;
      if (!remove_hold && !BeginWrite()) {
        return;
      }
    }
    if (remove_hold) {
      RemoveHold();  // `this` may be gone
      return;
    }
  }
}

// Their last owner is `sending_`, which is emptied without the lock.
void DecodeCall::Forget(const std::vector<std::uint64_t>& ids) {
  const MutexLock lock(mutex_);
  for (const std::uint64_t id : ids) {
    open_.erase(id);
  }
}

void DecodeCall::OnWriteDone(bool /*ok*/) {
  bool write = false;
  bool remove_hold = false;
  {
    const MutexLock lock(mutex_);
    writing_ = false;
    remove_hold = over_;
    write = BeginWrite();
  }
  if (write) {
    WriteNext();
  } else if (remove_hold) {
    RemoveHold();
  }
}

void DecodeCall::OnReadDone(bool ok) {
  bool write = false;
  bool remove_hold = false;
  {
    const MutexLock lock(mutex_);
    if (!ok) {
      over_ = true;
      dirty_.clear();
      // A write in progress still needs the call; then OnWriteDone removes the hold.
      remove_hold = !writing_;
    } else {
      unanswered_ = false;
      for (const internal::v1::DecodeStreamOutput& output : response_.outputs()) {
        const auto found = open_.find(output.stream_id());
        if (found == open_.end()) {
          receivers_.push_back(nullptr);
        } else if (output.end()) {
          receivers_.push_back(std::move(found->second));
          open_.erase(found);
        } else {
          receivers_.push_back(found->second);
        }
      }
      write = BeginWrite();
    }
  }
  if (!ok) {
    if (remove_hold) {
      RemoveHold();
    }
    return;
  }
  if (write) {
    WriteNext();
  }
  for (std::size_t i = 0; i < receivers_.size(); ++i) {
    if (receivers_[i] != nullptr) {
      receivers_[i]->Deliver(response_.outputs(static_cast<int>(i)));
    }
  }
  receivers_.clear();
  StartRead(&response_);
}

void DecodeCall::OnDone(const grpc::Status& status) {
  std::vector<std::shared_ptr<TextStream>> streams;
  {
    const MutexLock lock(mutex_);
    over_ = true;
    for (auto& [id, stream] : open_) {
      streams.push_back(std::move(stream));
    }
    open_.clear();
    dirty_.clear();
  }
  on_lost_(*this, status, std::move(streams));
  const std::shared_ptr<DecodeCall> last = std::move(self_);
}

TimePoint DecodeCall::waiting_since() const {
  const MutexLock lock(mutex_);
  return unanswered_ && !over_ ? sent_at_ : TimePoint::max();
}

bool DecodeCall::over() const {
  const MutexLock lock(mutex_);
  return over_;
}

}  // namespace yangtuo::gateway
