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
  // Once, last: sends what is left and then the status; an error drops what is left.
  virtual void End(const absl::Status& status) = 0;
};

}  // namespace yangtuo::gateway
