#include "inference_core/formats/llama2c.h"

#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/formats/tensor_files.h"
#include "tests/testing/data.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

// A file of these seven sizes and so many floats, which count up from 0.
std::string FileOf(const std::vector<std::int32_t>& sizes, std::size_t floats) {
  std::string bytes(reinterpret_cast<const char*>(sizes.data()),
                    sizes.size() * sizeof(std::int32_t));
  for (std::size_t i = 0; i < floats; ++i) {
    const auto value = static_cast<float>(i);
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  return bytes;
}

// hidden 4, ffn 3, layers 2, heads 2, kv heads 1, vocab 5, context 7
constexpr std::size_t kFloats = 20 + 2 * (4 + 16 + 8 + 8 + 16 + 4 + 12 + 12 + 12) + 4 + 7 * 2;

absl::StatusOr<Llama2cContents> Parse(const std::string& bytes) {
  static const fs::path file = "m.bin";
  return ParseLlama2c(std::as_bytes(std::span(bytes)), file);
}

float FirstOf(const StoredTensor& tensor) {
  float value = 0;
  std::memcpy(&value, tensor.data.data(), sizeof(value));
  return value;
}

TEST(Llama2cTest, NamesTheTensorsInTheFilesOrder) {
  const std::string bytes = FileOf({4, 3, 2, 2, 1, 5, 7}, kFloats);
  const auto model = Parse(bytes);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->tied_embeddings);
  EXPECT_EQ(model->vocab, 5);
  std::map<std::string, StoredTensor> tensors;
  for (const StoredTensor& tensor : model->tensors) {
    tensors.emplace(tensor.name, tensor);
  }
  EXPECT_EQ(tensors.size(), 20U);
  EXPECT_THAT(tensors.at("tok_embeddings.weight").shape, ElementsAre(5, 4));
  EXPECT_THAT(tensors.at("layers.1.attention.wk.weight").shape, ElementsAre(2, 4));
  EXPECT_EQ(FirstOf(tensors.at("layers.1.attention.wk.weight")), 20 + 8 + 32 + 8);
  EXPECT_THAT(tensors.at("layers.0.feed_forward.w2.weight").shape, ElementsAre(4, 3));
  EXPECT_EQ(FirstOf(tensors.at("norm.weight")), 20 + 2 * 92);
}

TEST(Llama2cTest, ANegativeVocabularyMeansOutputWeightsOfTheirOwn) {
  const std::string bytes = FileOf({4, 3, 2, 2, 1, -5, 7}, kFloats + 20);
  const auto model = Parse(bytes);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_FALSE(model->tied_embeddings);
  EXPECT_EQ(model->vocab, 5);
  EXPECT_EQ(model->tensors.back().name, "output.weight");
  EXPECT_EQ(FirstOf(model->tensors.back()), static_cast<float>(kFloats));
}

TEST(Llama2cTest, RefusesAFileOfAnyOtherLength) {
  const std::string whole = FileOf({4, 3, 2, 2, 1, 5, 7}, kFloats);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(Parse(whole.substr(0, size)).status().code(), absl::StatusCode::kDataLoss) << size;
  }
  EXPECT_THAT(std::string(Parse(whole + "x").status().message()),
              AllOf(HasSubstr("m.bin"), HasSubstr("1 bytes follow")));
}

TEST(Llama2cTest, RefusesSizesThatMakeNoModel) {
  for (const std::vector<std::int32_t>& sizes :
       std::vector<std::vector<std::int32_t>>{{0, 3, 2, 2, 1, 5, 7},
                                              {4, -3, 2, 2, 1, 5, 7},
                                              {4, 3, 2000, 2, 1, 5, 7},
                                              {4, 3, 2, 3, 1, 5, 7},
                                              {4, 3, 2, 4, 1, 5, 7},
                                              {4, 3, 2, 2, 0, 5, 7},
                                              {4, 3, 2, 2, 1, 0, 7},
                                              {4, 3, 2, 2, 1, -2147483647 - 1, 7},
                                              {1 << 20, 1 << 20, 1024, 2, 2, 1 << 20, 1 << 20}}) {
    EXPECT_EQ(Parse(FileOf(sizes, kFloats)).status().code(), absl::StatusCode::kDataLoss);
  }
}

TEST(Llama2cTest, RefusesTheNewerVersionsByName) {
  const std::string bytes = FileOf({0x616b3432, 1, 2, 2, 1, 5, 7}, kFloats);
  EXPECT_EQ(Parse(bytes).status().code(), absl::StatusCode::kUnimplemented);
}

TEST(Llama2cTest, ReadsTheSharedModelAsItsHuggingFaceTwin) {
  const std::optional<fs::path> path = SharedData("weights/stories260K/stories260K.bin");
  if (!path.has_value()) {
    GTEST_SKIP() << "the shared data is not beside this checkout";
  }
  const auto file = Llama2cFile::Open(*path);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto twin = TensorFiles::Open(*SharedData("weights/stories260K/hf-f32"));
  ASSERT_TRUE(twin.ok());
  const std::map<std::string, std::string> names = {
      {"tok_embeddings.weight", "model.embed_tokens.weight"},
      {"layers.4.feed_forward.w3.weight", "model.layers.4.mlp.up_proj.weight"},
      {"norm.weight", "model.norm.weight"}};
  std::size_t found = 0;
  for (const StoredTensor& tensor : file->contents().tensors) {
    const auto name = names.find(tensor.name);
    if (name != names.end()) {
      const StoredTensor expected = *twin->Find(name->second);
      EXPECT_EQ(tensor.shape, expected.shape);
      ASSERT_EQ(tensor.data.size(), expected.data.size());
      EXPECT_EQ(std::memcmp(tensor.data.data(), expected.data.data(), tensor.data.size()), 0);
      ++found;
    }
  }
  EXPECT_EQ(found, names.size());
}

}  // namespace
}  // namespace yangtuo
