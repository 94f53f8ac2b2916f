#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/formats/safetensors.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string WithLength(std::uint64_t length, std::string_view rest) {
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes.append(rest);
}

// A file of this header and so many zero bytes of data.
std::string FileOf(std::string_view header, std::size_t data_bytes) {
  return WithLength(header.size(), header) + std::string(data_bytes, '\0');
}

absl::StatusOr<std::map<std::string, StoredTensor>> Parse(const std::string& bytes) {
  static const std::filesystem::path file = "m.safetensors";
  return ParseSafetensors(std::as_bytes(std::span(bytes)), file);
}

TEST(ParseSafetensorsTest, FindsTensorsWithTypeShapeAndBytes) {
  std::string bytes = FileOf(R"({"__metadata__":{"format":"pt"},)"
                             R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[24,30]},)"
                             R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}   )",
                             30);
  bytes.back() = '\x42';
  const auto tensors = Parse(bytes);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 2U);
  const StoredTensor& a = tensors->at("a");
  EXPECT_EQ(a.dtype, DType::kF32);
  EXPECT_THAT(a.shape, ElementsAre(2, 3));
  EXPECT_EQ(a.data.size(), 24U);
  EXPECT_EQ(a.file->string(), "m.safetensors");
  const StoredTensor& b = tensors->at("b");
  EXPECT_EQ(b.dtype, DType::kBF16);
  EXPECT_EQ(b.data.data(), a.data.data() + 24);
  EXPECT_EQ(b.data.back(), std::byte{0x42});
}

TEST(ParseSafetensorsTest, TakesScalarsAndEmptyTensors) {
  const std::string bytes = FileOf(R"({"scalar":{"dtype":"F16","shape":[],"data_offsets":[0,2]},)"
                                   R"("none":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},)"
                                   R"("last":{"dtype":"F16","shape":[4,0],"data_offsets":[2,2]}})",
                                   2);
  const auto tensors = Parse(bytes);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_THAT(tensors->at("scalar").shape, IsEmpty());
  EXPECT_EQ(tensors->at("scalar").data.size(), 2U);
  EXPECT_THAT(tensors->at("none").data, IsEmpty());
}

TEST(ParseSafetensorsTest, KeepsTypesItCannotUseUnderTheirOwnNames) {
  const std::string bytes = FileOf(R"({"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
                                   R"("n":{"dtype":"F4","shape":[4],"data_offsets":[8,10]}})",
                                   10);
  const auto tensors = Parse(bytes);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_EQ(tensors->at("i").unsupported_type, "I64");
  EXPECT_EQ(tensors->at("n").unsupported_type, "F4");
}

TEST(ParseSafetensorsTest, TakesAHeaderThatLeavesDataAtAnOddAddress) {
  const std::string bytes =
      FileOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}    )", 4);
  ASSERT_NE(bytes.size() % 4, 0U);
  EXPECT_TRUE(Parse(bytes).ok());
}

struct Damage {
  std::string name;
  std::string bytes;
  std::string words;
};
void PrintTo(const Damage& damage, std::ostream* out) { *out << damage.name; }

// A file of one tensor "t" with the rest of its entry as given.
Damage OneTensor(const std::string& name, const std::string& entry, std::size_t data_bytes,
                 const std::string& words) {
  return {name, FileOf("{\"t\":{" + entry + "}}", data_bytes), words};
}

