#include "services/inference/worker_options.h"

#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using ::testing::HasSubstr;

std::string Refusal(const WorkerOptions& options) {
  return std::string(CheckWorkerOptions(options).message());
}

TEST(WorkerOptionsTest, NamesTheFlagThatIsWrong) {
  const TempDir folder;
  WorkerOptions options;
  EXPECT_THAT(Refusal(options), HasSubstr("--model is missing"));
  options.stage.model = "/no/such/model";
  EXPECT_THAT(Refusal(options), HasSubstr("--model /no/such/model"));
  options.stage.model = folder.path();
  EXPECT_TRUE(CheckWorkerOptions(options).ok());
  options.stage.adapters = {"/no/such/adapter"};
  EXPECT_THAT(Refusal(options), HasSubstr("--adapter /no/such/adapter"));
  options.stage.adapters.clear();
  for (const char* layers : {"3", "2:2", "-1:2", "a:b", "1:2:3"}) {
    options.layers = layers;
    EXPECT_THAT(Refusal(options), HasSubstr(std::string("--layers ") + layers)) << layers;
  }
  options.layers.clear();
  for (const char* shard : {"2/2", "-1/2", "1", "0/0", "x/2"}) {
    options.shard = shard;
    EXPECT_THAT(Refusal(options), HasSubstr(std::string("--shard ") + shard)) << shard;
  }
  options.shard = "0/2";
  EXPECT_THAT(Refusal(options), HasSubstr("needs --next"));
  options.shard.clear();
  options.next = "group-{next}:50060";
  EXPECT_THAT(Refusal(options), HasSubstr("--next group-{next}:50060"));
}

TEST(ResolvePlaceTest, AWholeModelLeadsItself) {
  const absl::StatusOr<ShardPlace> place = ResolvePlace(WorkerOptions(), 5);
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->layers.first, 0);
  EXPECT_EQ(place->layers.last, 5);
  EXPECT_TRUE(place->leads());
}

TEST(ResolvePlaceTest, PartsOfAModelKnowTheirLayersAndPlace) {
  WorkerOptions options;
  options.shard = "1/3";
  options.next = "127.0.0.1:1";
  const absl::StatusOr<ShardPlace> part = ResolvePlace(options, 5);
  ASSERT_TRUE(part.ok()) << part.status();
  EXPECT_EQ(part->layers.first, 2);
  EXPECT_EQ(part->layers.last, 4);
  EXPECT_EQ(part->index, 1);
  EXPECT_EQ(part->shards, 3);
  EXPECT_FALSE(part->leads());
  options.shard.clear();
  options.layers = "0:3";
  const absl::StatusOr<ShardPlace> layers = ResolvePlace(options, 5);
  ASSERT_TRUE(layers.ok()) << layers.status();
  EXPECT_TRUE(layers->leads());
  EXPECT_EQ(layers->layers.last, 3);
}

TEST(ResolvePlaceTest, RefusesPartsThatDoNotFitTheModelOrTheChain) {
  WorkerOptions options;
  options.layers = "3:6";
  EXPECT_THAT(std::string(ResolvePlace(options, 5).status().message()), HasSubstr("0:5"));
  options.layers = "0:3";
  EXPECT_THAT(std::string(ResolvePlace(options, 5).status().message()),
              HasSubstr("--next is missing"));
  options.layers = "3:5";
  options.next = "127.0.0.1:1";
  EXPECT_THAT(std::string(ResolvePlace(options, 5).status().message()),
              HasSubstr("no worker follows"));
  options.layers.clear();
  options.shard = "0/6";
  EXPECT_FALSE(ResolvePlace(options, 5).ok());
}

TEST(NextAddressTest, OneTemplateFitsEveryShardOfAGroup) {
  WorkerOptions options;
  options.next = "group-{next}.shards:50060";
  const std::vector<std::string> expected = {"group-1.shards:50060", "group-2.shards:50060", ""};
  for (int index = 0; index < 3; ++index) {
    options.shard = absl::StrFormat("%d/3", index);
    const absl::StatusOr<ShardPlace> place = ResolvePlace(options, 5);
    ASSERT_TRUE(place.ok()) << place.status();
    EXPECT_EQ(NextAddress(options, *place), expected[static_cast<std::size_t>(index)]);
  }
}

TEST(NextAddressTest, AnAddressWithoutTheNumberStaysAsItIs) {
  WorkerOptions options;
  EXPECT_EQ(NextAddress(options, {}), "");
  options.next = "10.0.0.7:50060";
  EXPECT_EQ(NextAddress(options, {.layers = {}, .index = 0, .shards = 2}), "10.0.0.7:50060");
}

}  // namespace
}  // namespace yangtuo
