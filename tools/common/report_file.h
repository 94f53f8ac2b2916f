#pragma once

#include <string>

#include "absl/status/status.h"

namespace yangtuo {

// Writes a report to a file, or to standard output for "-". Errors name the file.
absl::Status WriteReport(const std::string& path, const std::string& text);

}  // namespace yangtuo
