#include "services/common/program.h"

#include <chrono>
#include <fcntl.h>
#include <fstream>
#include <signal.h>
#include <spawn.h>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "services/common/port_file.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"
#include "yangtuo/internal/v1/inference.grpc.pb.h"

namespace yangtuo {
namespace {

using ::testing::HasSubstr;

constexpr Duration kTestLimit = std::chrono::seconds(30);

// tests/services/common/small_service_main.cc as a process.
class SmallServiceProcess {
 public:
  explicit SmallServiceProcess(std::vector<std::string> flags) {
    flags.insert(flags.begin(),
                 {YANGTUO_BINARY_DIR "/tests/small_service", "--port-file=" + port_file()});
    std::vector<char*> argv;
    for (std::string& flag : flags) {
      argv.push_back(flag.data());
    }
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log_file().c_str(),
                                     O_WRONLY | O_CREAT | O_APPEND, 0600);
    EXPECT_EQ(posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
  }
  ~SmallServiceProcess() {
    if (!ended_) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  SmallServiceProcess(const SmallServiceProcess&) = delete;
  SmallServiceProcess& operator=(const SmallServiceProcess&) = delete;

  void Signal(int number) const { kill(pid_, number); }
  // The status of waitpid.
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    ended_ = true;
    return status;
  }
  [[nodiscard]] PortFile Ports() const {
    const auto ports = WaitForPortFile(port_file(), kTestLimit);
    EXPECT_TRUE(ports.ok()) << ports.status() << Log();
    return ports.value_or(PortFile());
  }
  [[nodiscard]] std::string Log() const { return ReadTestFile(log_file()); }
  // Blocks until the log has a line with `text`.
  void AwaitLog(const std::string& text) const {
    const TimePoint deadline = SteadyClock().Now() + kTestLimit;
    while (Log().find(text) == std::string::npos && SteadyClock().Now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_THAT(Log(), HasSubstr(text));
  }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  [[nodiscard]] std::string port_file() const { return folder_.path() / "ports.json"; }
  [[nodiscard]] std::string log_file() const { return folder_.path() / "log"; }

  TempDir folder_;
  pid_t pid_ = 0;
  bool ended_ = false;
};

// A running call of Generate, which keeps the service from ending its drain.
class HeldRequest {
 public:
  explicit HeldRequest(const PortFile& ports)
      : stub_(internal::v1::InferenceService::NewStub(
            grpc::CreateChannel(absl::StrFormat("127.0.0.1:%d", ports.at("grpc")),
                                grpc::InsecureChannelCredentials()))) {
    context_.set_deadline(std::chrono::system_clock::now() + kTestLimit);
    reader_ = stub_->Generate(&context_, {});
    reader_->WaitForInitialMetadata();
  }
  ~HeldRequest() { context_.TryCancel(); }

 private:
  std::unique_ptr<internal::v1::InferenceService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<internal::v1::GenerateResponse>> reader_;
};

TEST(RunServiceTest, ServesUntilSigtermAndEndsWithZero) {
  SmallServiceProcess service({});
  EXPECT_GT(service.Ports().at("grpc"), 0);
  service.AwaitLog("started");

  service.Signal(SIGTERM);

  const int status = service.Wait();
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_THAT(service.Log(), HasSubstr("draining signal=15"));
  EXPECT_THAT(service.Log(), HasSubstr("stopped drain_s="));
}

TEST(RunServiceTest, EndsAtOnceAtTheSecondSignal) {
  SmallServiceProcess service({"--drain-seconds=600"});
  const HeldRequest request(service.Ports());
  service.AwaitLog("started");
  service.Signal(SIGINT);
  service.AwaitLog("draining signal=2");

  service.Signal(SIGINT);

  const int status = service.Wait();
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGINT);
}

TEST(RunServiceTest, CancelsWhatRunsBeyondTheDrainLimit) {
  SmallServiceProcess service({"--drain-seconds=0.1"});
  const HeldRequest request(service.Ports());
  service.AwaitLog("started");

  service.Signal(SIGTERM);

  const int status = service.Wait();
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(RunServiceTest, EndsAtOnceWhenItIsStoppedWhileItStarts) {
  SmallServiceProcess service({"--slow-start", "--log-level=debug"});
  // Before the log is there the signal is pending, which gives the same.
  service.Signal(SIGTERM);

  const int status = service.Wait();
  EXPECT_TRUE(WIFEXITED(status) || WTERMSIG(status) == SIGTERM);
}

TEST(RunServiceTest, SaysWhyItCannotStart) {
  SmallServiceProcess first({});
  SmallServiceProcess second({absl::StrFormat("--listen=127.0.0.1:%d", first.Ports().at("grpc"))});

  const int status = second.Wait();

  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_THAT(second.Log(), HasSubstr("is in use by another process"));
}

TEST(RunServiceTest, EndsWithTwoForWrongUsage) {
  SmallServiceProcess service({"--listen=nonsense"});

  EXPECT_EQ(WEXITSTATUS(service.Wait()), 2);
  EXPECT_THAT(service.Log(), HasSubstr("small-service: expected an address"));
}

TEST(EnsureOmpWaitPolicyTest, StartsTheSameProcessAgainWithThePolicySet) {
  unsetenv("OMP_WAIT_POLICY");
  const SmallServiceProcess service({});
  const PortFile ports = service.Ports();

  const std::string environment = ReadTestFile(absl::StrFormat("/proc/%d/environ", service.pid()));
  const std::string name = ReadTestFile(absl::StrFormat("/proc/%d/comm", service.pid()));

  EXPECT_EQ(ports.at("pid"), service.pid());
  EXPECT_THAT(environment, HasSubstr("OMP_WAIT_POLICY=passive"));
  EXPECT_EQ(name, "small_service\n");
}

TEST(PortFileTest, RefusesWhatIsNotAPortFile) {
  const TempDir folder;
  const std::string path = folder.path() / "ports";
  EXPECT_TRUE(absl::IsNotFound(ReadPortFile(path).status()));
  for (const char* text : {"", "[1]", "{\"grpc\": \"x\"}", "{\"grpc\":"}) {
    WriteTestFile(path, text);
    EXPECT_TRUE(absl::IsDataLoss(ReadPortFile(path).status())) << text;
  }
}

TEST(PortFileTest, GivesUpWaitingAndNamesTheFile) {
  const auto status = WaitForPortFile("/nowhere/ports", std::chrono::milliseconds(10)).status();

  EXPECT_TRUE(absl::IsDeadlineExceeded(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nowhere/ports"));
}

}  // namespace
}  // namespace yangtuo
