#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"
#include "tools/common/cluster_state.h"
#include "tools/up/cluster_plan.h"
#include "tools/up/log_follower.h"
#include "tools/up/model_folder.h"
#include "tools/up/run_folder.h"
#include "tools/up/summary.h"

namespace yangtuo {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;

std::vector<std::string> Names(const std::vector<PlannedService>& plan) {
  std::vector<std::string> names;
  names.reserve(plan.size());
  for (const PlannedService& service : plan) {
    names.push_back(service.name);
  }
  return names;
}

TEST(PlanClusterTest, OneWorkerNeedsNoShards) {
  ClusterShape shape;
  shape.programs = "/bin";
  shape.model = "/models/m";
  shape.tokenizer = "/models/m";
  shape.model_name = "m";
  shape.threads = 3;
  shape.kv_memory = "64MiB";
  shape.listen = "127.0.0.1:50051";
  shape.http_listen = "127.0.0.1:8080";
  const auto plan = PlanCluster(shape);
  ASSERT_THAT(Names(plan), ElementsAre("worker 0", "tokenizer", "gateway"));
  EXPECT_EQ(plan[0].program, "/bin/yangtuo-worker");
  EXPECT_THAT(plan[0].arguments,
              ElementsAre("--model", "/models/m", "--model-name", "m", "--threads", "3",
                          "--drain-seconds", "10", "--kv-memory", "64MiB"));
  EXPECT_THAT(plan[0].peers, IsEmpty());
  EXPECT_THAT(plan[1].arguments, IsSupersetOf({"--model", "m=/models/m"}));
  EXPECT_EQ(plan[2].listens[0].address, "127.0.0.1:50051");
  EXPECT_EQ(plan[2].listens.back().flag, "--http-listen");
  EXPECT_EQ(plan[2].listens.back().address, "127.0.0.1:8080");
}

TEST(PlanClusterTest, TellsWorkersTheWeightTypeAndAdapters) {
  ClusterShape shape;
  shape.weight_type = "int4";
  shape.kv_type = "int8";
  shape.adapters = {"/a", "/b"};
  const auto plan = PlanCluster(shape);
  EXPECT_THAT(plan[0].arguments, IsSupersetOf({"--kv-type", "int8", "--weight-type", "int4",
                                               "--adapter", "/a", "--adapter", "/b"}));
}

TEST(PlanClusterTest, StartsTheShardsOfAGroupFromTheLastToTheFirst) {
  ClusterShape shape;
  shape.groups = 2;
  shape.shards = 3;
  const auto plan = PlanCluster(shape);
  ASSERT_THAT(Names(plan),
              ElementsAre("worker 1 shard 2", "worker 1 shard 1", "worker 1", "worker 0 shard 2",
                          "worker 0 shard 1", "worker 0", "tokenizer", "gateway"));
  EXPECT_THAT(plan[0].arguments, Contains("--shard=2/3"));
  EXPECT_THAT(plan[0].peers, IsEmpty());
  ASSERT_EQ(plan[1].peers.size(), 1U);
  EXPECT_EQ(plan[1].peers[0].flag, "--next");
  EXPECT_EQ(plan[1].peers[0].key, "shard");
  EXPECT_THAT(plan[1].peers[0].services, ElementsAre("worker 1 shard 2"));
  EXPECT_EQ(plan[1].listens.back().flag, "--shard-listen");
  // The leader is not reached by shards.
  EXPECT_EQ(plan[2].listens.size(), 2U);
  EXPECT_THAT(plan[7].peers[0].services, ElementsAre("worker 0", "worker 1"));
  EXPECT_THAT(plan[7].peers[1].services, ElementsAre("tokenizer"));
}

TEST(ClusterStateTest, ComesBackAsItWasWritten) {
  const TempDir folder;
  const auto path = folder.path() / "up-1.json";
  const ClusterState state{.pid = getpid(),
                           .gateway = "127.0.0.1:5",
                           .model = "/模型/m",
                           .log_folder = "/logs",
                           .services = {{.name = "worker 0",
                                         .pid = 7,
                                         .grpc = "127.0.0.1:6",
                                         .admin = "127.0.0.1:8",
                                         .log = "/logs/worker-0.log",
                                         .restarts = 2}}};
  ASSERT_TRUE(WriteClusterState(path, state).ok());
  const auto read = ReadClusterState(path);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->gateway, state.gateway);
  EXPECT_EQ(read->model, state.model);
  ASSERT_EQ(read->services.size(), 1U);
  EXPECT_EQ(read->services[0].name, "worker 0");
  EXPECT_EQ(read->services[0].admin, "127.0.0.1:8");
  EXPECT_EQ(read->services[0].restarts, 2);
}

