#include "inference_core/formats/tensor_files.h"

#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/formats/hf_config.h"
#include "tests/testing/data.h"
#include "tests/testing/safetensors_writer.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_model.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

// Writes a file of small f32 tensors, each filled with its number in the list.
void WriteNamed(const fs::path& path, const std::vector<std::string>& names) {
  std::vector<PlainTensor> tensors;
  for (const std::string& name : names) {
    tensors.push_back({.name = name, .dtype = DType::kF32, .shape = {2}});
  }
  WriteSafetensors(path, tensors,
                   [](std::size_t i) { return std::vector<float>(2, static_cast<float>(i)); });
}

float FirstValue(const StoredTensor& tensor) {
  float value = 0;
  std::memcpy(&value, tensor.data.data(), sizeof(value));
  return value;
}

class TensorFilesTest : public ::testing::Test {
 protected:
  [[nodiscard]] fs::path operator/(const std::string& name) const { return folder_.path() / name; }
  void WriteIndex(const std::string& weight_map) const {
    WriteTestFile(*this / "model.safetensors.index.json", R"({"weight_map":)" + weight_map + "}");
  }
  [[nodiscard]] absl::StatusOr<TensorFiles> Open() const {
    return TensorFiles::Open(folder_.path());
  }
  void ExpectFault(absl::StatusCode code, const std::string& a, const std::string& b) const {
    const absl::Status status = Open().status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(a), HasSubstr(b)));
  }

  TempDir folder_;
};

TEST_F(TensorFilesTest, ReadsOneFileAndKeepsItMapped) {
  WriteNamed(*this / "model.safetensors", {"b", "a"});
  auto opened = Open();
  ASSERT_TRUE(opened.ok()) << opened.status();
  const TensorFiles files = *std::move(opened);
  fs::remove(*this / "model.safetensors");
  EXPECT_THAT(files.Names(), ElementsAre("a", "b"));
  EXPECT_TRUE(files.Has("a"));
  EXPECT_FALSE(files.Has("c"));
  EXPECT_EQ(FirstValue(*files.Find("a")), 1.0F);
  EXPECT_EQ(files.Find("b")->file->filename(), "model.safetensors");
}

TEST_F(TensorFilesTest, ReadsTheShardsThatAnIndexNames) {
  WriteNamed(*this / "x.safetensors", {"a", "stale"});
  WriteNamed(*this / "y.safetensors", {"stale", "b"});
  WriteIndex(R"({"a":"x.safetensors","b":"y.safetensors"})");
  const auto files = Open();
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_THAT(files->Names(), ElementsAre("a", "b"));
  EXPECT_EQ(FirstValue(*files->Find("b")), 1.0F);
}

TEST_F(TensorFilesTest, ReadsUnindexedFilesButNotAdapters) {
  WriteNamed(*this / "first.safetensors", {"a"});
  WriteNamed(*this / "second.safetensors", {"b"});
  WriteNamed(*this / "adapter_model.safetensors", {"lora"});
  const auto files = Open();
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_THAT(files->Names(), ElementsAre("a", "b"));
}

TEST_F(TensorFilesTest, RefusesATensorInTwoUnindexedFiles) {
  WriteNamed(*this / "first.safetensors", {"a"});
  WriteNamed(*this / "second.safetensors", {"a"});
  ExpectFault(absl::StatusCode::kDataLoss, "first.safetensors", "second.safetensors");
}

TEST_F(TensorFilesTest, RefusesAnIndexThatLeavesItsFolder) {
  for (const std::string name :
       {"../x.safetensors", "..", "/etc/passwd", "a/b.safetensors", "", "..\\\\x", "x\\u0000y"}) {
    WriteIndex(R"({"a":")" + name + "\"}");
    ExpectFault(absl::StatusCode::kDataLoss, "index.json", "in the same folder");
  }
}

TEST_F(TensorFilesTest, NamesTheShardThatIsMissing) {
  WriteIndex(R"({"a":"gone.safetensors"})");
  ExpectFault(absl::StatusCode::kNotFound, "gone.safetensors", "\"a\"");
}

TEST_F(TensorFilesTest, NamesTheTensorThatItsShardLacks) {
  WriteNamed(*this / "x.safetensors", {"b"});
  WriteIndex(R"({"a":"x.safetensors"})");
  ExpectFault(absl::StatusCode::kDataLoss, "\"a\" is not in x.safetensors", "index.json");
}

TEST_F(TensorFilesTest, RefusesADamagedIndex) {
  for (const std::string map : {"{}", "3", "{\"a\":3}", "{\"a\":\"x\",\"a\":\"y\"}", "{"}) {
    WriteIndex(map);
    ExpectFault(absl::StatusCode::kDataLoss, "index.json", "");
  }
}

