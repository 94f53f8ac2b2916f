#include "services/inference/shard_handshake.h"

#include <functional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/status.h"

namespace yangtuo {
namespace {

using internal::v1::Hello;
using ::testing::HasSubstr;

StageInfo Called() {
  StageInfo info;
  info.model_digest = "abc";
  info.numerics = "bf16/avx512/v1";
  info.first_layer = 2;
  info.num_layers = 4;
  info.context_tokens = 128;
  info.kv_block_size = 32;
  info.kv_blocks = 10;
  info.max_step_tokens = 64;
  return info;
}

Hello FittingHello() { return MakeHello(Called(), 5, 0, std::chrono::milliseconds(500)); }

TEST(ShardHandshakeTest, AFittingPairAgrees) {
  EXPECT_TRUE(CheckHello(FittingHello(), Called()).ok());
  Hello modest = FittingHello();
  modest.set_kv_blocks(0);
  modest.set_max_step_tokens(1);
  modest.set_context_tokens(16);
  EXPECT_TRUE(CheckHello(modest, Called()).ok());
  EXPECT_TRUE(CheckWelcome(MakeWelcome(Called(), 4, 5), FittingHello()).ok());
}

struct Misfit {
  const char* name;
  std::function<void(Hello&)> change;
  const char* what;
  const char* caller;
  const char* callee;
};

class MisfitTest : public ::testing::TestWithParam<Misfit> {};

TEST_P(MisfitTest, IsRefusedNamingBothSides) {
  Hello hello = FittingHello();
  GetParam().change(hello);
  const absl::Status status = CheckHello(hello, Called());
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  const std::string text(status.message());
  EXPECT_THAT(text, HasSubstr(GetParam().what));
  EXPECT_THAT(text, HasSubstr(std::string(GetParam().caller) + " at the caller"));
  EXPECT_THAT(text, HasSubstr(std::string(GetParam().callee) + " at the called shard"));
  EXPECT_EQ(ReasonOf(status), "SHARD_MISMATCH");
}

INSTANTIATE_TEST_SUITE_P(
    All, MisfitTest,
    ::testing::Values(
        Misfit{"Version", [](Hello& h) { h.set_protocol_version(9); }, "protocol version", "9",
               "1"},
        Misfit{"Digest", [](Hello& h) { h.set_model_digest("abd"); }, "digest", "abd", "abc"},
        Misfit{"NoDigest", [](Hello& h) { h.clear_model_digest(); }, "digest", "(none)", "abc"},
        Misfit{"Numerics", [](Hello& h) { h.set_numerics("f32"); }, "numerics", "f32",
               "bf16/avx512/v1"},
        Misfit{"Layers", [](Hello& h) { h.set_num_layers(5); }, "number of layers", "5", "4"},
        Misfit{"Gap", [](Hello& h) { h.set_next_layer(1); }, "first layer", "1", "2"},
        Misfit{"BlockSize", [](Hello& h) { h.set_kv_block_size(16); }, "block size", "16", "32"},
        Misfit{"Tensor", [](Hello& h) { h.set_tensor_size(2); }, "tensor-parallel", "2", "1"},
        Misfit{"Blocks", [](Hello& h) { h.set_kv_blocks(11); }, "KV blocks", "11", "only 10"},
        Misfit{"Rows", [](Hello& h) { h.set_max_step_tokens(65); }, "rows", "65", "only 64"},
        Misfit{"Context", [](Hello& h) { h.set_context_tokens(129); }, "context", "129",
               "only 128"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(ShardHandshakeTest, OnlyALargerEpochFormsAGroup) {
  EXPECT_TRUE(CheckEpoch(FittingHello(), 4).ok());
  const absl::Status status = CheckEpoch(FittingHello(), 5);
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_EQ(ReasonOf(status), kEpochNotNewer);
}

TEST(ShardHandshakeTest, EpochZeroOnlyAsks) {
  EXPECT_TRUE(CheckEpoch(MakeHello(Called(), 0, 0, std::chrono::seconds(1)), 99).ok());
}

TEST(ShardHandshakeTest, AWelcomeThatDoesNotAnswerTheHelloIsRefused) {
  const Hello hello = FittingHello();
  StageInfo other = Called();
  other.first_layer = 3;
  EXPECT_FALSE(CheckWelcome(MakeWelcome(other, 4, 5), hello).ok());
  EXPECT_FALSE(CheckWelcome(MakeWelcome(Called(), 4, 4), hello).ok());  // another epoch
  EXPECT_FALSE(CheckWelcome(MakeWelcome(Called(), 2, 5), hello).ok());  // no layers
  EXPECT_FALSE(CheckWelcome(MakeWelcome(Called(), 9, 5), hello).ok());  // beyond the model
  StageInfo fewer = Called();
  fewer.kv_blocks = 9;
  EXPECT_THAT(std::string(CheckWelcome(MakeWelcome(fewer, 4, 5), hello).message()),
              HasSubstr("10 at the caller and only 9 at the called shard"));
}

}  // namespace
}  // namespace yangtuo
