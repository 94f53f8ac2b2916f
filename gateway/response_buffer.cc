#include "gateway/response_buffer.h"

#include <algorithm>
#include <utility>

namespace yangtuo::gateway {
namespace {

// An upper bound of a delta's size that is cheap to compute, and adds up over merged deltas.
std::size_t WireSize(const v1::GenerateResponse& response) {
  constexpr std::size_t kFrame = 16;
  if (!response.has_delta()) {
    return kFrame + response.ByteSizeLong();
  }
  std::size_t size = kFrame + response.delta().text().size() +
                     5 * static_cast<std::size_t>(response.delta().token_ids_size());
  for (const v1::PositionLogprobs& entry : response.delta().logprobs()) {
    size += entry.ByteSizeLong();
  }
  return size;
}

void Merge(v1::Delta from, v1::Delta& into) {
  into.mutable_text()->append(from.text());
  into.mutable_token_ids()->MergeFrom(from.token_ids());
  for (v1::PositionLogprobs& entry : *from.mutable_logprobs()) {
    *into.add_logprobs() = std::move(entry);
  }
}

}  // namespace

void ResponseBuffer::Add(v1::GenerateResponse response) {
  bytes_ += WireSize(response);
  if (response.has_delta()) {
    // Deltas of other choices may be passed: only the order within a choice matters.
    for (auto entry = waiting_.rbegin(); entry != waiting_.rend() && entry->has_delta(); ++entry) {
      if (entry->delta().choice() == response.delta().choice()) {
        Merge(std::move(*response.mutable_delta()), *entry->mutable_delta());
        return;
      }
    }
  }
  waiting_.push_back(std::move(response));
}

v1::GenerateResponse ResponseBuffer::TakeFirst() {
  v1::GenerateResponse first = std::move(waiting_.front());
  waiting_.pop_front();
  bytes_ -= std::min(bytes_, WireSize(first));
  if (waiting_.empty()) {
    bytes_ = 0;
  }
  return first;
}

void ResponseBuffer::Clear() {
  waiting_.clear();
  bytes_ = 0;
}

}  // namespace yangtuo::gateway
