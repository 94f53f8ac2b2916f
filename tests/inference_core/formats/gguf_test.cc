#include "inference_core/formats/gguf.h"

#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
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
using ::testing::IsEmpty;
namespace fs = std::filesystem;

template <typename T>
std::string Raw(T value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

std::string Text(std::string_view text) {
  return Raw(std::uint64_t{text.size()}) + std::string(text);
}

std::string Key(std::string_view key, GgufType type, const std::string& value) {
  return Text(key) + Raw(static_cast<std::uint32_t>(type)) + value;
}

std::string Array(GgufType type, std::uint64_t count, const std::string& elements) {
  return Raw(static_cast<std::uint32_t>(type)) + Raw(count) + elements;
}

// `sizes` innermost first, as in the file.
std::string Tensor(std::string_view name, const std::vector<std::uint64_t>& sizes,
                   std::uint32_t type, std::uint64_t offset) {
  std::string bytes = Text(name) + Raw(static_cast<std::uint32_t>(sizes.size()));
  for (const std::uint64_t size : sizes) {
    bytes += Raw(size);
  }
  return bytes + Raw(type) + Raw(offset);
}

// A GGUF file, part by part.
struct File {
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::vector<std::string> keys = {};
  std::vector<std::string> tensors = {};
  std::size_t alignment = 32;
  std::string data = {};

  [[nodiscard]] std::string Bytes() const {
    std::string bytes =
        magic + Raw(version) + Raw(std::uint64_t{tensors.size()}) + Raw(std::uint64_t{keys.size()});
    for (const std::string& key : keys) {
      bytes += key;
    }
    for (const std::string& tensor : tensors) {
      bytes += tensor;
    }
    bytes.resize((bytes.size() + alignment - 1) / alignment * alignment, '\0');
    return bytes + data;
  }
};

absl::StatusOr<GgufContents> Parse(const std::string& bytes) {
  static const fs::path file = "m.gguf";
  return ParseGguf(std::as_bytes(std::span(bytes)), file);
}

TEST(GgufTest, FindsTensorsWithTypeShapeAndBytes) {
  const std::string bytes = File{.tensors = {Tensor("b", {32, 2}, 8, 32), Tensor("a", {3}, 0, 0),
                                             Tensor("s", {}, 1, 128)},
                                 .data = std::string(130, 'x')}
                                .Bytes();
  const auto contents = Parse(bytes);
  ASSERT_TRUE(contents.ok()) << contents.status();
  ASSERT_EQ(contents->tensors.size(), 3U);
  const StoredTensor& b = contents->tensors[0];
  EXPECT_EQ(b.name, "b");
  EXPECT_EQ(b.dtype, DType::kQ8_0);
  EXPECT_THAT(b.shape, ElementsAre(2, 32));
  EXPECT_EQ(b.bytes_per_row(), 34);
  EXPECT_EQ(b.data.size(), 68U);
  EXPECT_EQ(b.data.data(), contents->tensors[1].data.data() + 32);
  EXPECT_EQ(contents->tensors[1].data.size(), 12U);
  EXPECT_THAT(contents->tensors[2].shape, IsEmpty());
  EXPECT_EQ(contents->tensors[2].data.size(), 2U);
}

TEST(GgufTest, ReadsEveryTypeOfValue) {
  const std::string bytes =
      File{.version = 2,
           .keys = {Key("u8", GgufType::kUint8, Raw(std::uint8_t{200})),
                    Key("i8", GgufType::kInt8, Raw(std::int8_t{-3})),
                    Key("u16", GgufType::kUint16, Raw(std::uint16_t{60000})),
                    Key("i16", GgufType::kInt16, Raw(std::int16_t{-300})),
                    Key("u32", GgufType::kUint32, Raw(std::uint32_t{4000000000U})),
                    Key("i32", GgufType::kInt32, Raw(std::int32_t{-5})),
                    Key("f32", GgufType::kFloat32, Raw(0.5F)),
                    Key("bool", GgufType::kBool, Raw(std::uint8_t{1})),
                    Key("text", GgufType::kString, Text("羊驼")),
                    Key("u64", GgufType::kUint64, Raw(std::uint64_t{1} << 40)),
                    Key("i64", GgufType::kInt64, Raw(-(std::int64_t{1} << 40))),
                    Key("f64", GgufType::kFloat64, Raw(0.1)),
                    Key("texts", GgufType::kArray,
                        Array(GgufType::kString, 2, Text("a") + Text(""))),
                    Key("reals", GgufType::kArray,
                        Array(GgufType::kFloat32, 2, Raw(1.5F) + Raw(-2.0F))),
                    Key("wholes", GgufType::kArray,
                        Array(GgufType::kInt32, 2, Raw(std::int32_t{7}) + Raw(std::int32_t{-8}))),
                    Key("nested", GgufType::kArray,
                        Array(GgufType::kArray, 1, Array(GgufType::kUint8, 1, "x")))}}
          .Bytes();
  const auto contents = Parse(bytes);
  ASSERT_TRUE(contents.ok()) << contents.status();
  const GgufMetadata& keys = contents->metadata;
  EXPECT_EQ(*keys.Whole("u8"), 200);
  EXPECT_EQ(*keys.Whole("i8"), -3);
  EXPECT_EQ(*keys.Whole("u16"), 60000);
  EXPECT_EQ(*keys.Whole("i16"), -300);
  EXPECT_EQ(*keys.Whole("u32"), 4000000000);
  EXPECT_EQ(*keys.Whole("i32"), -5);
  EXPECT_EQ(*keys.Real("f32"), 0.5);
  EXPECT_EQ(*keys.Real("i32"), -5.0);
  EXPECT_TRUE(*keys.Flag("bool"));
  EXPECT_EQ(*keys.Text("text"), "羊驼");
  EXPECT_EQ(*keys.Whole("u64"), std::int64_t{1} << 40);
  EXPECT_EQ(*keys.Whole("i64"), -(std::int64_t{1} << 40));
  EXPECT_EQ(*keys.Real("f64"), 0.1);
  EXPECT_THAT(*keys.Texts("texts"), ElementsAre("a", ""));
  EXPECT_THAT(*keys.Reals("reals"), ElementsAre(1.5F, -2.0F));
  EXPECT_THAT(*keys.Wholes("wholes"), ElementsAre(7, -8));
  EXPECT_EQ(Shown(*keys.Find("nested")), "1 x array");
  EXPECT_EQ(keys.entries().front().first, "u8");
}

TEST(GgufTest, SaysWhichKeyIsMissingOrOfAnotherType) {
  const std::string bytes = File{.keys = {Key("a", GgufType::kString, Text("x"))}}.Bytes();
  const auto contents = Parse(bytes);
  ASSERT_TRUE(contents.ok()) << contents.status();
  EXPECT_EQ(contents->metadata.Whole("b").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(*contents->metadata.Whole("b", 7), 7);
  const absl::Status other = contents->metadata.Whole("a", 7).status();
  EXPECT_EQ(other.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(other.message()),
              AllOf(HasSubstr("m.gguf: key \"a\": expected a whole number"),
                    HasSubstr("found string \"x\"")));
}

TEST(GgufTest, ListsTypesItCannotUseUnderTheirOwnNames) {
  const std::string bytes =
      File{.tensors = {Tensor("a", {256}, 16, 0), Tensor("b", {1}, 4321, 0)}}.Bytes();
  const auto contents = Parse(bytes);
  ASSERT_TRUE(contents.ok()) << contents.status();
  EXPECT_EQ(contents->tensors[0].unsupported_type, "IQ2_XXS");
  EXPECT_EQ(contents->tensors[1].unsupported_type, "type 4321");
}

TEST(GgufTest, KeepsToTheAlignmentThatTheFileNames) {
  File file = {.keys = {Key("general.alignment", GgufType::kUint32, Raw(std::uint32_t{8}))},
               .tensors = {Tensor("a", {1}, 0, 0), Tensor("b", {1}, 0, 8)},
               .alignment = 8,
               .data = std::string(12, '\0')};
  EXPECT_TRUE(Parse(file.Bytes()).ok()) << Parse(file.Bytes()).status();
  file.keys[0] = Key("general.alignment", GgufType::kUint32, Raw(std::uint32_t{16}));
  EXPECT_EQ(Parse(file.Bytes()).status().code(), absl::StatusCode::kDataLoss);
}

TEST(GgufTest, RefusesOtherVersionsAndBigEndian) {
  for (const auto& [version, what] :
       {std::pair(1U, "version 1"), {4U, "version 4"}, {0x03000000U, "big-endian"}}) {
    const absl::Status status = Parse(File{.version = version}.Bytes()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  }
}

struct Damage {
  const char* name;
  File file;
  const char* what;
};

class DamagedGgufTest : public ::testing::TestWithParam<Damage> {};

INSTANTIATE_TEST_SUITE_P(
    Files, DamagedGgufTest,
    ::testing::Values(
        Damage{"Magic", {.magic = "GGML"}, "\"GGUF\""},
        Damage{"KeyTwice",
               {.keys = {Key("k", GgufType::kBool, "x"), Key("k", GgufType::kBool, "x")}},
               "\"k\" is there twice"},
        Damage{"TypeOfValue", {.keys = {Key("k", static_cast<GgufType>(13), "x")}}, "0 to 12"},
        Damage{"LongKey", {.keys = {Raw(std::uint64_t{1} << 60)}}, "name of a key"},
        Damage{"KeyNotUtf8", {.keys = {Key("\xff", GgufType::kBool, "x")}}, "not UTF-8"},
        Damage{"LongText",
               {.keys = {Key("k", GgufType::kString, Raw(~std::uint64_t{0}))}},
               "\"k\": its value reaches beyond"},
        Damage{"LongArray",
               {.keys = {Key("k", GgufType::kArray,
                             Array(GgufType::kUint64, std::uint64_t{1} << 61, ""))}},
               "\"k\": its array reaches beyond"},
        Damage{
            "LongArrayOfTexts",
            {.keys = {Key("k", GgufType::kArray, Array(GgufType::kString, ~std::uint64_t{0}, ""))}},
            "\"k\": its array reaches beyond"},
        Damage{"DeepArrays",
               {.keys = {Key("k", GgufType::kArray,
                             Array(GgufType::kArray, 1,
                                   Array(GgufType::kArray, 1,
                                         Array(GgufType::kArray, 1,
                                               Array(GgufType::kArray, 1,
                                                     Array(GgufType::kUint8, 1, "x"))))))}},
               "deep"},
        Damage{"Alignment",
               {.keys = {Key("general.alignment", GgufType::kUint32, Raw(std::uint32_t{24}))}},
               "power of 2"},
        Damage{"NoAlignment",
               {.keys = {Key("general.alignment", GgufType::kUint32, Raw(std::uint32_t{0}))}},
               "power of 2"},
        Damage{"TextAlignment",
               {.keys = {Key("general.alignment", GgufType::kString, Text("x"))}},
               "power of 2"},
        Damage{"FiveAxes", {.tensors = {Tensor("t", {1, 1, 1, 1, 1}, 0, 0)}}, "4 axes"},
        Damage{"ElementsOverflow",
               {.tensors = {Tensor("t", {std::uint64_t{1} << 40, std::uint64_t{1} << 40}, 0, 0)}},
               "\"t\": expected sizes"},
        Damage{"EmptyRowsTooLong",
               {.tensors = {Tensor("t", {std::uint64_t{1} << 62, 0}, 0, 0)}},
               "\"t\": expected sizes"},
        Damage{"NegativeSize", {.tensors = {Tensor("t", {~std::uint64_t{0}}, 0, 0)}}, "sizes"},
        Damage{"ManyBytes",
               {.tensors = {Tensor("t", {std::uint64_t{1} << 56}, 0, 0)}},
               "beyond the 0 bytes"},
        Damage{"PartOfABlock", {.tensors = {Tensor("t", {33, 2}, 2, 0)}}, "blocks of Q4_0"},
        Damage{"ScalarBlock", {.tensors = {Tensor("t", {}, 2, 0)}}, "blocks of Q4_0"},
        Damage{"Unaligned",
               {.tensors = {Tensor("t", {1}, 0, 4)}, .data = std::string(64, '\0')},
               "no multiple of 32"},
        Damage{"BeyondTheFile",
               {.tensors = {Tensor("t", {9}, 0, 32)}, .data = std::string(64, '\0')},
               "beyond the 64 bytes"},
        Damage{"OffsetBeyondTheFile", {.tensors = {Tensor("t", {0}, 0, 32)}}, "beyond"},
        Damage{"Overlap",
               {.tensors = {Tensor("t", {9}, 0, 0), Tensor("u", {1}, 0, 32)},
                .data = std::string(64, '\0')},
               "overlaps that of tensor \"t\""},
        Damage{"NameTwice",
               {.tensors = {Tensor("t", {1}, 0, 0), Tensor("t", {1}, 0, 32)},
                .data = std::string(64, '\0')},
               "\"t\": it is there twice"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_P(DamagedGgufTest, IsDataLossThatSaysWhere) {
  const absl::Status status = Parse(GetParam().file.Bytes()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("m.gguf: offset "), HasSubstr(GetParam().what)));
}

TEST(GgufTest, RefusesAFileThatIsCutShortAnywhere) {
  const std::string whole =
      File{.keys = {Key("k", GgufType::kArray, Array(GgufType::kString, 1, Text("abc"))),
                    Key("n", GgufType::kUint16, Raw(std::uint16_t{5}))},
           .tensors = {Tensor("t", {2, 3}, 1, 0), Tensor("u", {1}, 0, 32)},
           .data = std::string(36, 'x')}
          .Bytes();
  ASSERT_TRUE(Parse(whole).ok()) << Parse(whole).status();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(Parse(whole.substr(0, size)).status().code(), absl::StatusCode::kDataLoss) << size;
  }
}

TEST(GgufTest, ReadsTheSharedModelAsItsHuggingFaceTwin) {
  const std::optional<fs::path> path = SharedData("weights/stories260K/stories260K.gguf");
  if (!path.has_value()) {
    GTEST_SKIP() << "the shared data is not beside this checkout";
  }
  const auto file = GgufFile::Open(*path);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto twin = TensorFiles::Open(*SharedData("weights/stories260K/hf-f32"));
  ASSERT_TRUE(twin.ok());
  EXPECT_EQ(*file->metadata().Text("general.architecture"), "llama");
  EXPECT_EQ(file->metadata().Texts("tokenizer.ggml.tokens")->size(), 512U);
  const StoredTensor* const up = file->FindStored("blk.1.ffn_up.weight");
  ASSERT_NE(up, nullptr);
  const StoredTensor expected = *twin->Find("model.layers.1.mlp.up_proj.weight");
  EXPECT_EQ(up->shape, expected.shape);
  ASSERT_EQ(up->data.size(), expected.data.size());
  EXPECT_EQ(std::memcmp(up->data.data(), expected.data.data(), up->data.size()), 0);
}

TEST(GgufTest, ReadsAFileOfAVocabularyAlone) {
  const std::optional<fs::path> path = SharedData("golden/llama.cpp-spm/ggml-vocab-llama-spm.gguf");
  if (!path.has_value()) {
    GTEST_SKIP() << "the shared data is not beside this checkout";
  }
  const auto file = GgufFile::Open(*path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(file->tensors(), IsEmpty());
  EXPECT_EQ((*file->metadata().Texts("tokenizer.ggml.tokens"))[2], "</s>");
  EXPECT_EQ(file->metadata().Reals("tokenizer.ggml.scores")->size(), 32000U);
  EXPECT_EQ((*file->metadata().Wholes("tokenizer.ggml.token_type"))[1], 3);
}

}  // namespace
}  // namespace yangtuo
