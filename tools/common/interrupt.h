#pragma once

#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "inference_core/base/mutex.h"

namespace yangtuo {

// Exit code of a program that the user stopped with Ctrl-C: 128 + SIGINT, as shells report it.
inline constexpr int kExitInterrupted = 130;

// Turns SIGINT (Ctrl-C) and SIGTERM into calls. Construct it before the program's other threads,
// which inherit the blocked signals; one at a time.
class InterruptWatch {
 public:
  InterruptWatch();
  ~InterruptWatch();
  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;

  // Runs on the watcher's thread for every signal; must not block. Empty: the signal is ignored.
  void SetHandler(std::function<void(int signal)> handler) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Watch() ABSL_LOCKS_EXCLUDED(mutex_);

  int signal_fd_;
  int stop_fd_;
  Mutex mutex_;
  std::function<void(int)> handler_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace yangtuo
