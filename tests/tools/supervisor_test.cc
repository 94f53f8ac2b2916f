#include "tools/up/supervisor.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <signal.h>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::chrono::seconds kLimit{30};

// Stands in for a service: knows --port-file and --listen, takes the port it is given or 7000, and
// appends its arguments to NAME.calls. What it does then is the test's.
constexpr char kServiceScript[] = R"(#!/bin/sh
name=$1; folder=$2; shift 2
echo "$*" >>"$folder/$name.calls"
port=7000
while [ $# -gt 1 ]; do
  case "$1" in
    --port-file) file=$2 ;;
    --listen) case "$2" in *:0) ;; *) port=${2##*:} ;; esac ;;
  esac
  shift
done
ready() { echo "{\"grpc\": $port, \"admin\": 7001, \"pid\": $$}" >"$file.new"; mv "$file.new" "$file"; }
note() { echo "$name $1" >>"$folder/order"; }
run() { trap 'note stopped; exit 0' TERM; ready; while :; do sleep 0.01; done; }
)";

class SupervisorTest : public ::testing::Test {
 protected:
  // `body` runs behind kServiceScript.
  PlannedService Service(const std::string& name, const std::string& body,
                         StopStage stage = StopStage::kGateway) {
    const std::filesystem::path script = folder_.path() / (name + ".sh");
    std::ofstream(script) << kServiceScript << body << "\n";
    return {.name = name,
            .program = "/bin/sh",
            .arguments = {script.string(), name, folder_.path().string()},
            .listens = {{.flag = "--listen", .key = "grpc", .address = "127.0.0.1:0"}},
            .peers = {},
            .stop_stage = stage};
  }

  Supervisor Supervise(std::vector<PlannedService> plan) {
    SupervisorOptions options = options_;
    options.folder = folder_.path();
    return Supervisor(options, std::move(plan),
                      [this](const std::string& name, const std::string& what) {
                        reports_.push_back(name + " " + what);
                      });
  }

  // Ticks until the condition holds; the error of a tick, or DEADLINE_EXCEEDED.
  static absl::Status TickUntil(Supervisor& supervisor, const std::function<bool()>& condition) {
    const TimePoint limit = std::chrono::steady_clock::now() + kLimit;
    while (!condition()) {
      const TimePoint now = std::chrono::steady_clock::now();
      if (absl::Status status = supervisor.Tick(now); !status.ok()) {
        return status;
      }
      if (now > limit) {
        return absl::DeadlineExceededError("the condition never held");
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return absl::OkStatus();
  }
  static absl::Status StartAll(Supervisor& supervisor) {
    return TickUntil(supervisor, [&] { return supervisor.all_running(); });
  }
  static bool Wait(Duration limit) {
    std::this_thread::sleep_for(limit);
    return true;
  }
  std::vector<std::string> Lines(const std::string& file) const {
    std::ifstream in(folder_.path() / file);
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);) {
      lines.push_back(line);
    }
    return lines;
  }
  static bool Exists(pid_t pid) { return kill(pid, 0) == 0; }

  TempDir folder_;
  SupervisorOptions options_ = {.folder = {},
                                .first_pause = std::chrono::milliseconds(20),
                                .longest_pause = std::chrono::milliseconds(80),
                                .quick_end = std::chrono::seconds(60),
                                .max_quick_ends = 2,
                                .start_limit = kLimit,
                                .stop_limit = kLimit};
  std::vector<std::string> reports_;
};

TEST_F(SupervisorTest, StartsAServiceOnceItsPeersAddressesAreKnown) {
  PlannedService front = Service("front", "run");
  front.peers = {{.flag = "--workers", .services = {"a", "b"}, .key = "grpc"}};
  Supervisor supervisor = Supervise({front, Service("a", "run"), Service("b", "port=7003; run")});
  ASSERT_TRUE(StartAll(supervisor).ok());
  ASSERT_EQ(Lines("front.calls").size(), 1U);
  EXPECT_THAT(Lines("front.calls")[0], HasSubstr("--workers 127.0.0.1:7000,127.0.0.1:7003"));
  EXPECT_EQ(supervisor.AddressOf("b", "grpc"), "127.0.0.1:7003");
}

TEST_F(SupervisorTest, StartsACrashedServiceAgainAtTheSamePort) {
  Supervisor supervisor = Supervise({Service("worker", "run")});
  ASSERT_TRUE(StartAll(supervisor).ok());
  supervisor.AllowRestarts();
  const pid_t first = supervisor.services()[0].pid;
  kill(first, SIGKILL);
  ASSERT_TRUE(TickUntil(supervisor, [&] {
                return supervisor.all_running() && supervisor.services()[0].restarts == 1;
              }).ok());
  EXPECT_NE(supervisor.services()[0].pid, first);
  ASSERT_EQ(Lines("worker.calls").size(), 2U);
  EXPECT_THAT(Lines("worker.calls")[0], HasSubstr("--listen 127.0.0.1:0"));
  EXPECT_THAT(Lines("worker.calls")[1], HasSubstr("--listen 127.0.0.1:7000"));
  EXPECT_THAT(reports_,
              ElementsAre("worker started",
                          "worker ended (killed by signal 9 (Killed)), starting it again in 0.02 s",
                          "worker runs again"));
}

