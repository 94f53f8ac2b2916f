#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/formats/torch_checkpoint.h"
#include "tests/testing/zip_builder.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

absl::StatusOr<TorchContents> Parse(const std::string& bytes) {
  static const fs::path file = "m.bin";
  return ParseTorchCheckpoint(std::as_bytes(std::span(bytes)), file);
}

// Pickle opcodes, as text so that a test can show a whole program.
std::string Text(std::string_view text) {
  return std::string("X") + static_cast<char>(text.size()) + std::string(3, '\0') +
         std::string(text);
}
std::string Whole(int whole) { return std::string("K") + static_cast<char>(whole); }
std::string Long(std::int64_t whole) {
  std::string bytes = "\x8a\x08";
  return bytes.append(reinterpret_cast<const char*>(&whole), sizeof(whole));
}
std::string Wholes(const std::vector<int>& wholes) {
  std::string bytes = "(";
  for (const int whole : wholes) {
    bytes += Whole(whole);
  }
  return bytes + "t";
}

// A tensor of the one storage "0": six floats.
struct Tensor {
  std::string storage = "ctorch\nFloatStorage\n";
  std::string key = Text("0");
  std::string elements = Whole(6);
  std::string offset = Whole(0);
  std::string shape = Wholes({2, 3});
  std::string strides = Wholes({3, 1});
  std::string rebuild = "ctorch._utils\n_rebuild_tensor_v2\n";
  std::string rest = "\x89N";

  [[nodiscard]] std::string Program() const {
    return rebuild + "((" + Text("storage") + storage + key + Text("cpu") + elements + "tQ" +
           offset + shape + strides + rest + "tR";
  }
};

std::string Archive(const std::string& pickle) {
  return BuildZip({{"t/data.pkl", pickle}, {"t/data/0", std::string(24, 'x')}});
}
// A file whose dict has `value` under "w".
std::string FileOf(const std::string& value) {
  return Archive("\x80\x02}(" + Text("w") + value + "u.");
}

TEST(TorchProgramTest, IsReadFromAPlainArchiveToo) {
  const std::string bytes = FileOf(Tensor{}.Program());
  const auto contents = Parse(bytes);
  ASSERT_TRUE(contents.ok()) << contents.status();
  EXPECT_THAT(contents->tensors.at("w").shape, ElementsAre(2, 3));
}

TEST(TorchProgramTest, TakesUntypedStoragesWithATypeOfTheirOwn) {
  const std::string bytes = FileOf(Tensor{.storage = "ctorch.storage\nUntypedStorage\n",
                                          .elements = Whole(24),
                                          .rebuild = "ctorch._utils\n_rebuild_tensor_v3\n",
                                          .rest = "\x89Nctorch\nfloat16\n"}
                                       .Program());
  const auto contents = Parse(bytes);
  ASSERT_TRUE(contents.ok()) << contents.status();
  EXPECT_EQ(contents->tensors.at("w").dtype, DType::kF16);
}

struct Damage {
  const char* name;
  std::string bytes;
  const char* what;
};

class DamagedTorchTest : public ::testing::TestWithParam<Damage> {};

