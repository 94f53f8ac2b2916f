#include "services/common/program.h"

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <signal.h>
#include <string_view>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>

#include "grpc/support/log.h"
#include "inference_core/base/mutex.h"
#include "inference_core/base/status_macros.h"
#include "services/common/config.h"
#include "services/common/log.h"
#include "services/common/process_metrics.h"
#include "services/common/rpc_server.h"

namespace yangtuo {
namespace {

constexpr int kCannotStart = 1;

sigset_t TerminationSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

void UnblockTerminationSignals() {
  const sigset_t signals = TerminationSignals();
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

// gRPC writes its own lines to standard error; as fields of ours they stay parseable.
void LogFromGrpc(gpr_log_func_args* args) {
  // What gRPC calls an error is mostly a peer that went away.
  const LogLevel level = args->severity == GPR_LOG_SEVERITY_DEBUG  ? LogLevel::kDebug
                         : args->severity == GPR_LOG_SEVERITY_INFO ? LogLevel::kInfo
                                                                   : LogLevel::kWarning;
  const std::string_view file(args->file);
  Log(level, "grpc",
      {{"message", std::string(args->message)},
       {"file", std::string(file.substr(file.rfind('/') + 1))},
       {"line", static_cast<std::int64_t>(args->line)}});
}

// Receives the termination signals. Until Started, one ends the process at once: nothing runs that
// could be lost, and loading a model can take minutes.
class TerminationWatch {
 public:
  TerminationWatch() : thread_([this] { Watch(); }) {}
  ~TerminationWatch() {
    {
      const MutexLock lock(mutex_);
      phase_ = Phase::kOver;
    }
    thread_.join();
  }
  TerminationWatch(const TerminationWatch&) = delete;
  TerminationWatch& operator=(const TerminationWatch&) = delete;

  void Started() {
    const MutexLock lock(mutex_);
    phase_ = Phase::kRunning;
  }

  // Blocks until a signal comes and returns its number. The next one ends the process.
  int Await() {
    const MutexLock lock(mutex_);
    while (signal_ == 0) {
      received_.Wait(mutex_);
    }
    UnblockTerminationSignals();
    return signal_;
  }

 private:
  enum class Phase { kStarting, kRunning, kOver };

  void Watch() {
    const timespec slice{.tv_sec = 0, .tv_nsec = 20'000'000};
    const sigset_t signals = TerminationSignals();
    while (!Handle(sigtimedwait(&signals, nullptr, &slice))) {
    }
  }

  // True when the thread has done its work. `number` is negative when there was no signal.
  bool Handle(int number) {
    const MutexLock lock(mutex_);
    if (number > 0 && phase_ == Phase::kStarting) {
      Log(LogLevel::kInfo, "stopped while starting", {{"signal", std::int64_t{number}}});
      // No destructors: other threads are in the middle of loading.
      _exit(0);
    }
    if (number > 0) {
      signal_ = number;
      received_.NotifyAll();
    }
    return number > 0 || phase_ == Phase::kOver;
  }

  Mutex mutex_;
  CondVar received_;
  Phase phase_ ABSL_GUARDED_BY(mutex_) = Phase::kStarting;
  int signal_ ABSL_GUARDED_BY(mutex_) = 0;
  std::thread thread_;
};

int Serve(const ServiceProgram& program) {
  Metrics metrics;
  AddProcessMetrics(metrics, program.name);
  TerminationWatch termination;
  auto service = program.start(metrics);
  if (!service.ok()) {
    Log(LogLevel::kError, "cannot start", {{"error", std::string(service.status().message())}});
    return kCannotStart;
  }
  termination.Started();
  Log(LogLevel::kInfo, "started");
  const int number = termination.Await();
  Log(LogLevel::kInfo, "draining",
      {{"signal", std::int64_t{number}}, {"limit_s", ToSeconds(program.options.drain_limit)}});
  const TimePoint begin = SteadyClock().Now();
  (*service)->Drain(program.options.drain_limit);
  service->reset();
  Log(LogLevel::kInfo, "stopped", {{"drain_s", ToSeconds(SteadyClock().Now() - begin)}});
  return 0;
}

}  // namespace

int RunService(const ServiceProgram& program, int argc, char** argv) {
  BlockTerminationSignals();
  // A peer that closes its connection must not end the process.
  signal(SIGPIPE, SIG_IGN);
  CLI::App app(program.description, program.name);
  if (program.add_flags) {
    program.add_flags(app);
  }
  AddServiceFlags(app, program.options);
  const auto check = [&program]() -> absl::Status {
    YANGTUO_RETURN_IF_ERROR(CheckServiceOptions(program.options));
    return program.check ? program.check() : absl::OkStatus();
  };
  const ParsedCommandLine parsed =
      ParseCommandLine(app, argc, argv, program.environment_prefix, check);
  if (!parsed.run) {
    return parsed.exit_code;
  }
  ConfigureLog(program.name, program.options.log_level, program.options.log_format);
  gpr_set_log_function(LogFromGrpc);
  return Serve(program);
}

void EnsureOmpWaitPolicy(char** argv) {
  constexpr char variable[] = "OMP_WAIT_POLICY";
  if (std::getenv(variable) != nullptr) {  // NOLINT(concurrency-mt-unsafe): first thing in main
    return;
  }
  std::error_code error;
  // The real path, not /proc/self/exe itself: that would be the process's name afterwards.
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  setenv(variable, "passive", 1);  // NOLINT(concurrency-mt-unsafe)
  if (!error) {
    execv(program.c_str(), argv);
  }
}

}  // namespace yangtuo
