#pragma once

#include <string>

#include "absl/status/status.h"

namespace yangtuo {

// An error of a call to the gateway at `server`, in words, with what to do about it.
std::string DescribeError(const absl::Status& status, const std::string& server);

// The canonical name of the code, "NOT_FOUND".
std::string CodeName(const absl::Status& status);

}  // namespace yangtuo
