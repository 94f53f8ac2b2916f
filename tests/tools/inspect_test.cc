#include "tools/inspect/inspect.h"

#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(InspectTest, TellsWhatAModelFolderHolds) {
  const auto found = Inspect(SourceFile("deploy/models/poem-alpaca"));
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->kind, "model: Hugging Face folder, safetensors");
  EXPECT_EQ(found->config->layers, 6);
  EXPECT_EQ(found->tensors.size(), 57U);
  EXPECT_EQ(found->bytes, 2 * found->parameters);
  EXPECT_EQ(found->types.at("f16").tensors, 57);
  EXPECT_EQ(found->tokenizer->pieces, 6001);
  EXPECT_EQ(found->tokenizer->bos, "<s>");
  EXPECT_THAT(found->problems, IsEmpty());
  const std::string text = Describe(*found, true);
  EXPECT_THAT(text, HasSubstr("model.layers.5.mlp.down_proj.weight"));
  EXPECT_THAT(text, HasSubstr("[256, 768]"));
  const auto json = nlohmann::json::parse(EncodeInspection(*found));
  EXPECT_EQ(json["config"]["ffn"], 768);
  EXPECT_EQ(json["tensors"].size(), 57U);
}

TEST(InspectTest, SaysWhenATokenizerIsAnotherModels) {
  const auto other = SharedData("tokenizers/llama.model");
  if (!other.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  const TempDir folder;
  std::filesystem::copy(SourceFile("deploy/models/poem-alpaca"), folder.path(),
                        std::filesystem::copy_options::recursive);
  std::filesystem::remove(folder.path() / "tokenizer.model");
  std::filesystem::copy_file(*other, folder.path() / "tokenizer.model");
  const auto found = Inspect(folder.path());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(found->problems, ElementsAre(HasSubstr("6001 rows, but the tokenizer has 32000")));
  std::filesystem::remove(folder.path() / "tokenizer.model");
  const auto without = Inspect(folder.path());
  ASSERT_TRUE(without.ok()) << without.status();
  EXPECT_THAT(without->problems, ElementsAre(HasSubstr("no tokenizer.model")));
}

TEST(InspectTest, TellsWhichBaseAnAdapterIsFor) {
  const auto adapter = SharedData("weights/poem-alpaca-lora");
  if (!adapter.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  const auto found = Inspect(*adapter);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->adapter->rank, 8);
  EXPECT_EQ(found->adapter->scale, 4.0);
  EXPECT_EQ(found->adapter->factors, 42U);
  EXPECT_THAT(found->adapter->replaces, ElementsAre("lm_head.weight", "model.embed_tokens.weight"));
  EXPECT_THAT(found->pairs_with, ElementsAre(HasSubstr("at most 6001 rows")));
  EXPECT_THAT(found->problems, IsEmpty());
}

TEST(InspectTest, KnowsThePublishedTokenizers) {
  const auto file = SharedData("tokenizers/chinese-alpaca.model");
  if (!file.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  const auto found = Inspect(*file);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->tokenizer->pieces, 49954);
  EXPECT_THAT(found->tokenizer->family, HasSubstr("Chinese-Alpaca"));
  EXPECT_THAT(found->pairs_with, ElementsAre(HasSubstr("49954")));
}

TEST(InspectTest, ReadsOneFileWithItsTokenizer) {
  const auto file = SharedData("weights/stories260K/stories260K.gguf");
  if (!file.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  const auto found = Inspect(*file);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->kind, "model: GGUF file");
  EXPECT_EQ(found->config->kv_heads, 4);
  EXPECT_EQ(found->tokenizer->pieces, 512);
}

TEST(InspectTest, NamesWhatIsMissing) {
  const auto found = Inspect("/nonexistent");
  EXPECT_EQ(found.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("/nonexistent"));
}

}  // namespace
}  // namespace yangtuo
