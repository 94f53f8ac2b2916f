#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/formats/tensor_files.h"
#include "inference_core/tokenizer/vocabulary.h"
#include "tests/inference_core/checkpoint/rows_of.h"
#include "tests/testing/data.h"
#include "tests/testing/safetensors_writer.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_model.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

class OpenCheckpointTest : public ::testing::Test {
 protected:
  void ExpectFault(absl::StatusCode code, const std::string& a, const std::string& b) const {
    const absl::Status status = OpenCheckpoint(folder_.path()).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(a), HasSubstr(b)));
  }

  TempDir folder_;
};

TEST_F(OpenCheckpointTest, ListsAndReadsTheTensorsOfASafetensorsFolder) {
  TestModel model{.config = TinyLlamaConfig(), .dtype = DType::kF16, .files = 3};
  WriteTestModel(model, folder_.path());
  const auto checkpoint = OpenCheckpoint(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->format, CheckpointFormat::kSafetensors);
  const TensorSource& source = *checkpoint->tensors;
  const auto files = TensorFiles::Open(folder_.path());
  ASSERT_TRUE(files.ok());
  ASSERT_EQ(source.tensors().size(), files->Names().size());
  for (std::size_t i = 0; i < source.tensors().size(); ++i) {
    const TensorSpec& spec = source.tensors()[i];
    const StoredTensor stored = *files->Find(spec.name);
    const std::vector<std::byte> all = RowsOf(source, i, 0, spec.rows());
    EXPECT_TRUE(std::equal(all.begin(), all.end(), stored.data.begin(), stored.data.end()));
    EXPECT_EQ(source.Mapped(i).size(), stored.data.size());
    EXPECT_THAT(source.Origin(i), HasSubstr(spec.name));
    source.Forget(i);
    EXPECT_EQ(RowsOf(source, i, 0, spec.rows()), all) << "forgotten pages are read again";
  }
}

TEST_F(OpenCheckpointTest, ReadsAFewRowsAtATime) {
  WriteTestModel({.config = TinyLlamaConfig()}, folder_.path());
  const auto checkpoint = OpenCheckpoint(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto index = FindTensor(*checkpoint->tensors, "model.layers.1.mlp.up_proj.weight");
  ASSERT_TRUE(index.ok());
  const std::vector<std::byte> all = RowsOf(*checkpoint->tensors, *index, 0, 48);
  const std::vector<std::byte> some = RowsOf(*checkpoint->tensors, *index, 5, 7);
  EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin() + 5 * 32 * 4));
}