TEST_F(SupervisorTest, PausesLongerAfterEveryQuickEndAndThenGivesUpWithTheLog) {
  Supervisor supervisor =
      Supervise({Service("worker", R"(ready; echo "out of luck"; sleep 0.05; exit 3)")});
  ASSERT_TRUE(StartAll(supervisor).ok());
  supervisor.AllowRestarts();
  const absl::Status status = TickUntil(supervisor, [] { return false; });
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(
      std::string(status.message()),
      AllOf(HasSubstr("worker ended 3 times in a row (exit code 3)"), HasSubstr("out of luck")));
  EXPECT_THAT(reports_, ::testing::Contains(HasSubstr("again in 0.02 s")));
  EXPECT_THAT(reports_, ::testing::Contains(HasSubstr("again in 0.04 s")));
  EXPECT_EQ(Lines("worker.calls").size(), 3U);
}

TEST_F(SupervisorTest, GivesUpAtOnceWhenAServiceEndsDuringTheFirstStart) {
  Supervisor supervisor =
      Supervise({Service("worker", R"(echo "config.json is corrupt" >&2; exit 1)")});
  const absl::Status status = StartAll(supervisor);
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("worker ended (exit code 1)"), HasSubstr("config.json is corrupt")));
  EXPECT_EQ(Lines("worker.calls").size(), 1U);
}

TEST_F(SupervisorTest, GivesUpWhenAPortFileDoesNotComeInTime) {
  options_.start_limit = std::chrono::milliseconds(100);
  Supervisor supervisor =
      Supervise({Service("worker", R"(echo "still loading"; while :; do sleep 0.01; done)")});
  const absl::Status status = StartAll(supervisor);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("worker did not open its ports"));
}

TEST_F(SupervisorTest, NamesAProgramThatCannotBeRun) {
  PlannedService service = Service("worker", "run");
  service.program = folder_.path() / "absent";
  Supervisor supervisor = Supervise({service});
  const absl::Status status = StartAll(supervisor);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("absent: No such file"));
}

TEST_F(SupervisorTest, StopsGatewayThenLeadersThenShardsThenTokenizer) {
  Supervisor supervisor = Supervise({Service("shard", "run", StopStage::kShards),
                                     Service("leader", "run", StopStage::kLeaders),
                                     Service("tokenizer", "run", StopStage::kTokenizer),
                                     Service("gateway", "run", StopStage::kGateway)});
  ASSERT_TRUE(StartAll(supervisor).ok());
  const std::vector<ServiceView> before = supervisor.services();
  supervisor.Stop(Wait);
  EXPECT_THAT(Lines("order"), ElementsAre("gateway stopped", "leader stopped", "shard stopped",
                                          "tokenizer stopped"));
  for (const ServiceView& service : before) {
    EXPECT_FALSE(Exists(service.pid)) << service.name;
  }
}

TEST_F(SupervisorTest, KillsWhatDoesNotStopInTime) {
  options_.stop_limit = std::chrono::milliseconds(50);
  Supervisor supervisor =
      Supervise({Service("stubborn", "trap '' TERM; ready; while :; do sleep 0.01; done")});
  ASSERT_TRUE(StartAll(supervisor).ok());
  const pid_t pid = supervisor.services()[0].pid;
  supervisor.Stop(Wait);
  EXPECT_FALSE(Exists(pid));
}

TEST_F(SupervisorTest, KillsAtOnceWhenTheUserWillNotWait) {
  Supervisor supervisor =
      Supervise({Service("stubborn", "trap '' TERM; ready; while :; do sleep 0.01; done"),
                 Service("polite", "run", StopStage::kTokenizer)});
  ASSERT_TRUE(StartAll(supervisor).ok());
  const std::vector<ServiceView> before = supervisor.services();
  supervisor.Stop([](Duration) { return false; });
  EXPECT_FALSE(Exists(before[0].pid));
  EXPECT_FALSE(Exists(before[1].pid));
}

TEST_F(SupervisorTest, LeavesNothingRunningWhenItIsDestroyed) {
  pid_t pid = 0;
  {
    Supervisor supervisor = Supervise({Service("worker", "run")});
    ASSERT_TRUE(StartAll(supervisor).ok());
    pid = supervisor.services()[0].pid;
  }
  EXPECT_FALSE(Exists(pid));
}

// A middle process starts a child and is killed: the kernel ends the child as well.
TEST_F(SupervisorTest, ChildrenDieWithTheirParent) {
  const std::filesystem::path pid_file = folder_.path() / "pid";
  const pid_t middle = fork();
  if (middle == 0) {
    auto child = ChildProcess::Start(
        {"/bin/sh", "-c", "echo $$ >\"$0.new\"; mv \"$0.new\" \"$0\"; exec sleep 600",
         pid_file.string()},
        folder_.path() / "log");
    pause();
    _exit(child.ok() ? 0 : 1);
  }
  const auto wait_until = [](const std::function<bool()>& condition) {
    const TimePoint limit = std::chrono::steady_clock::now() + kLimit;
    while (!condition() && std::chrono::steady_clock::now() < limit) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return condition();
  };
  ASSERT_TRUE(wait_until([&] { return !Lines("pid").empty(); }));
  const pid_t child = std::stoi(Lines("pid")[0]);
  EXPECT_TRUE(Exists(child));
  kill(middle, SIGKILL);
  EXPECT_EQ(waitpid(middle, nullptr, 0), middle);
  // It is not ours to reap: gone, or a zombie until whoever adopted it looks.
  EXPECT_TRUE(wait_until([&] {
    std::ifstream stat("/proc/" + std::to_string(child) + "/stat");
    const std::string text{std::istreambuf_iterator<char>(stat), {}};
    return text.empty() || text.find(") Z ") != std::string::npos;
  }));
}

}  // namespace
}  // namespace yangtuo
