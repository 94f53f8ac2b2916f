#include "inference_core/base/mapped_file.h"

#include <filesystem>
#include <string>
#include <sys/stat.h>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using ::testing::HasSubstr;

std::string TextOf(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFileTest, ShowsTheWholeFile) {
  const TempDir folder;
  const std::string text(100'000, 'x');
  WriteTestFile(folder.path() / "f", text);
  const auto file = MappedFile::Open(folder.path() / "f");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(TextOf(*file), text);
}

TEST(MappedFileTest, GivesAnEmptySpanForAnEmptyFile) {
  const TempDir folder;
  WriteTestFile(folder.path() / "f", "");
  const auto file = MappedFile::Open(folder.path() / "f");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->bytes().empty());
}

TEST(MappedFileTest, StaysReadableAfterAMoveAndAfterTheFileIsRemoved) {
  const TempDir folder;
  WriteTestFile(folder.path() / "a", "first");
  WriteTestFile(folder.path() / "b", "second");
  auto a = MappedFile::Open(folder.path() / "a");
  auto b = MappedFile::Open(folder.path() / "b");
  ASSERT_TRUE(a.ok() && b.ok());
  std::filesystem::remove(folder.path() / "b");
  *a = std::move(*b);
  const MappedFile moved = *std::move(a);
  EXPECT_EQ(TextOf(moved), "second");
}

TEST(MappedFileTest, ForgottenPagesAreReadAgain) {
  const TempDir folder;
  const std::string text(100'000, 'y');
  WriteTestFile(folder.path() / "a", text);
  const auto file = MappedFile::Open(folder.path() / "a");
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(TextOf(*file), text);
  ForgetPages(file->bytes().subspan(7, 50'000));
  ForgetPages({});
  EXPECT_EQ(TextOf(*file), text);
}

TEST(MappedFileTest, NamesAMissingFile) {
  const TempDir folder;
  const auto file = MappedFile::Open(folder.path() / "absent");
  EXPECT_EQ(file.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(file.status().message()), HasSubstr("absent"));
}

TEST(MappedFileTest, RefusesAFolder) {
  const TempDir folder;
  const auto file = MappedFile::Open(folder.path());
  EXPECT_EQ(file.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(file.status().message()), HasSubstr("folder"));
}

TEST(MappedFileTest, RefusesAPipeWithoutWaitingForItsWriter) {
  const TempDir folder;
  const std::string pipe = folder.path() / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(MappedFile::Open(pipe).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace yangtuo
