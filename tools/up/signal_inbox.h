#pragma once

#include <optional>

#include "inference_core/base/clock.h"

namespace yangtuo {

// SIGINT, SIGTERM and SIGHUP as something to wait for. Construct it before the program's other
// threads, which inherit the blocked signals. SIGPIPE is ignored too: a reader of our output that
// goes away must not end the cluster.
class SignalInbox {
 public:
  SignalInbox();
  ~SignalInbox();
  SignalInbox(const SignalInbox&) = delete;
  SignalInbox& operator=(const SignalInbox&) = delete;

  // The next signal, waiting at most `limit` for it.
  std::optional<int> Wait(Duration limit);

 private:
  int fd_;
};

}  // namespace yangtuo