TEST_F(TensorFilesTest, NamesTheDamagedShard) {
  WriteNamed(*this / "x.safetensors", {"a"});
  fs::resize_file(*this / "x.safetensors", fs::file_size(*this / "x.safetensors") - 1);
  WriteIndex(R"({"a":"x.safetensors"})");
  ExpectFault(absl::StatusCode::kDataLoss, "x.safetensors", "\"a\"");
}

TEST_F(TensorFilesTest, SaysWhatAFolderLacks) {
  ExpectFault(absl::StatusCode::kNotFound, folder_.path().string(), "model.safetensors");
  EXPECT_THAT(std::string(TensorFiles::OpenTorch(folder_.path()).status().message()),
              HasSubstr("expected pytorch_model.bin"));
  EXPECT_EQ(TensorFiles::Open(*this / "absent").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(TensorFilesTest, SuggestsTheNearestName) {
  WriteTestModel({.config = TinyLlamaConfig()}, folder_.path());
  const absl::Status status = Open()->Find("model.layers.1.self_attn.q_porj.weight").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("nearest name is \"model.layers.1.self_attn.q_proj.weight\""));
}

TEST_F(TensorFilesTest, RefusesAnOtherElementTypeOnlyWhenItIsAskedFor) {
  std::string header = R"({"mask":{"dtype":"BOOL","shape":[0],"data_offsets":[0,0]}})";
  WriteTestFile(*this / "model.safetensors",
                std::string(1, static_cast<char>(header.size())) + std::string(7, '\0') + header);
  const auto files = Open();
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_TRUE(files->Has("mask"));
  EXPECT_EQ(files->Find("mask").status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(files->Find("mask").status().message()), HasSubstr("BOOL"));
}

TEST_F(TensorFilesTest, WeakDigestHangsOnConfigAndHeadersButNotOnTheFolder) {
  WriteNamed(*this / "model.safetensors", {"a", "b"});
  const std::string digest = Open()->WeakDigest("config");
  EXPECT_EQ(digest.size(), 64U);
  EXPECT_NE(Open()->WeakDigest("other"), digest);
  const TempDir copy;
  fs::copy(*this / "model.safetensors", copy.path() / "model.safetensors");
  EXPECT_EQ(TensorFiles::Open(copy.path())->WeakDigest("config"), digest);
  WriteNamed(*this / "model.safetensors", {"a", "c"});
  EXPECT_NE(Open()->WeakDigest("config"), digest);
}

TEST_F(TensorFilesTest, ReadsTheEmbeddedModel) {
  const auto files = TensorFiles::Open(SourceFile("deploy/models/poem-alpaca"));
  ASSERT_TRUE(files.ok()) << files.status();
  const auto config = ReadLlamaConfig(SourceFile("deploy/models/poem-alpaca"));
  ASSERT_TRUE(config.ok()) << config.status();
  for (const PlainTensor& expected : LlamaTensors(*config, DType::kF16)) {
    const auto tensor = files->Find(expected.name);
    ASSERT_TRUE(tensor.ok()) << tensor.status();
    EXPECT_EQ(tensor->shape, expected.shape) << expected.name;
    EXPECT_EQ(tensor->dtype, DType::kF16);
  }
}

TEST_F(TensorFilesTest, ReadsTheSharedModels) {
  for (const char* const name : {"weights/stories260K/hf-f32", "weights/stories260K/hf-f16",
                                 "weights/poem-llama", "weights/poem-alpaca"}) {
    const std::optional<fs::path> folder = SharedData(name);
    if (!folder.has_value()) {
      GTEST_SKIP() << name << " is not beside this checkout";
    }
    const auto files = TensorFiles::Open(*folder);
    ASSERT_TRUE(files.ok()) << files.status();
    EXPECT_TRUE(files->Find("model.embed_tokens.weight").ok());
    EXPECT_TRUE(ReadLlamaConfig(*folder).ok());
  }
}

// The test models themselves: what they write is what they say.
TEST_F(TensorFilesTest, TestModelsHaveTheSameValuesHoweverManyFiles) {
  const TempDir split;
  WriteTestModel({.config = TinyLlamaConfig(), .dtype = DType::kBF16, .seed = 5}, folder_.path());
  WriteTestModel({.config = TinyLlamaConfig(), .dtype = DType::kBF16, .seed = 5, .files = 3},
                 split.path());
  const auto one = Open();
  const auto three = TensorFiles::Open(split.path());
  ASSERT_TRUE(one.ok() && three.ok()) << one.status() << three.status();
  ASSERT_EQ(one->Names(), three->Names());
  ASSERT_EQ(one->Names().size(), 21U);
  for (const std::string& name : one->Names()) {
    const StoredTensor a = *one->Find(name);
    const StoredTensor b = *three->Find(name);
    ASSERT_EQ(a.data.size(), b.data.size());
    EXPECT_EQ(std::memcmp(a.data.data(), b.data.data(), a.data.size()), 0) << name;
  }
}

}  // namespace
}  // namespace yangtuo
