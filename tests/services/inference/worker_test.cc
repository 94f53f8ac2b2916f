// Whole workers in one process, on real (small) models.

#include "services/inference/worker.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "services/common/status.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_model.h"
#include "yangtuo/internal/v1/inference.grpc.pb.h"

namespace yangtuo {
namespace {

namespace pb = internal::v1;
using ::testing::HasSubstr;

WorkerOptions OptionsFor(const std::filesystem::path& model) {
  WorkerOptions options;
  options.stage.model = model;
  options.stage.kv_memory_bytes = 1 << 20;
  options.stage.threads = 1;
  options.shard_listen = "127.0.0.1:0";
  options.engine.step_tokens = 16;
  options.engine.recovery_pause = std::chrono::milliseconds(50);
  return options;
}

// A group of workers, each with its metrics.
class Group {
 public:
  Group(const WorkerOptions& base, int shards) : base_(base), shards_(shards) {
    members_.resize(static_cast<std::size_t>(shards));
    for (int index = shards - 1; index >= 0; --index) {
      Start(index, "127.0.0.1:0");
    }
    while (!leader().ready()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    stub_ = StubOf(0);
  }

  void Start(int index, const std::string& shard_listen) {
    WorkerOptions options = base_;
    options.shard_listen = shard_listen;
    if (shards_ > 1) {
      options.shard = absl::StrFormat("%d/%d", index, shards_);
    }
    if (index + 1 < shards_) {
      options.next = absl::StrFormat("127.0.0.1:%d", at(index + 1).worker->shard_port());
    }
    Member& member = at(index);
    auto worker = Worker::Start(options, member.metrics);
    ASSERT_TRUE(worker.ok()) << worker.status();
    member.worker = *std::move(worker);
  }

  void Restart(int index) {
    const std::string address = absl::StrFormat("127.0.0.1:%d", at(index).worker->shard_port());
    at(index).worker.reset();
    Start(index, address);
  }

  std::unique_ptr<pb::InferenceService::Stub> StubOf(int index) {
    return pb::InferenceService::NewStub(
        grpc::CreateChannel(absl::StrFormat("127.0.0.1:%d", at(index).worker->port()),
                            grpc::InsecureChannelCredentials()));
  }
  pb::InferenceService::Stub& stub() { return *stub_; }
  Worker& leader() { return *at(0).worker; }
  std::string LeaderMetrics() { return at(0).metrics.Expose(); }

 private:
  struct Member {
    Metrics metrics;
    std::unique_ptr<Worker> worker;
  };
  Member& at(int index) {
    std::unique_ptr<Member>& member = members_[static_cast<std::size_t>(index)];
    if (member == nullptr) {
      member = std::make_unique<Member>();
    }
    return *member;
  }

  const WorkerOptions base_;
  const int shards_;
  std::vector<std::unique_ptr<Member>> members_;
  std::unique_ptr<pb::InferenceService::Stub> stub_;
};

pb::GenerateRequest SampledRequest(int prompt_tokens, std::uint32_t new_tokens) {
  pb::GenerateRequest request;
  for (int i = 0; i < prompt_tokens; ++i) {
    request.add_prompt_ids(static_cast<std::uint32_t>(1 + i % 50));
  }
  request.mutable_sampling()->set_seed(11);
  request.mutable_sampling()->set_top_k(20);
  request.mutable_sampling()->set_logprobs(1);
  request.mutable_stop()->set_max_new_tokens(new_tokens);
  request.mutable_stop()->set_ignore_eos(true);
  return request;
}

struct Answer {
  std::vector<std::uint32_t> ids;
  std::vector<float> logprobs;
  absl::Status status;
  bool operator==(const Answer&) const = default;
};

template <typename OnFirst>
Answer Generate(Group& group, const pb::GenerateRequest& request, const OnFirst& on_first) {
  grpc::ClientContext context;
  auto reader = group.stub().Generate(&context, request);
  Answer answer;
  pb::GenerateResponse response;
  bool first = true;
  while (reader->Read(&response)) {
    answer.ids.insert(answer.ids.end(), response.delta().ids().begin(),
                      response.delta().ids().end());
    for (const auto& position : response.delta().logprobs()) {
      answer.logprobs.push_back(position.chosen().logprob());
    }
    if (std::exchange(first, false)) {
      on_first();
    }
  }
  answer.status = FromGrpc(reader->Finish());
  return answer;
}

Answer Generate(Group& group, const pb::GenerateRequest& request) {
  return Generate(group, request, [] {});
}

TEST(WorkerTest, TwoAndThreeShardsGiveExactlyTheTokensOfOneProcess) {
  const auto model = SharedData("weights/stories260K/hf-f32");
  if (!model.has_value()) {
    GTEST_SKIP() << "the shared test data is absent";
  }
  const pb::GenerateRequest request = SampledRequest(40, 60);
  Group alone(OptionsFor(*model), 1);
  const Answer expected = Generate(alone, request);
  ASSERT_TRUE(expected.status.ok()) << expected.status;
  ASSERT_EQ(expected.ids.size(), 60U);
  for (const int shards : {2, 3}) {
    Group group(OptionsFor(*model), shards);
    EXPECT_EQ(Generate(group, request), expected) << shards << " shards";
  }
}

TEST(WorkerTest, APromptThatWasComputedBeforeIsNotComputedAgainByAnyShard) {
  const TempDir folder;
  WriteTestModel({.config = TinyLlamaConfig()}, folder.path());
  const pb::GenerateRequest request = SampledRequest(70, 20);
  for (const int shards : {1, 2}) {
    Group group(OptionsFor(folder.path()), shards);
    const Answer first = Generate(group, request);
    ASSERT_TRUE(first.status.ok()) << first.status;
    EXPECT_THAT(group.LeaderMetrics(), HasSubstr("yangtuo_prefix_cache_hits_total 0"));
    EXPECT_EQ(Generate(group, request), first);
    EXPECT_THAT(group.LeaderMetrics(), HasSubstr("yangtuo_prefix_cache_hits_total 64"));
  }
}

TEST(WorkerTest, AnEmbeddingIsTheSameAcrossShardsAndOfUnitLength) {
  const TempDir folder;
  WriteTestModel({.config = TinyLlamaConfig()}, folder.path());
  pb::EmbedRequest request;
  for (std::uint32_t id = 1; id < 40; ++id) {
    request.add_ids(id);
  }
  std::vector<std::vector<float>> embeddings;
  for (const int shards : {1, 2}) {
    Group group(OptionsFor(folder.path()), shards);
    pb::EmbedResponse response;
    grpc::ClientContext context;
    ASSERT_TRUE(group.stub().Embed(&context, request, &response).ok());
    embeddings.emplace_back(response.values().begin(), response.values().end());
  }
  EXPECT_EQ(embeddings[0], embeddings[1]);
  double norm = 0;
  for (const float value : embeddings[0]) {
    norm += static_cast<double>(value) * static_cast<double>(value);
  }
  EXPECT_NEAR(norm, 1, 1e-5);
}

TEST(WorkerTest, AStreamOutlivesARestartedShard) {
  const TempDir folder;
  LlamaConfig config = TinyLlamaConfig();
  config.context_tokens = 2048;  // a stream that is longer than the restart
  WriteTestModel({.config = config}, folder.path());
  const pb::GenerateRequest request = SampledRequest(8, 1200);
  WorkerOptions options = OptionsFor(folder.path());
  options.stage.kv_memory_bytes = 8 << 20;
  Group group(options, 2);
  const Answer expected = Generate(group, request);
  ASSERT_TRUE(expected.status.ok()) << expected.status;
  EXPECT_EQ(Generate(group, request, [&group] { group.Restart(1); }), expected);
}

TEST(WorkerTest, ALostShardIsNoticedAndFoundAgainByAnIdleLeader) {
  const TempDir folder;
  WriteTestModel({.config = TinyLlamaConfig()}, folder.path());
  Group group(OptionsFor(folder.path()), 2);
  EXPECT_THAT(group.LeaderMetrics(), HasSubstr("yangtuo_shard_up{peer=\"next\"} 1"));
  group.Restart(1);
  while (group.leader().ready()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  while (!group.leader().ready()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_TRUE(Generate(group, SampledRequest(3, 3)).status.ok());
}

TEST(WorkerTest, StatusTellsModelPlaceAndLoad) {
  const TempDir folder;
  WriteTestModel({.config = TinyLlamaConfig()}, folder.path());
  WorkerOptions options = OptionsFor(folder.path());
  options.model_name = "tiny";
  Group group(options, 2);
  for (const int index : {0, 1}) {
    pb::GetStatusResponse response;
    grpc::ClientContext context;
    ASSERT_TRUE(group.StubOf(index)->GetStatus(&context, {}, &response).ok());
    const pb::WorkerStatus& status = response.status();
    EXPECT_EQ(status.model(), "tiny");
    EXPECT_TRUE(status.ready());
    EXPECT_EQ(status.shard_index(), static_cast<std::uint32_t>(index));
    EXPECT_EQ(status.num_shards(), 2U);
    EXPECT_EQ(status.vocabulary_size(), 64U);
    EXPECT_EQ(status.context_tokens(), 128U);
    EXPECT_EQ(status.num_layers(), 2U);
    EXPECT_THAT(status.numerics_id(), HasSubstr(status.model_digest()));
    EXPECT_EQ(status.load().kv_blocks_total() > 0, index == 0);
    ASSERT_EQ(status.has_prefix_scheme(), index == 0);
    if (index == 0) {
      EXPECT_EQ(status.prefix_scheme().scheme(), "sha256-chain-1");
      EXPECT_EQ(status.prefix_scheme().block_size(), 32U);
      EXPECT_EQ(status.prefix_scheme().root().size(), 32U);
    }
  }
}

TEST(WorkerTest, AShardThatDoesNotLeadSaysWhoDoes) {
  const TempDir folder;
  WriteTestModel({.config = TinyLlamaConfig()}, folder.path());
  Group group(OptionsFor(folder.path()), 2);
  grpc::ClientContext context;
  auto reader = group.StubOf(1)->Generate(&context, SampledRequest(3, 3));
  pb::GenerateResponse response;
  EXPECT_FALSE(reader->Read(&response));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("shard 1 of 2; ask the leader"));
}

TEST(WorkerTest, DrainingFinishesWhatRunsAndRefusesWhatIsNew) {
  const TempDir folder;
  WriteTestModel({.config = TinyLlamaConfig()}, folder.path());
  Group group(OptionsFor(folder.path()), 1);
  std::thread drain;
  const Answer answer = Generate(group, SampledRequest(8, 110), [&] {
    drain = std::thread([&group] { group.leader().Drain(std::chrono::seconds(20)); });
  });
  EXPECT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.ids.size(), 110U);
  drain.join();
  EXPECT_TRUE(absl::IsUnavailable(Generate(group, SampledRequest(3, 3)).status));
}

TEST(WorkerTest, DamagedModelsDoNotStart) {
  const TempDir folder;
  WriteTestModel({.config = TinyLlamaConfig()}, folder.path());
  const std::filesystem::path weights = folder.path() / "model.safetensors";
  const std::string whole = ReadTestFile(weights);
  WriteTestFile(weights, whole.substr(0, whole.size() / 2));
  Metrics metrics;
  const absl::Status status = Worker::Start(OptionsFor(folder.path()), metrics).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.safetensors"));
}

}  // namespace
}  // namespace yangtuo
