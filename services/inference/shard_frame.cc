#include "services/inference/shard_frame.h"

#include <array>
#include <cstddef>
#include <span>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/crc32c.h"

namespace yangtuo {

std::uint32_t FrameChecksum(const internal::v1::Frame& frame) {
  std::array<std::byte, 9> head;
  for (std::size_t i = 0; i < 8; ++i) {
    head[i] = static_cast<std::byte>(frame.number() >> (8 * i));
  }
  head[8] = static_cast<std::byte>(frame.kind());
  return ExtendCrc32c(Crc32c(head), std::as_bytes(std::span(frame.payload())));
}

internal::v1::Frame FrameSealer::Seal(internal::v1::FrameKind kind, std::string payload) {
  internal::v1::Frame frame;
  frame.set_number(next_number_++);
  frame.set_kind(kind);
  frame.set_payload(std::move(payload));
  frame.set_crc32c(FrameChecksum(frame));
  return frame;
}

absl::Status FrameVerifier::Check(const internal::v1::Frame& frame) {
  if (const std::uint32_t checksum = FrameChecksum(frame); checksum != frame.crc32c()) {
    return absl::DataLossError(
        absl::StrFormat("frame %d is torn: CRC32C %08x, its content has %08x", frame.number(),
                        frame.crc32c(), checksum));
  }
  if (frame.number() != next_number_) {
    return absl::DataLossError(
        absl::StrFormat("frame %d arrived where frame %d was due", frame.number(), next_number_));
  }
  ++next_number_;
  return absl::OkStatus();
}

}  // namespace yangtuo
