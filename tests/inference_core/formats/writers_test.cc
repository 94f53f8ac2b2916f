#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/formats/gguf.h"
#include "inference_core/formats/gguf_writer.h"
#include "inference_core/formats/safetensors_writer.h"
#include "inference_core/formats/tensor_file_writer.h"
#include "inference_core/formats/tensor_files.h"
#include "inference_core/formats/torch_writer.h"
#include "tests/inference_core/formats/listing.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;
using Writer = absl::StatusOr<std::unique_ptr<TensorFileWriter>>;

std::vector<TensorSpec> PlainTensors() {
  return {{.name = "matrix", .dtype = DType::kF16, .shape = {5, 3}},
          {.name = "vector", .dtype = DType::kF32, .shape = {7}},
          {.name = "scalar", .dtype = DType::kBF16, .shape = {}},
          {.name = "empty", .dtype = DType::kF32, .shape = {0, 4}},
          {.name = "羊驼\"\\", .dtype = DType::kBF16, .shape = {300, 1}},
          {.name = "cube", .dtype = DType::kF32, .shape = {2, 3, 70000}}};
}

// Finite numbers of any type: bytes of small exponents.
std::string RandomBytes(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) {
    byte = static_cast<char>(random() % 0x40);
  }
  return bytes;
}

std::string Content(const std::vector<TensorSpec>& tensors, std::size_t index) {
  return RandomBytes(static_cast<std::size_t>(tensors[index].bytes()),
                     static_cast<unsigned>(index) + 1);
}

// The last tensor first, one row at a time, and then what is missing of all at once: writers take
// tensors in any order and in turns.
absl::Status WriteAll(TensorFileWriter& writer, const std::vector<TensorSpec>& tensors) {
  std::vector<std::size_t> written(tensors.size());
  for (std::size_t i = tensors.size(); i-- > 0;) {
    const std::string content = Content(tensors, i);
    written[i] = std::min(content.size(), static_cast<std::size_t>(tensors[i].row_bytes()));
    if (const absl::Status status =
            writer.Append(i, std::as_bytes(std::span(content)).first(written[i]));
        !status.ok()) {
      return status;
    }
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::string content = Content(tensors, i);
    if (const absl::Status status =
            writer.Append(i, std::as_bytes(std::span(content)).subspan(written[i]));
        !status.ok()) {
      return status;
    }
  }
  return writer.Finish();
}

void ExpectContent(const TensorFiles& files, const std::vector<TensorSpec>& tensors) {
  ASSERT_EQ(files.Names().size(), tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto tensor = files.Find(tensors[i].name);
    ASSERT_TRUE(tensor.ok()) << tensor.status();
    EXPECT_EQ(tensor->dtype, tensors[i].dtype);
    EXPECT_EQ(tensor->shape, tensors[i].shape);
    EXPECT_EQ(BytesOf(*tensor), Content(tensors, i)) << tensors[i].name;
  }
}

std::vector<std::string> NamesIn(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class WritersTest : public ::testing::Test {
 protected:
  [[nodiscard]] fs::path operator/(const std::string& name) const { return folder_.path() / name; }
  TempDir folder_;
};

TEST_F(WritersTest, SafetensorsReadBackAsTheyWereWritten) {
  const std::vector<TensorSpec> tensors = PlainTensors();
  Writer writer = NewSafetensorsWriter(*this / "f", tensors, {{"note", "a"}});
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(WriteAll(**writer, tensors).ok());
  fs::rename(*this / "f", *this / "f.safetensors");
  const auto files = TensorFiles::OpenFile(*this / "f.safetensors");
  ASSERT_TRUE(files.ok()) << files.status();
  ExpectContent(*files, tensors);
  EXPECT_EQ(files->metadata().at("format"), "pt");
  EXPECT_EQ(files->metadata().at("note"), "a");
}

TEST_F(WritersTest, TorchFilesReadBackAsTheyWereWritten) {
  const std::vector<TensorSpec> tensors = PlainTensors();
  Writer writer = NewTorchWriter(*this / "f.pth", tensors);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(WriteAll(**writer, tensors).ok());
  const auto files = TensorFiles::OpenFile(*this / "f.pth");
  ASSERT_TRUE(files.ok()) << files.status();
  ExpectContent(*files, tensors);
  // Where memory-mapped readers want them.
  const StoredTensor cube = *files->Find("cube");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(cube.data.data()) % 64, 0U);
}

