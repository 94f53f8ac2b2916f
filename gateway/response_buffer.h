#pragma once

#include <cstddef>
#include <deque>

#include "yangtuo/v1/generation.pb.h"

namespace yangtuo::gateway {

// Responses that wait for the client, in order. Deltas of one choice that wait together become one,
// so a client that falls behind gets fewer, larger messages. Not thread-safe.
class ResponseBuffer {
 public:
  void Add(v1::GenerateResponse response);
  [[nodiscard]] bool empty() const { return waiting_.empty(); }
  v1::GenerateResponse TakeFirst();
  void Clear();

  // About what the waiting responses take on the wire.
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  std::deque<v1::GenerateResponse> waiting_;
  std::size_t bytes_ = 0;
};

}  // namespace yangtuo::gateway
