#pragma once

#include <chrono>
#include <string>

#include "inference_core/base/clock.h"
#include "tools/common/client.h"
#include "tools/common/sampling_settings.h"

namespace yangtuo {

struct ChatOptions {
  ClientOptions client;
  std::string model;          // empty: the only one
  std::string system;         // system message
  std::string chat_template;  // empty: the model's own
  SamplingSettings sampling;
  Duration timeout = std::chrono::minutes(10);  // of one answer
};

// `yangtuo chat`: returns the exit code.
int RunChat(const ChatOptions& options);

}  // namespace yangtuo