// What python3 prints for `arguments`; empty when it fails.
std::string Python(const std::string& script, const std::string& arguments) {
  const std::string command =
      absl::StrFormat("%s %s %s", YANGTUO_PYTHON, SourceFile(script).string(), arguments);
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string text;
  std::array<char, 4096> buffer;
  while (const std::size_t count = fread(buffer.data(), 1, buffer.size(), pipe.get())) {
    text.append(buffer.data(), count);
  }
  return text;
}

TEST_F(WritersTest, PyTorchReadsTorchFilesBitByBit) {
  if (!fs::exists(fs::path(YANGTUO_TORCH_FILES) / "types.bin")) {
    GTEST_SKIP() << "needs python3 with torch";
  }
  std::vector<TensorSpec> tensors = PlainTensors();
  tensors.back().shape = {2, 3, 4};
  std::string expected;
  std::string arguments;
  for (const std::string name : {"all.bin", "none.bin"}) {
    const std::vector<TensorSpec> written = name == "all.bin" ? tensors : std::vector<TensorSpec>{};
    Writer writer = NewTorchWriter(*this / name, written);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE(WriteAll(**writer, written).ok());
    expected += (*this / name).string() + "\n" + Listing(*TensorFiles::OpenFile(*this / name));
    arguments += (*this / name).string() + " ";
  }
  EXPECT_EQ(Python("tests/inference_core/formats/torch_peer.py", "read " + arguments), expected);
}

TEST_F(WritersTest, ASmallModelIsOneFile) {
  const std::vector<TensorSpec> tensors = PlainTensors();
  for (const Writer& writer : {NewSafetensorsModelWriter(folder_.path(), tensors, {}),
                               NewTorchModelWriter(folder_.path(), tensors, {})}) {
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE(WriteAll(**writer, tensors).ok());
  }
  EXPECT_THAT(NamesIn(folder_.path()), ElementsAre("model.safetensors", "pytorch_model.bin"));
  ExpectContent(*TensorFiles::Open(folder_.path()), tensors);
  ExpectContent(*TensorFiles::OpenTorch(folder_.path()), tensors);
}

TEST_F(WritersTest, ALargerModelIsNumberedShardsAndTheirIndex) {
  const std::vector<TensorSpec> tensors = PlainTensors();
  const ModelFilesOptions options = {.max_shard_bytes = 640};
  for (const Writer& writer : {NewSafetensorsModelWriter(folder_.path(), tensors, options),
                               NewTorchModelWriter(folder_.path(), tensors, options)}) {
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE(WriteAll(**writer, tensors).ok());
  }
  EXPECT_THAT(NamesIn(folder_.path()),
              ElementsAre("model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                          "model-00003-of-00003.safetensors", "model.safetensors.index.json",
                          "pytorch_model-00001-of-00003.bin", "pytorch_model-00002-of-00003.bin",
                          "pytorch_model-00003-of-00003.bin", "pytorch_model.bin.index.json"));
  ExpectContent(*TensorFiles::Open(folder_.path()), tensors);
  ExpectContent(*TensorFiles::OpenTorch(folder_.path()), tensors);
  EXPECT_THAT(ReadTestFile(*this / "pytorch_model.bin.index.json"),
              HasSubstr(absl::StrFormat("\"total_size\": %d", 30 + 28 + 2 + 600 + 1680000)));
}