TEST_F(OpenCheckpointTest, NamesTheNearestTensorForAnUnknownName) {
  WriteTestModel({.config = TinyLlamaConfig()}, folder_.path());
  const auto checkpoint = OpenCheckpoint(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto index = FindTensor(*checkpoint->tensors, "model.layers.1.mlp.up_projection.weight");
  EXPECT_EQ(index.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(index.status().message()), HasSubstr("layers.1.mlp.up_proj.weight"));
}

TEST_F(OpenCheckpointTest, ReadsTheTokenizerBesideTheModel) {
  WriteTestFile(folder_.path() / "pieces", "a sentencepiece model");
  WriteTestModel({.config = TinyLlamaConfig(), .tokenizer = folder_.path() / "pieces"},
                 folder_.path());
  WriteTestFile(folder_.path() / "tokenizer_config.json", R"({"chat_template": "alpaca"})");
  const auto checkpoint = OpenCheckpoint(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->tokenizer_model, "a sentencepiece model");
  EXPECT_EQ(checkpoint->tokenizer_file, folder_.path() / "tokenizer.model");
  EXPECT_EQ(checkpoint->chat_template, "alpaca");
}

TEST_F(OpenCheckpointTest, IsContentWithAModelThatHasNoTokenizer) {
  WriteTestModel({.config = TinyLlamaConfig()}, folder_.path());
  const auto checkpoint = OpenCheckpoint(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(checkpoint->tokenizer_model, IsEmpty());
}

TEST_F(OpenCheckpointTest, DigestsAreWeakWithoutAManifestAndFollowTheConfiguration) {
  TestModel model{.config = TinyLlamaConfig()};
  WriteTestModel(model, folder_.path());
  const auto first = OpenCheckpoint(folder_.path());
  model.config.rope_theta = 20000.0F;
  WriteTestFile(folder_.path() / "config.json", EncodeConfig(model.config, model.dtype));
  const auto second = OpenCheckpoint(folder_.path());
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_TRUE(first->weak_digest);
  EXPECT_EQ(first->digest.size(), 64U);
  EXPECT_NE(first->digest, second->digest);
}

TEST_F(OpenCheckpointTest, RefusesATensorOfAnotherShapeThanTheConfigurationSays) {
  TestModel model{.config = TinyLlamaConfig()};
  WriteTestModel(model, folder_.path());
  model.config.vocab = 65;
  WriteTestFile(folder_.path() / "config.json", EncodeConfig(model.config, model.dtype));
  ExpectFault(absl::StatusCode::kInvalidArgument, "model.embed_tokens.weight",
              "expected shape [65, 32] by config.json, found [64, 32]");
}

TEST_F(OpenCheckpointTest, NamesATensorThatIsMissing) {
  TestModel model{.config = TinyLlamaConfig()};
  WriteTestModel(model, folder_.path());
  model.config.layers = 3;
  WriteTestFile(folder_.path() / "config.json", EncodeConfig(model.config, model.dtype));
  ExpectFault(absl::StatusCode::kNotFound, "model.layers.2.input_layernorm.weight",
              folder_.path().string());
}

TEST_F(OpenCheckpointTest, SaysThatAnAdapterIsNotAModel) {
  WriteTestFile(folder_.path() / "adapter_config.json", "{}");
  ExpectFault(absl::StatusCode::kNotFound, "LoRA adapter", "yangtuo merge-lora");
}

TEST(OpenCheckpointPathTest, NamesAPathWithNothingThere) {
  const absl::Status status = OpenCheckpoint("/nowhere/model").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nowhere/model"));
}

TEST(OpenCheckpointGoldenTest, OpensThePoemModels) {
  for (const char* const name : {"weights/poem-llama", "weights/poem-alpaca"}) {
    const std::optional<fs::path> folder = SharedData(name);
    if (!folder.has_value()) {
      GTEST_SKIP() << "no shared data beside this checkout";
    }
    const auto checkpoint = OpenCheckpoint(*folder);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_EQ(checkpoint->tensors->tensors().size(), 6U * 9 + 3);
    EXPECT_FALSE(checkpoint->tokenizer_model.empty());
  }
}

// Another program wrote the GGUF file from the same weights: with interleaved rows, grouped keys
// and a head of its own, which equals the embedding.
TEST(OpenCheckpointGoldenTest, AGgufFileIsTheSameModelAsTheFolder) {
  const std::optional<fs::path> gguf = SharedData("weights/stories260K/stories260K.gguf");
  const std::optional<fs::path> folder = SharedData("weights/stories260K/hf-f32");
  if (!gguf.has_value() || !folder.has_value()) {
    GTEST_SKIP() << "no shared data beside this checkout";
  }
  const auto found = OpenCheckpoint(*gguf);
  ASSERT_TRUE(found.ok()) << found.status();
  const auto expected = OpenCheckpoint(*folder);
  ASSERT_TRUE(expected.ok()) << expected.status();
  EXPECT_EQ(found->format, CheckpointFormat::kGguf);
  EXPECT_EQ(found->config.kv_heads, 4);
  const TensorSource& source = *found->tensors;
  for (std::size_t i = 0; i < expected->tensors->tensors().size(); ++i) {
    const TensorSpec& spec = expected->tensors->tensors()[i];
    const auto index = FindTensor(source, spec.name);
    ASSERT_TRUE(index.ok()) << index.status();
    EXPECT_EQ(source.tensors()[*index], spec);
    EXPECT_TRUE(RowsOf(source, *index, 0, spec.rows()) ==
                RowsOf(*expected->tensors, i, 0, spec.rows()))
        << spec.name;
  }
  const auto head = FindTensor(source, "lm_head.weight");
  ASSERT_TRUE(head.ok()) << head.status();
  EXPECT_TRUE(RowsOf(source, *head, 0, 512) == RowsOf(source, 0, 0, 512));
}

TEST(OpenCheckpointGoldenTest, AFileOfLlama2CIsTheSameModelAsTheFolder) {
  const std::optional<fs::path> file = SharedData("weights/stories260K/stories260K.bin");
  const std::optional<fs::path> folder = SharedData("weights/stories260K/hf-f32");
  if (!file.has_value() || !folder.has_value()) {
    GTEST_SKIP() << "no shared data beside this checkout";
  }
  const auto found = OpenCheckpoint(*file);
  ASSERT_TRUE(found.ok()) << found.status();
  const auto expected = OpenCheckpoint(*folder);
  ASSERT_TRUE(expected.ok()) << expected.status();
  EXPECT_EQ(found->format, CheckpointFormat::kLlama2C);
  EXPECT_EQ(found->config.Canonical(), expected->config.Canonical());
  EXPECT_EQ(found->tokenizer_model, expected->tokenizer_model);
  ExpectSameTensors(*found->tensors, *expected->tensors);
}

TEST(OpenCheckpointGoldenTest, AGgufFileBringsItsTokenizer) {
  const std::optional<fs::path> gguf = SharedData("weights/stories260K/stories260K.gguf");
  if (!gguf.has_value()) {
    GTEST_SKIP() << "no shared data beside this checkout";
  }
  const auto checkpoint = OpenCheckpoint(*gguf);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto vocabulary = Vocabulary::Parse(checkpoint->tokenizer_model, "made");
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_EQ(vocabulary->size(), 512);
  EXPECT_EQ(vocabulary->bos_id(), 1);
  EXPECT_TRUE(checkpoint->tokenizer_file.empty());
}

TEST(OpenCheckpointPathTest, SaysWhatAFileWouldHaveToBe) {
  const TempDir folder;
  WriteTestFile(folder.path() / "model.zip", "neither of these");
  const absl::Status status = OpenCheckpoint(folder.path() / "model.zip").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("GGUF"));
}

}  // namespace
}  // namespace yangtuo
