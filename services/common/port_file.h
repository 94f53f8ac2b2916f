#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/base/clock.h"

// How a process tells others which ports the system chose for it: a small JSON file, such as
// {"admin":40001,"grpc":40002,"pid":123}.
namespace yangtuo {

// Port names ("grpc", "admin", "http", "shard") and "pid" to their numbers.
using PortFile = std::map<std::string, int>;

// Replaces `path` atomically: a reader sees a complete file or none.
absl::Status WritePortFile(const std::string& path, const PortFile& ports);

// NOT_FOUND while there is no file, DATA_LOSS when it is something else.
absl::StatusOr<PortFile> ReadPortFile(const std::string& path);

// Polls until the file is there; DEADLINE_EXCEEDED naming it after `limit`. For tests and for
// whoever started the process.
absl::StatusOr<PortFile> WaitForPortFile(const std::string& path, Duration limit);

}  // namespace yangtuo
