#include "tools/up/child_process.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <fstream>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

namespace yangtuo {
namespace {

// Everything that the child needs between fork and exec, where it may not allocate.
struct Launch {
  char* const* arguments;
  int input;
  int log;
  int error_pipe;
  pid_t parent;
};

// Runs in the child; only async-signal-safe calls.
[[noreturn]] void Exec(const Launch& launch) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  dup2(launch.input, STDIN_FILENO);
  dup2(launch.log, STDOUT_FILENO);
  dup2(launch.log, STDERR_FILENO);
  close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
  if (getppid() == launch.parent) {  // else the parent ended before prctl took effect
    execv(launch.arguments[0], launch.arguments);
    const int error = errno;
    if (write(launch.error_pipe, &error, sizeof(error)) < 0) {
      _exit(126);
    }
  }
  _exit(127);
}

std::string DescribeEnd(int status) {
  if (WIFSIGNALED(status)) {
    return absl::StrFormat("killed by signal %d (%s)", WTERMSIG(status),
                           sigdescr_np(WTERMSIG(status)));
  }
  return absl::StrFormat("exit code %d", WEXITSTATUS(status));
}

absl::Status ErrnoStatus(int error, const std::string& what) {
  const std::string text = absl::StrFormat("%s: %s", what, std::generic_category().message(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(text);
    case EACCES:
      return absl::PermissionDeniedError(text);
    default:
      return absl::UnavailableError(text);
  }
}

// Closes a descriptor at the end of a scope.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { Close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  void Close() {
    if (fd_ >= 0) {
      close(std::exchange(fd_, -1));
    }
  }

 private:
  int fd_;
};

}  // namespace

absl::StatusOr<ChildProcess> ChildProcess::Start(const std::vector<std::string>& arguments,
                                                 const std::filesystem::path& log) {
  const Descriptor input(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Descriptor output(open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (output.get() < 0) {
    return ErrnoStatus(errno, "cannot write the log " + log.string());
  }
  std::array<int, 2> pipe_ends = {-1, -1};
  if (pipe2(pipe_ends.data(), O_CLOEXEC) != 0) {
    return ErrnoStatus(errno, "cannot start " + arguments[0]);
  }
  const Descriptor error_in(pipe_ends[0]);
  Descriptor error_out(pipe_ends[1]);

  std::vector<char*> pointers;
  for (const std::string& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.c_str()));  // execv's signature predates const
  }
  pointers.push_back(nullptr);
  const Launch launch{.arguments = pointers.data(),
                      .input = input.get(),
                      .log = output.get(),
                      .error_pipe = error_out.get(),
                      .parent = getpid()};
  const pid_t pid = fork();
  if (pid == 0) {
    Exec(launch);
  }
  if (pid < 0) {
    return ErrnoStatus(errno, "cannot start " + arguments[0]);
  }
  ChildProcess child(pid);
  error_out.Close();
  int error = 0;
  // Exec closes the pipe when it succeeds.
  if (read(error_in.get(), &error, sizeof(error)) == sizeof(error)) {
    return ErrnoStatus(error, "cannot run " + arguments[0]);
  }
  return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), ended_(std::move(other.ended_)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this != &other) {
    KillAndWait();
    pid_ = std::exchange(other.pid_, -1);
    ended_ = std::move(other.ended_);
  }
  return *this;
}

ChildProcess::~ChildProcess() { KillAndWait(); }

void ChildProcess::KillAndWait() {
  if (pid_ > 0 && !ended_) {
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
}

std::optional<std::string> ChildProcess::Poll() {
  int status = 0;
  if (!ended_ && waitpid(pid_, &status, WNOHANG) == pid_) {
    ended_ = DescribeEnd(status);
  }
  return ended_;
}

void ChildProcess::Signal(int number) {
  // A reaped process's number may belong to somebody else by now.
  if (!ended_) {
    kill(pid_, number);
  }
}

std::string ReadTail(const std::filesystem::path& file, int num_lines) {
  constexpr std::streamoff kMaxBytes = 16384;
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  const std::streamoff size = in.tellg();
  if (!in || size <= 0) {
    return "";
  }
  in.seekg(size > kMaxBytes ? size - kMaxBytes : 0);
  std::deque<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    lines.push_back(std::move(line));
    if (static_cast<int>(lines.size()) > num_lines) {
      lines.pop_front();
    }
  }
  std::string tail;
  for (const std::string& line : lines) {
    tail += line + "\n";
  }
  return tail;
}

}  // namespace yangtuo
