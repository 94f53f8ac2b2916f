// `yangtuo up` from start to end, with small scripts in place of the services beside it.

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <signal.h>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/admin_server.h"
#include "services/common/port_file.h"
#include "tests/testing/fake_server.h"
#include "tests/testing/temp_dir.h"
#include "tests/tools/command_run.h"
#include "tests/tools/fake_gateway.h"
#include "tools/common/cluster_state.h"
#include "tools/common/http_get.h"

namespace yangtuo {
namespace {

using testing::CommandRun;
using testing::FakeGateway;
using testing::FakeServer;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

class UpRunTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(folder_.path() / "bin");
    fs::create_hard_link(YANGTUO_BINARY_DIR "/bin/yangtuo", program_, no_link_);
    if (no_link_) {
      fs::copy_file(YANGTUO_BINARY_DIR "/bin/yangtuo", program_);
    }
    fs::create_directory(folder_.path() / "m");
    std::ofstream(folder_.path() / "m/config.json") << "{}";
    std::ofstream(folder_.path() / "m/tokenizer.model") << "x";
    auto admin =
        AdminServer::Start("127.0.0.1:0",
                           {.metrics = [] { return std::string("yangtuo_requests_running 2\n"); },
                            .not_ready =
                                [this] {
                                  return ready_ ? std::vector<std::string>()
                                                : std::vector<std::string>{"loading weights"};
                                }},
                           {});
    ASSERT_TRUE(admin.ok()) << admin.status();
    admin_ = *std::move(admin);
    for (const char* service : {"worker", "tokenizer", "gateway"}) {
      WriteService(service, "trap 'exit 0' TERM; ready; while :; do sleep 0.01; done");
    }
  }

  // All services share the test's ports: its gateway and its admin server.
  void WriteService(const std::string& service, const std::string& body) {
    const fs::path path = folder_.path() / "bin" / ("yangtuo-" + service);
    std::ofstream(path) << absl::StrFormat(
        "#!/bin/sh\n"
        "echo \"%s $*\" >>\"%s/calls\"\n"
        "for a; do [ \"$last\" = --port-file ] && file=$a; last=$a; done\n"
        "ready() { echo '{\"grpc\":%s,\"admin\":%d,\"pid\":1}' >\"$file.new\"; mv \"$file.new\" "
        "\"$file\"; }\n%s\n",
        service, folder_.path().string(), server_.address().substr(10), admin_->port(), body);
    fs::permissions(path, fs::perms::owner_all);
  }

  CommandRun Up(const std::vector<std::string>& flags) { return UpAt("127.0.0.1:0", flags); }

  CommandRun UpAt(const std::string& listen, const std::vector<std::string>& flags) {
    std::vector<std::string> arguments = {"up",
                                          (folder_.path() / "m").string(),
                                          "--listen",
                                          listen,
                                          "--http-listen",
                                          "127.0.0.1:0",
                                          "--log-folder",
                                          (folder_.path() / "logs").string(),
                                          "--state",
                                          state_.string(),
                                          "--port-file",
                                          ports_.string()};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return CommandRun(program_, arguments, "");
  }

  ClusterState State() const {
    auto state = ReadClusterState(state_);
    return state.ok() ? *std::move(state) : ClusterState{};
  }

  TempDir folder_;
  std::error_code no_link_;
  const fs::path program_ = folder_.path() / "bin/yangtuo";
  const fs::path state_ = folder_.path() / "state.json";
  const fs::path ports_ = folder_.path() / "ports.json";
  std::atomic<bool> ready_ = true;
  FakeGateway gateway_;
  FakeServer server_{gateway_};
  std::unique_ptr<AdminServer> admin_;
};

TEST_F(UpRunTest, ShowsTheClusterWhenItIsReadyAndStopsItOnCtrlC) {
  CommandRun run = Up({"--workers", "2"});
  ASSERT_TRUE(run.WaitForOutput("Ctrl-C stops the cluster.")) << run.err();
  EXPECT_THAT(run.out(), HasSubstr("poem: context 512 tokens"));
  EXPECT_THAT(run.out(), HasSubstr("yangtuo chat --server " + server_.address()));
  const auto ports = ReadPortFile(ports_.string());
  ASSERT_TRUE(ports.ok()) << ports.status();
  EXPECT_EQ(ports->at("admin"), admin_->port());
  const ClusterState state = State();
  ASSERT_EQ(state.services.size(), 4U);
  run.Signal(SIGINT);
  EXPECT_EQ(run.Wait(), "exit code 0");
  EXPECT_THAT(run.out(), HasSubstr("stopped\n"));
  EXPECT_EQ(run.err(), "");
  for (const ServiceRecord& service : state.services) {
    EXPECT_NE(kill(static_cast<pid_t>(service.pid), 0), 0) << service.name;
  }
  EXPECT_FALSE(fs::exists(state_));
  EXPECT_FALSE(fs::exists(ports_));
}