std::vector<Damage> Damages() {
  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  return {
      {"Empty", "", "at least 8 bytes"},
      {"ShorterThanItsLength", "1234567", "found 7"},
      {"NoHeader", WithLength(0, ""), "'{'"},
      {"HeaderBeyondTheFile", WithLength(100, "{}"), "claims 100 bytes, but 2 follow"},
      {"HeaderLengthOverflows", WithLength(UINT64_MAX - 3, "{}"), "claims 18446744073709551612"},
      {"NotAnObject", FileOf("[]", 0), "'{'"},
      {"SpaceFirst", FileOf(" {}", 0), "'{'"},
      {"NotJson", FileOf("{\"t\":", 0), "offset 8: not JSON at byte"},
      {"NotUtf8", FileOf("{\"\xFF\":1}", 0), "UTF-8"},
      {"ZeroByteInHeader", FileOf(std::string_view("{}\0\0", 4), 0), "not JSON"},
      {"MetadataNotText", FileOf(R"({"__metadata__":{"a":1}})", 0), "__metadata__"},
      {"NameTwice", FileOf("{\"t\":{" + good + "},\"t\":{" + good + "}}", 8),
       "\"t\" appears twice"},
      {"FieldTwice", FileOf("{\"t\":{" + good + ",\"shape\":[2]}}", 8), "\"shape\" appears twice"},
      {"EntryNotAnObject", FileOf(R"({"t":3})", 0), "tensor \"t\": expected an object, found 3"},
      OneTensor("NoType", R"("shape":[2],"data_offsets":[0,8])", 8, "dtype"),
      OneTensor("NoShape", R"("dtype":"F32","data_offsets":[0,8])", 8, "shape"),
      OneTensor("NoOffsets", R"("dtype":"F32","shape":[2])", 8, "found nothing"),
      OneTensor("NegativeSize", R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])", 8, "[-2]"),
      OneTensor("FractionalSize", R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])", 8, "2.0"),
      OneTensor("SizeBeyond63Bits",
                R"("dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8])", 8, "2^63"),
      OneTensor("ElementsOverflow",
                R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])", 0,
                "more than 2^56 elements"),
      OneTensor("ElementsOverflowBesideAZero",
                R"("dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0])", 0,
                "more than 2^56 elements"),
      OneTensor("TooManyElements",
                R"("dtype":"F32","shape":[72057594037927937],"data_offsets":[0,0])", 0,
                "more than 2^56 elements"),
      OneTensor("NegativeOffset", R"("dtype":"F32","shape":[2],"data_offsets":[-8,0])", 8, "[-8"),
      OneTensor("OffsetBeyond64Bits",
                R"("dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551616])", 8,
                "data_offsets"),
      OneTensor("ThreeOffsets", R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])", 8,
                "[0,8,8]"),
      OneTensor("OffsetsDescend", R"("dtype":"F32","shape":[2],"data_offsets":[8,0])", 8, "[8, 0]"),
      OneTensor("EndBeyondTheFile", R"("dtype":"F32","shape":[2],"data_offsets":[0,8])", 7,
                "within the 7 bytes"),
      OneTensor(
          "EndBeyondTheFileByFar",
          R"("dtype":"F32","shape":[2],"data_offsets":[18446744073709551607,18446744073709551615])",
          8, "within the 8 bytes"),
      OneTensor("ShapeTooSmall", R"("dtype":"F32","shape":[1],"data_offsets":[0,8])", 8,
                "hold 8 bytes, but shape [1] of F32 takes 4"),
      OneTensor("TypeTooLarge", R"("dtype":"F64","shape":[2],"data_offsets":[0,8])", 8, "takes 16"),
      OneTensor("TrailingBytes", good, 9, "9 bytes follow"),
      {"HoleBefore", FileOf(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8),
       "tensor \"t\": data_offsets [4, 8] leave a hole"},
      {"Overlap",
       FileOf("{\"t\":{" + good + R"(},"u":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
              12),
       "tensor \"u\": data_offsets [4, 12] overlap"},
      {"SameRange",
       FileOf("{\"t\":{" + good + R"(},"u":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8),
       "overlap"},
      {"Unaligned",
       FileOf(R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},)"
              R"("t":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
              6),
       "tensor \"t\": data offset 2 is not a multiple of the 4 bytes of F32"},
  };
}

class DamagedSafetensorsTest : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedSafetensorsTest, IsDataLossThatSaysWhere) {
  const absl::Status status = Parse(GetParam().bytes).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("m.safetensors"), HasSubstr(GetParam().words)));
}

INSTANTIATE_TEST_SUITE_P(Files, DamagedSafetensorsTest, ::testing::ValuesIn(Damages()),
                         [](const ::testing::TestParamInfo<Damage>& tested) {
                           return tested.param.name;
                         });

TEST(ParseSafetensorsTest, EveryTruncationIsDataLoss) {
  const std::string whole = FileOf(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  ASSERT_TRUE(Parse(whole).ok());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(Parse(whole.substr(0, size)).status().code(), absl::StatusCode::kDataLoss) << size;
  }
}

TEST(ParseSafetensorsTest, CutsALongNameInItsMessage) {
  const std::string name(100'000, 'n');
  const absl::Status status = Parse(FileOf("{\"" + name + "\":3}", 0)).status();
  EXPECT_LT(status.message().size(), 1000U);
}

}  // namespace
}  // namespace yangtuo