INSTANTIATE_TEST_SUITE_P(
    Files, DamagedTorchTest,
    ::testing::Values(
        Damage{"Empty", "", "expected a zip archive"},
        Damage{"LfsPointer", "version https://git-lfs.github.com/spec/v1\n", "git-lfs"},
        Damage{"HtmlPage", "<!doctype html>", "expected a zip archive"},
        Damage{"NoPickle", BuildZip({{"t/data/0", "x"}}), "FOLDER/data.pkl"},
        Damage{"NoFolder", BuildZip({{"data.pkl", "x"}}), "FOLDER/data.pkl"},
        Damage{"FileTwice", BuildZip({{"t/data.pkl", "x"}, {"t/data.pkl", "x"}}), "twice"},
        Damage{"NoStop", Archive("\x80\x02}"), "offset 3: the pickle ends before its STOP"},
        Damage{"NoResult", Archive("."), "STOP without a result"},
        Damage{"Protocol9", Archive("\x80\x09}."), "protocol 9"},
        Damage{"OpcodeOfInstances", Archive("(i__main__\nX\n."), "opcode 0x69"},
        Damage{"LongText", Archive(std::string("X\xff\xff\xff\x7f", 5)), "cut short"},
        Damage{"LongNumber",
               Archive("\x8a\x09"
                       "123456789."),
               "9 bytes"},
        Damage{"TupleWithoutMark", Archive("t."), "without a mark"},
        Damage{"ReduceOfAText", Archive(Text("x") + ")R."), "expected a global"},
        Damage{"UnknownMemo", Archive("h\x05."), "object 5"},
        Damage{"AppendToADict",
               Archive("}K\x01"
                       "a."),
               "expected a list"},
        Damage{"KeyWithoutValue", Archive("}(K\x01u."), "expected a dict"},
        Damage{"PopBelowAMark", Archive("K\x01(0."), "empty stack"},
        Damage{"NoStorage", FileOf(Tensor{.key = Text("7")}.Program()), "t/data/7"},
        Damage{"StorageOutside", FileOf(Tensor{.key = Text("../data/0")}.Program()),
               "not in the archive"},
        Damage{"StorageTooShort", FileOf(Tensor{.elements = Whole(7)}.Program()), "7 elements"},
        Damage{"StorageTooLong", FileOf(Tensor{.elements = Whole(5)}.Program()), "5 elements"},
        Damage{"ElementsOverflow",
               FileOf(Tensor{.elements = Long(std::numeric_limits<std::int64_t>::max())}.Program()),
               "\"w\": its storage"},
        Damage{"NegativeElements", FileOf(Tensor{.elements = "J\xff\xff\xff\xff"}.Program()),
               "id of a storage"},
        Damage{"LeavesItsStorage", FileOf(Tensor{.offset = Whole(1)}.Program()),
               "from element 1 leaves its storage of 6"},
        Damage{"NegativeOffset", FileOf(Tensor{.offset = "J\xff\xff\xff\xff"}.Program()),
               "leaves its storage"},
        Damage{"NegativeSize", FileOf(Tensor{.shape = "(J\xff\xff\xff\xffK\x01t"}.Program()),
               "at least 0"},
        Damage{"NegativeStride", FileOf(Tensor{.strides = "(J\xff\xff\xff\xffK\x01t"}.Program()),
               "at least 0"},
        Damage{"StridesOfAnotherShape", FileOf(Tensor{.strides = Wholes({1})}.Program()),
               "but strides [1]"},
        Damage{"StrideTooLong", FileOf(Tensor{.strides = Wholes({4, 1})}.Program()),
               "strides [4,1]"},
        Damage{"SizesOverflow",
               FileOf(Tensor{
                   .shape = "(" + Long(std::int64_t{1} << 40) + Long(std::int64_t{1} << 40) + "t",
                   .strides = Wholes({0, 0})}
                          .Program()),
               "leaves its storage"},
        Damage{"EmptyRowsTooLong",
               FileOf(Tensor{.shape = "(" + Whole(0) + Long(std::int64_t{1} << 62) + "t",
                             .strides = Wholes({0, 0})}
                          .Program()),
               "leaves its storage"},
        Damage{"NineAxes", FileOf(Tensor{.shape = Wholes({1, 1, 1, 1, 1, 1, 1, 1, 1})}.Program()),
               "at most 8"},
        Damage{"ShapeNoTuple", FileOf(Tensor{.shape = Whole(6)}.Program()), "tuple"},
        Damage{"NameNotUtf8", Archive("}(" + Text("\xff") + Tensor{}.Program() + "u."),
               "not UTF-8"},
        Damage{"FewArguments", FileOf("ctorch._utils\n_rebuild_tensor_v2\n)R"),
               "expected a storage"},
        Damage{"NoTypeOfItsOwn",
               FileOf(Tensor{.rebuild = "ctorch._utils\n_rebuild_tensor_v3\n", .rest = "\x89NN"}
                          .Program()),
               "element type"},
        Damage{
            "NameTwice",
            Archive("}(" + Text("w") + Tensor{}.Program() + Text("w") + Tensor{}.Program() + "u."),
            "\"w\": it is there twice"},
        Damage{"DictInItself",
               Archive("}q\x01(" + Text("w") + "h\x01" + Text("v") + "h\x01" + Text("u") + "h\x01" +
                       Text("t") + "h\x01" + Text("s") + "h\x01u."),
               "more than 131072 entries"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_P(DamagedTorchTest, IsDataLossThatSaysWhere) {
  const absl::Status status = Parse(GetParam().bytes).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("m.bin: "), HasSubstr(GetParam().what)));
}

TEST(TorchProgramTest, NeverTakesAForeignGlobalWhereverItStands) {
  for (const std::string& program :
       {FileOf("cos\nsystem\n(" + Text("ls") + "tR"),
        Archive("\x80\x04" + Text("os") + Text("system") + "\x93."),
        FileOf(Tensor{.storage = "ctorch\nload\n"}.Program()),
        FileOf(Tensor{.rebuild = "ctorch.storage\n_load_from_bytes\n"}.Program())}) {
    const absl::Status status = Parse(program).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("never run"));
  }
}

TEST(TorchProgramTest, RefusesCompressedAndEncryptedArchives) {
  for (const int field : {6, 8}) {  // flags, method
    std::string bytes = FileOf(Tensor{}.Program());
    bytes[bytes.find("PK\x01\x02") + 2 + static_cast<std::size_t>(field)] = '\x09';
    EXPECT_EQ(Parse(bytes).status().code(), absl::StatusCode::kUnimplemented);
  }
}

TEST(TorchProgramTest, SeesAFlippedBitOfThePickle) {
  std::string flipped = FileOf(Tensor{}.Program());
  flipped[flipped.find("cpu")] = 'd';
  EXPECT_THAT(std::string(Parse(flipped).status().message()), HasSubstr("CRC-32"));
}

// Cut anywhere and with any byte changed: an error, or the content of the whole file.
TEST(TorchProgramTest, IsNeverReadAsAnotherContent) {
  const std::string whole = FileOf(Tensor{}.Program());
  const auto expected = Parse(whole);
  ASSERT_TRUE(expected.ok());
  const auto check = [&expected](const std::string& bytes) {
    const auto contents = Parse(bytes);
    if (!contents.ok()) {
      EXPECT_TRUE(absl::IsDataLoss(contents.status()) || absl::IsUnimplemented(contents.status()))
          << contents.status();
      return;
    }
    ASSERT_EQ(contents->tensors.size(), 1U);
    EXPECT_EQ(contents->tensors.at("w").shape, expected->tensors.at("w").shape);
    EXPECT_EQ(contents->tensors.at("w").data.size(), 24U);
  };
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_FALSE(Parse(whole.substr(0, i)).ok()) << i;
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      check(changed);
    }
  }
}

TEST(TorchProgramTest, TakesAnArchiveWithAComment) {
  const std::string pickle = "\x80\x02}(" + Text("w") + Tensor{}.Program() + "u.";
  const std::string bytes =
      BuildZip({{"t/data.pkl", pickle}, {"t/data/0", std::string(24, 'x')}}, "PK: a comment");
  EXPECT_TRUE(Parse(bytes).ok()) << Parse(bytes).status();
}

}  // namespace
}  // namespace yangtuo