TEST_F(UpRunTest, RestartsACrashedWorkerAndTellsTheStateFile) {
  CommandRun run = Up({});
  ASSERT_TRUE(run.WaitForOutput("Ctrl-C stops the cluster.")) << run.err();
  const ServiceRecord worker = State().services.at(2);
  kill(static_cast<pid_t>(worker.pid), SIGKILL);
  ASSERT_TRUE(run.WaitForOutput("worker 0 runs again"));
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (State().services.at(2).pid == worker.pid && std::chrono::steady_clock::now() < limit) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_NE(State().services.at(2).pid, worker.pid);
  EXPECT_EQ(State().services.at(2).restarts, 1);
}

TEST_F(UpRunTest, ShowsTheLogOfAServiceThatCannotStart) {
  WriteService("worker", "echo 'model.safetensors is truncated' >&2; exit 1");
  CommandRun run = Up({});
  EXPECT_EQ(run.Wait(), "exit code 1");
  EXPECT_THAT(run.err(), HasSubstr("yangtuo up: worker 0 ended (exit code 1)"));
  EXPECT_THAT(run.err(), HasSubstr("model.safetensors is truncated"));
}

TEST_F(UpRunTest, SaysWhoIsNotReadyWhenTheLimitPasses) {
  ready_ = false;
  CommandRun run = Up({"--start-limit", "0.3"});
  EXPECT_EQ(run.Wait(), "exit code 1");
  EXPECT_THAT(run.err(), HasSubstr("worker 0 was not ready within"));
  EXPECT_THAT(run.err(), HasSubstr("loading weights"));
}

TEST_F(UpRunTest, CtrlCDuringTheStartStopsEverything) {
  ready_ = false;
  CommandRun run = Up({});
  ASSERT_TRUE(run.WaitForOutput("waiting until worker 0 is ready"));
  run.Signal(SIGINT);
  EXPECT_EQ(run.Wait(), "exit code 0");
}

TEST_F(UpRunTest, ShowsTheServicesLogsWhenVerbose) {
  WriteService("tokenizer", "echo hello; trap 'exit 0' TERM; ready; while :; do sleep 0.01; done");
  CommandRun run = Up({"--verbose"});
  ASSERT_TRUE(run.WaitForOutput("Ctrl-C stops the cluster.")) << run.err();
  run.Signal(SIGTERM);
  EXPECT_EQ(run.Wait(), "exit code 0");
  EXPECT_EQ(run.err(), "tokenizer | hello\n");
}

TEST_F(UpRunTest, RefusesAnAddressInUseBeforeItStartsAnything) {
  CommandRun run = UpAt(server_.address(), {});
  EXPECT_EQ(run.Wait(), "exit code 1");
  EXPECT_THAT(run.err(), HasSubstr("choose another address with --listen"));
  EXPECT_FALSE(fs::exists(folder_.path() / "calls"));
}

TEST_F(UpRunTest, StatusReadsTheStateFileAndTheAdminPorts) {
  CommandRun run = Up({});
  ASSERT_TRUE(run.WaitForOutput("Ctrl-C stops the cluster.")) << run.err();
  CommandRun status({"status", "--state", state_.string()});
  // The stand-in has no health service, so the gateway does not count as serving.
  EXPECT_EQ(status.Wait(), "exit code 1");
  EXPECT_THAT(status.out(), HasSubstr("worker 0   ready        2"));
}

TEST_F(UpRunTest, HttpGetGivesCodesBodiesAndErrors) {
  const std::string address = absl::StrFormat("127.0.0.1:%d", admin_->port());
  const Duration limit = std::chrono::seconds(10);
  ready_ = false;
  const auto not_ready = HttpGet(address, "/readyz", limit);
  ASSERT_TRUE(not_ready.ok()) << not_ready.status();
  EXPECT_EQ(not_ready->code, 503);
  EXPECT_THAT(not_ready->body, HasSubstr("loading weights"));
  EXPECT_EQ(HttpGet(address, "/nothing", limit)->code, 404);
  EXPECT_EQ(HttpGet("127.0.0.1:1", "/", limit).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(HttpGet("nonsense", "/", limit).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace yangtuo
