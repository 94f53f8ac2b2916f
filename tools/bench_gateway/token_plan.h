#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace yangtuo::bench_gateway {

// Nanoseconds of the steady clock, which producer and clients share because they are one process.
inline std::int64_t NowNanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// What every stream of one run must carry, and when each token was handed to the gateway. Shared by
// the producer, which writes the times, and the clients, which compare. Thread-safe.
class TokenPlan {
 public:
  // `ids`: tokens to draw from, each of which decodes to whole characters.
  TokenPlan(std::vector<std::uint32_t> ids, std::size_t num_streams, std::size_t num_tokens)
      : ids_(std::move(ids)),
        num_streams_(num_streams),
        num_tokens_(num_tokens),
        sent_at_(std::make_unique<std::atomic<std::int64_t>[]>(num_streams * num_tokens)) {}

  [[nodiscard]] std::size_t num_streams() const { return num_streams_; }
  [[nodiscard]] std::size_t num_tokens() const { return num_tokens_; }

  // The token is a function of stream and position, so a lost, repeated or misdirected one shows.
  [[nodiscard]] std::uint32_t Token(std::size_t stream, std::size_t position) const {
    std::uint64_t x = (static_cast<std::uint64_t>(stream) << 32U) + position + 1;
    x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9U;  // splitmix64
    x = (x ^ (x >> 27U)) * 0x94D049BB133111EBU;
    return ids_[static_cast<std::size_t>((x ^ (x >> 31U)) % ids_.size())];
  }

  void MarkSent(std::size_t stream, std::size_t position) {
    sent_at_[stream * num_tokens_ + position].store(NowNanoseconds(), std::memory_order_release);
  }
  // 0: not sent.
  [[nodiscard]] std::int64_t SentAt(std::size_t stream, std::size_t position) const {
    return sent_at_[stream * num_tokens_ + position].load(std::memory_order_acquire);
  }

 private:
  const std::vector<std::uint32_t> ids_;
  const std::size_t num_streams_;
  const std::size_t num_tokens_;
  const std::unique_ptr<std::atomic<std::int64_t>[]> sent_at_;
};

}  // namespace yangtuo::bench_gateway