TEST(ClusterStateTest, FilesOfEndedClustersAndOfOthersArePassedOver) {
  const TempDir folder;
  ClusterState state;
  state.gateway = "a:1";
  state.pid = getpid();
  ASSERT_TRUE(WriteClusterState(folder.path() / "a.json", state).ok());
  state.pid = 1 << 30;  // larger than any process id
  ASSERT_TRUE(WriteClusterState(folder.path() / "b.json", state).ok());
  std::ofstream(folder.path() / "c.json") << "{\"pid\": \"no\"";
  const auto running = RunningClusters(folder.path());
  ASSERT_EQ(running.size(), 1U);
  EXPECT_EQ(running[0].gateway, "a:1");
  EXPECT_EQ(ReadClusterState(folder.path() / "c.json").status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(FindModelFolderTest, TakesTheEmbeddedModelByDefault) {
  const auto folder = FindModelFolder("", YANGTUO_BINARY_DIR "/bin");
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_EQ(folder->filename(), "poem-alpaca");
  EXPECT_EQ(*FindModelFolder("poem-alpaca", "/nowhere"), *folder);
}

TEST(FindModelFolderTest, SaysWhichFileIsMissing) {
  const TempDir folder;
  std::ofstream(folder.path() / "config.json") << "{}";
  const auto found = FindModelFolder(folder.path().string(), "/nowhere");
  EXPECT_EQ(found.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("has no tokenizer.model"));
}

TEST(FindModelFolderTest, TakesOneFile) {
  const TempDir folder;
  std::ofstream(folder.path() / "m.gguf") << "x";
  const auto found = FindModelFolder((folder.path() / "m.gguf").string(), "/nowhere");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->filename(), "m.gguf");
}

TEST(FindModelFolderTest, IgnoresASlashAtTheEnd) {
  const TempDir folder;
  const auto model = folder.path() / "m";
  std::filesystem::create_directory(model);
  std::ofstream(model / "config.json") << "{}";
  std::ofstream(model / "tokenizer.model") << "x";
  const auto found = FindModelFolder(model.string() + "/", "/nowhere");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->filename(), "m");
}

TEST(LogFollowerTest, HandsOnWholeLinesOnce) {
  const TempDir folder;
  std::vector<std::string> lines;
  LogFollower follower(
      [&](const std::string& name, const std::string& line) { lines.push_back(name + line); });
  follower.Add("a:", folder.path() / "a");
  follower.Poll();
  std::ofstream out(folder.path() / "a");
  out << "one\ntw" << std::flush;
  follower.Poll();
  EXPECT_THAT(lines, ElementsAre("a:one"));
  out << "o\n" << std::flush;
  follower.Poll();
  follower.Poll();
  EXPECT_THAT(lines, ElementsAre("a:one", "a:two"));
}

TEST(RemoveOldRunFoldersTest, KeepsTheNewestAndThoseInUse) {
  const TempDir folder;
  const std::string in_use = absl::StrFormat("20200101-000000-%d", getpid());
  const int nobody = 1 << 30;
  for (const std::string& name : {in_use, absl::StrFormat("20200102-000000-%d", nobody),
                                  absl::StrFormat("20200103-000000-%d", nobody)}) {
    std::filesystem::create_directory(folder.path() / name);
  }
  RemoveOldRunFolders(folder.path(), 1);
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    left.push_back(entry.path().filename().string().substr(0, 8));
  }
  EXPECT_THAT(left, ::testing::UnorderedElementsAre("20200101", "20200103"));
}

TEST(FormatSummaryTest, LeavesTheDefaultAddressOutOfTheCommands) {
  ClusterSummary summary;
  summary.state.gateway = "127.0.0.1:50051";
  summary.models.add_models()->set_chat_template("alpaca");
  EXPECT_THAT(FormatSummary(summary), HasSubstr("\n  yangtuo chat\n"));
  summary.state.gateway = "127.0.0.1:7";
  EXPECT_THAT(FormatSummary(summary), HasSubstr("\n  yangtuo chat --server 127.0.0.1:7\n"));
  summary.models.Clear();
  EXPECT_THAT(FormatSummary(summary), Not(HasSubstr("yangtuo chat")));
}

}  // namespace
}  // namespace yangtuo
