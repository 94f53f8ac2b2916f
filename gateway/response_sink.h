#pragma once

#include "absl/status/status.h"
#include "yangtuo/v1/generation.pb.h"

namespace yangtuo::gateway {

enum class SinkRoom { kLeft, kFull };

// Where a generation's answer goes: a gRPC stream, or later an HTTP response. The flow and its
// transport share it. The flow calls Add in the order of the answer, from one thread at a time.
class ResponseSink {
 public:
  virtual ~ResponseSink() = default;
  // Buffers; must not call the flow and runs no reaction, because the flow holds its lock. kFull
  // when the client reads too slowly for the buffer.
  virtual SinkRoom Add(v1::GenerateResponse response) = 0;
  // Begins to send what was added. Any thread, no lock held; harmless after End.
  virtual void Flush() = 0;
  // Once, last: sends what is left, unless DropsUnsent, and then the status.
  virtual void End(const absl::Status& status) = 0;
};

// Whether a request that ends so takes along what was not sent yet: nobody reads it in time. Every
// other end comes after everything that was told.
inline bool DropsUnsent(const absl::Status& status) {
  return status.code() == absl::StatusCode::kCancelled ||
         status.code() == absl::StatusCode::kDeadlineExceeded ||
         status.code() == absl::StatusCode::kResourceExhausted;
}

}  // namespace yangtuo::gateway