TEST_F(WritersTest, Int8AndInt4RowsLieInParts) {
  const std::vector<TensorSpec> tensors = {
      {.name = "a.weight", .dtype = DType::kInt8, .shape = {2, 3}},
      {.name = "b.weight", .dtype = DType::kInt4, .shape = {2, 33}},
      {.name = "norm", .dtype = DType::kF16, .shape = {1}}};
  Writer writer = NewSafetensorsModelWriter(folder_.path(), tensors, {});
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(WriteAll(**writer, tensors).ok());
  const auto files = TensorFiles::Open(folder_.path());
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_THAT(files->Names(), ElementsAre("a.weight", "a.weight_scale", "b.weight",
                                          "b.weight_multiplier", "b.weight_scale", "norm"));
  const auto bytes = [&files](const std::string& name) {
    const StoredTensor& tensor = *files->FindStored(name);
    return std::string(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  };
  const std::string a = Content(tensors, 0);
  EXPECT_EQ(files->FindStored("a.weight")->unsupported_type, "I8");
  EXPECT_THAT(files->FindStored("a.weight")->shape, ElementsAre(2, 3));
  EXPECT_EQ(bytes("a.weight"), a.substr(0, 3) + a.substr(7, 3));
  EXPECT_EQ(bytes("a.weight_scale"), a.substr(3, 4) + a.substr(10, 4));
  EXPECT_THAT(files->Find("a.weight_scale")->shape, ElementsAre(2));
  const std::string b = Content(tensors, 1);  // two rows of 32 + 2 + 4 bytes
  EXPECT_EQ(files->FindStored("b.weight")->unsupported_type, "U8");
  EXPECT_THAT(files->FindStored("b.weight")->shape, ElementsAre(2, 32));
  EXPECT_EQ(bytes("b.weight"), b.substr(0, 32) + b.substr(38, 32));
  EXPECT_THAT(files->FindStored("b.weight_multiplier")->shape, ElementsAre(2, 2));
  EXPECT_EQ(bytes("b.weight_multiplier"), b.substr(32, 2) + b.substr(70, 2));
  EXPECT_EQ(bytes("b.weight_scale"), b.substr(34, 4) + b.substr(72, 4));
}

TEST_F(WritersTest, GgufReadsBackAsItWasWritten) {
  std::vector<TensorSpec> tensors;
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ4_1,
                           DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ2_K, DType::kQ3_K,
                           DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
    tensors.push_back({.name = std::string(NameOf(type)), .dtype = type, .shape = {3, 256}});
  }
  tensors.push_back({.name = "odd", .dtype = DType::kF16, .shape = {3}});
  GgufKeyValues keys;
  keys.SetText("general.architecture", "?");
  keys.SetUint32("u32", 4000000000U);
  keys.SetUint64("u64", std::uint64_t{1} << 40);
  keys.SetFloat32("f32", 0.1F);
  keys.SetBool("yes", true);
  keys.SetTexts("texts", std::vector<std::string>{"", "羊"});
  keys.SetReals("reals", std::vector<float>{-1.5F, 0});
  keys.SetWholes("wholes", std::vector<std::int32_t>{-7});
  keys.SetText("general.architecture", "llama");
  keys.SetUint32("general.alignment", 4096);
  Writer writer = NewGgufWriter(*this / "f.gguf", keys, tensors);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(WriteAll(**writer, tensors).ok());

  const auto file = GgufFile::Open(*this / "f.gguf");

  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->version(), 3U);
  ASSERT_EQ(file->tensors().size(), tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const StoredTensor& tensor = file->tensors()[i];
    EXPECT_EQ(tensor.name, tensors[i].name);
    EXPECT_EQ(tensor.dtype, tensors[i].dtype);
    EXPECT_EQ(tensor.shape, tensors[i].shape);
    EXPECT_EQ(BytesOf(tensor), Content(tensors, i)) << tensor.name;
  }
  const GgufMetadata& read = file->metadata();
  EXPECT_EQ(read.entries().front().first, "general.architecture");
  EXPECT_EQ(*read.Text("general.architecture"), "llama");
  EXPECT_EQ(*read.Whole("u32"), 4000000000);
  EXPECT_EQ(*read.Whole("u64"), std::int64_t{1} << 40);
  EXPECT_EQ(*read.Real("f32"), static_cast<double>(0.1F));
  EXPECT_TRUE(*read.Flag("yes"));
  EXPECT_THAT(*read.Texts("texts"), ElementsAre("", "羊"));
  EXPECT_THAT(*read.Reals("reals"), ElementsAre(-1.5F, 0.0F));
  EXPECT_THAT(*read.Wholes("wholes"), ElementsAre(-7));
}

TEST_F(WritersTest, GgufValuesAreTakenOverFromAnotherFile) {
  const auto shared = SharedData("golden/llama.cpp-spm/ggml-vocab-llama-spm.gguf");
  if (!shared.has_value()) {
    GTEST_SKIP() << "the shared data is not beside this checkout";
  }
  const auto file = GgufFile::Open(*shared);
  ASSERT_TRUE(file.ok()) << file.status();
  GgufKeyValues keys;
  for (const auto& [key, value] : file->metadata().entries()) {
    keys.SetValue(key, value);
  }
  Writer writer = NewGgufWriter(*this / "copy.gguf", keys, {});
  ASSERT_TRUE(writer.ok() && (*writer)->Finish().ok());
  const std::string copy = ReadTestFile(*this / "copy.gguf");
  const std::string original = ReadTestFile(*shared);
  // Version and padding may differ.
  EXPECT_EQ(copy.substr(8, original.size() - 8), original.substr(8));
}

