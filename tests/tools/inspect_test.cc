#include "tools/inspect/inspect.h"

#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/formats/gguf_writer.h"
#include "tests/testing/data.h"
#include "tests/testing/safetensors_writer.h"
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

TEST(InspectTest, ListsOneFileOfAModel) {
  const auto beside = Inspect(SourceFile("deploy/models/poem-alpaca/model.safetensors"));
  ASSERT_TRUE(beside.ok()) << beside.status();
  EXPECT_EQ(beside->kind,
            "safetensors file, Hugging Face's names: an embedding of 6001 rows, layers 0 to 5, the "
            "head");
  EXPECT_EQ(beside->tensors.size(), 57U);
  EXPECT_EQ(beside->types.at("f16").tensors, 57);
  EXPECT_THAT(beside->pairs_with, ElementsAre(HasSubstr("deploy/models/poem-alpaca"),
                                              HasSubstr("at most 6001 pieces")));
  EXPECT_THAT(beside->problems, IsEmpty());
  EXPECT_THAT(Describe(*beside, true), HasSubstr("model.layers.5.mlp.down_proj.weight"));

  const TempDir folder;
  const auto file = folder.path() / "x.safetensors";
  std::filesystem::copy_file(SourceFile("deploy/models/poem-alpaca/model.safetensors"), file);
  const auto alone = Inspect(file);
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_THAT(alone->problems, ElementsAre(HasSubstr("no config.json beside it")));
}

TEST(InspectTest, TellsTheFilesOfMetasLayoutAndOthersByTheirNames) {
  const TempDir folder;
  const auto file = folder.path() / "x.safetensors";
  const auto kind_of = [&file](const std::vector<PlainTensor>& tensors) {
    WriteSafetensors(file, tensors, [&tensors](std::size_t i) {
      return std::vector<float>(static_cast<std::size_t>(tensors[i].elements()));
    });
    const auto found = Inspect(file);
    EXPECT_TRUE(found.ok()) << found.status();
    return found->kind + ": " + found->problems.at(0);
  };
  EXPECT_EQ(kind_of({{"tok_embeddings.weight", DType::kF16, {32000, 2}},
                     {"layers.7.attention.wq.weight", DType::kF32, {4, 4}}}),
            "safetensors file, a shard of Meta's layout: an embedding of 32000 rows, layers 7 to "
            "7: there is no params.json beside it, without which it is no model");
  EXPECT_THAT(kind_of({{"encoder.weight", DType::kF32, {4, 4}}}),
              HasSubstr("no tensor has a name"));
}

TEST(InspectTest, ListsTheFileOfAnAdapter) {
  const auto adapter = SharedData("weights/poem-alpaca-lora/adapter_model.bin");
  if (!adapter.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  const auto found = Inspect(*adapter);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->kind,
            "torch file of a LoRA adapter (PEFT): rank 8, changes 42 tensors, brings an embedding");
  EXPECT_EQ(found->tensors.size(), 86U);
  EXPECT_THAT(found->pairs_with, ElementsAre(HasSubstr("an adapter in"), HasSubstr("6001 rows")));
  EXPECT_THAT(found->problems, IsEmpty());
}

TEST(InspectTest, ReadsAGgufFileOfAVocabularyAlone) {
  const auto file = SharedData("golden/llama.cpp-spm/ggml-vocab-llama-spm.gguf");
  if (!file.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  const auto found = Inspect(*file);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(found->kind, HasSubstr("vocabulary without tensors"));
  EXPECT_EQ(found->tokenizer->pieces, 32000);
  EXPECT_THAT(found->pairs_with, ElementsAre(HasSubstr("32000 rows or a few more: LLaMA")));
  EXPECT_THAT(found->problems, IsEmpty());
  // What wants a model of it says so.
  const auto model = OpenCheckpoint(*file);
  EXPECT_THAT(std::string(model.status().message()), HasSubstr("it has no tensors at all"));
}

TEST(InspectTest, ListsGgufFilesOfOtherArchitectures) {
  const TempDir folder;
  const auto file = folder.path() / "x.gguf";
  GgufKeyValues keys;
  keys.SetText("general.architecture", "gpt2");
  keys.SetText("tokenizer.ggml.model", "gpt2");
  const auto writer =
      NewGgufWriter(file, keys, {{.name = "a", .dtype = DType::kQ8_0, .shape = {2, 32}}});
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->Append(0, std::vector<std::byte>(68)).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  const auto found = Inspect(file);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->kind, "GGUF file of architecture gpt2");
  EXPECT_EQ(found->types.at("q8_0").bytes, 68);
  EXPECT_THAT(found->problems,
              ElementsAre(HasSubstr("only llama is supported"), HasSubstr("found gpt2")));
}

TEST(InspectTest, NamesWhatIsMissing) {
  const auto found = Inspect("/nonexistent");
  EXPECT_EQ(found.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("/nonexistent"));
}

}  // namespace
}  // namespace yangtuo
