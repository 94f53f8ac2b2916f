#include "tools/common/interrupt.h"

#include <array>
#include <cerrno>
#include <cstdint>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <utility>

namespace yangtuo {
namespace {

sigset_t InterruptSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  return signals;
}

}  // namespace

InterruptWatch::InterruptWatch() : stop_fd_(eventfd(0, EFD_CLOEXEC)) {
  const sigset_t signals = InterruptSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal_fd_ = signalfd(-1, &signals, SFD_CLOEXEC);
  thread_ = std::thread([this] { Watch(); });
}

InterruptWatch::~InterruptWatch() {
  const std::uint64_t one = 1;
  if (write(stop_fd_, &one, sizeof(one)) < 0) {
    // An eventfd that is far from full always takes the write.
  }
  thread_.join();
  close(signal_fd_);
  close(stop_fd_);
  const sigset_t signals = InterruptSignals();
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

void InterruptWatch::SetHandler(std::function<void(int)> handler) {
  const MutexLock lock(mutex_);
  handler_ = std::move(handler);
}

void InterruptWatch::Watch() {
  std::array<pollfd, 2> wanted = {pollfd{.fd = signal_fd_, .events = POLLIN, .revents = 0},
                                  pollfd{.fd = stop_fd_, .events = POLLIN, .revents = 0}};
  while (poll(wanted.data(), wanted.size(), -1) >= 0 || errno == EINTR) {
    if (wanted[1].revents != 0) {
      return;
    }
    signalfd_siginfo info{};
    if (wanted[0].revents == 0 || read(signal_fd_, &info, sizeof(info)) != sizeof(info)) {
      continue;
    }
    // Held during the call, so that after SetHandler returned the old handler no longer runs.
    const MutexLock lock(mutex_);
    if (handler_) {
      handler_(static_cast<int>(info.ssi_signo));
    }
  }
}

}  // namespace yangtuo
