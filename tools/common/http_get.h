#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "inference_core/base/clock.h"

namespace yangtuo {

struct HttpAnswer {
  int code = 0;
  std::string body;
};

// GETs `path` from "host:port" over plain HTTP, as the admin ports speak it. UNAVAILABLE when
// nothing answers, DEADLINE_EXCEEDED when it takes longer than `limit`, INVALID_ARGUMENT for an
// address without a port.
absl::StatusOr<HttpAnswer> HttpGet(const std::string& address, const std::string& path,
                                   Duration limit);

}  // namespace yangtuo