TEST_F(WritersTest, LeaveNothingBehindWithoutFinish) {
  const std::vector<TensorSpec> tensors = PlainTensors();
  const ModelFilesOptions options = {.max_shard_bytes = 640};
  {
    const Writer a = NewSafetensorsModelWriter(folder_.path(), tensors, options);
    const Writer b = NewTorchModelWriter(folder_.path(), tensors, options);
    const Writer c = NewGgufWriter(*this / "f.gguf", {}, tensors);
    ASSERT_TRUE(a.ok() && b.ok() && c.ok());
  }
  EXPECT_THAT(NamesIn(folder_.path()), ElementsAre());
}

TEST_F(WritersTest, RefuseToFinishWhileRowsAreMissing) {
  const std::vector<TensorSpec> tensors = {{.name = "a", .dtype = DType::kF16, .shape = {2, 2}},
                                           {.name = "b", .dtype = DType::kF16, .shape = {2, 2}}};
  const std::string row(4, 'x');
  for (const Writer& writer :
       {NewSafetensorsWriter(*this / "f", tensors, {}), NewTorchWriter(*this / "g", tensors),
        NewGgufWriter(*this / "h", {}, tensors),
        NewTorchModelWriter(folder_.path(), tensors, {.max_shard_bytes = 8})}) {
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE((*writer)->Append(1, std::as_bytes(std::span(row))).ok());
    const absl::Status status = (*writer)->Finish();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr("\"a\": 0 of 8 bytes"));
  }
}

TEST_F(WritersTest, RefuseMoreThanATensorHasAndPartsOfRows) {
  const std::vector<TensorSpec> tensors = {{.name = "a", .dtype = DType::kF16, .shape = {2, 2}}};
  for (const Writer& writer :
       {NewSafetensorsWriter(*this / "f", tensors, {}), NewTorchWriter(*this / "g", tensors),
        NewGgufWriter(*this / "h", {}, tensors)}) {
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (const std::size_t size : {3U, 12U}) {
      const std::string rows(size, 'x');
      const absl::Status status = (*writer)->Append(0, std::as_bytes(std::span(rows)));
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr("\"a\""), HasSubstr(std::to_string(size))));
    }
    EXPECT_EQ((*writer)->Append(1, {}).code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(WritersTest, RefuseWhatTheirFormatCannotHold) {
  const TensorSpec q4 = {.name = "a", .dtype = DType::kQ4_0, .shape = {1, 32}};
  const TensorSpec int8 = {.name = "a", .dtype = DType::kInt8, .shape = {1, 32}};
  const TensorSpec part = {.name = "a", .dtype = DType::kQ4_0, .shape = {1, 33}};
  const TensorSpec no_text = {.name = "\xff", .shape = {1}};
  const TensorSpec long_name = {.name = std::string(64, 'x'), .shape = {1}};
  for (const absl::Status& status :
       {NewSafetensorsWriter(*this / "f", {q4}, {}).status(),
        NewTorchWriter(*this / "f", {q4}).status(), NewTorchWriter(*this / "f", {int8}).status(),
        NewGgufWriter(*this / "f", {}, {int8}).status(),
        NewGgufWriter(*this / "f", {}, {part}).status(),
        NewGgufWriter(*this / "f", {}, {long_name}).status(),
        NewSafetensorsWriter(*this / "f", {no_text}, {}).status(),
        NewGgufWriter(*this / "f", {}, {q4, q4}).status(),
        NewSafetensorsWriter(*this / "f", {int8, {.name = "a_scale", .shape = {1}}}, {})
            .status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  }
  EXPECT_THAT(NamesIn(folder_.path()), ElementsAre());
}

TEST_F(WritersTest, SayWhenTheDiskIsTooSmallBeforeAnythingIsWritten) {
  const std::vector<TensorSpec> tensors = {
      {.name = "a", .dtype = DType::kF16, .shape = {std::int64_t{1} << 30, 1 << 14}}};
  EXPECT_EQ(NewTorchWriter(*this / "f", tensors).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(NamesIn(folder_.path()), ElementsAre());
}

}  // namespace
}  // namespace yangtuo
