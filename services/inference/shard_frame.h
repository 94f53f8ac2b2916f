#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "yangtuo/internal/v1/shard.pb.h"

namespace yangtuo {

// CRC32C over the frame's number, kind and payload, as shard.proto defines it.
std::uint32_t FrameChecksum(const internal::v1::Frame& frame);

// Numbers and seals the frames of one direction of one stream. Not thread-safe.
class FrameSealer {
 public:
  internal::v1::Frame Seal(internal::v1::FrameKind kind, std::string payload);

 private:
  std::uint64_t next_number_ = 1;
};

// Checks the frames of one direction of one stream as they arrive. Not thread-safe.
class FrameVerifier {
 public:
  // DATA_LOSS for a torn, repeated, missing or reordered frame; the stream is void then, because
  // what was lost cannot be known.
  absl::Status Check(const internal::v1::Frame& frame);

 private:
  std::uint64_t next_number_ = 1;
};

}  // namespace yangtuo
