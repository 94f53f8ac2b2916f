#pragma once

#include <string>

#include "tools/common/client.h"

namespace yangtuo {

struct ModelsOptions {
  ClientOptions client;
  bool json = false;  // the whole answer of ListModels instead of a table
};

// `yangtuo models`: returns the exit code.
int RunModels(const ModelsOptions& options);

// One row a model, no line wider than `max_width` (0: any).
std::string FormatModels(const v1::ListModelsResponse& response, int max_width);

}  // namespace yangtuo
