#include "inference_core/base/output_file.h"

#include <algorithm>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

std::size_t NamesIn(const fs::path& folder) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

// Runs `work` in a process that dies while it holds the result, without any clean-up.
template <typename Work>
void RunAndDie(Work work) {
  const pid_t child = fork();
  if (child == 0) {
    const auto held = work();
    raise(SIGKILL);
  }
  ASSERT_GT(child, 0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
}

class OutputFileTest : public ::testing::Test {
 protected:
  [[nodiscard]] fs::path operator/(const std::string& name) const { return folder_.path() / name; }
  TempDir folder_;
};

TEST_F(OutputFileTest, AppearsWholeOnCommitAndNotBefore) {
  auto file = OutputFile::Create(*this / "f");
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->WriteAt(6, Bytes("world")).ok());
  ASSERT_TRUE(file->WriteAt(0, Bytes("hello")).ok());
  EXPECT_FALSE(fs::exists(*this / "f"));
  ASSERT_TRUE(file->Commit().ok());
  EXPECT_EQ(ReadTestFile(*this / "f"), std::string("hello\0world", 11));
  EXPECT_EQ(NamesIn(folder_.path()), 1U);
}

TEST_F(OutputFileTest, LeavesTheOldFileAndNothingElseWithoutCommit) {
  WriteTestFile(*this / "f", "old");
  {
    auto file = OutputFile::Create(*this / "f");
    ASSERT_TRUE(file.ok() && file->WriteAt(0, Bytes("new")).ok());
    const OutputFile moved = *std::move(file);
  }
  EXPECT_EQ(ReadTestFile(*this / "f"), "old");
  EXPECT_EQ(NamesIn(folder_.path()), 1U);
}

TEST_F(OutputFileTest, TakesOverWhatAKilledRunLeft) {
  RunAndDie([this] {
    auto file = OutputFile::Create(*this / "f");
    static_cast<void>(file->WriteAt(0, Bytes("half of a long file")));
    return file;
  });
  EXPECT_FALSE(fs::exists(*this / "f"));
  EXPECT_EQ(NamesIn(folder_.path()), 1U);
  ASSERT_TRUE(WriteOutputFile(*this / "f", "whole").ok());
  EXPECT_EQ(ReadTestFile(*this / "f"), "whole");
  EXPECT_EQ(NamesIn(folder_.path()), 1U);
}

TEST_F(OutputFileTest, RefusesASecondWriterOfTheSameTarget) {
  auto first = OutputFile::Create(*this / "f");
  ASSERT_TRUE(first.ok());
  const absl::Status second = OutputFile::Create(*this / "f").status();
  EXPECT_EQ(second.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(second.message()), HasSubstr("another run"));
  ASSERT_TRUE(first->WriteAt(0, Bytes("first")).ok() && first->Commit().ok());
  EXPECT_EQ(ReadTestFile(*this / "f"), "first");
}

TEST_F(OutputFileTest, NamesAFolderThatIsNotThere) {
  const absl::Status status = OutputFile::Create(*this / "absent" / "f").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr((*this / "absent" / "f").string()));
}

TEST_F(OutputFileTest, NeverReplacesAFolderByAFile) {
  fs::create_directory(*this / "f");
  EXPECT_EQ(OutputFile::Create(*this / "f").status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(OutputFileTest, CommitsOnce) {
  auto file = OutputFile::Create(*this / "f");
  ASSERT_TRUE(file.ok() && file->Commit().ok());
  EXPECT_EQ(file->Commit().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(OutputFileTest, SaysHowMuchIsWantedAndFreeWhenTheDiskIsTooSmall) {
  const auto free = FreeDiskBytes(*this / "not" / "there" / "yet");
  ASSERT_TRUE(free.ok()) << free.status();
  ASSERT_GT(*free, 0U);
  auto file = OutputFile::Create(*this / "f");
  ASSERT_TRUE(file.ok());
  const std::uint64_t wanted = *free + (std::uint64_t{1} << 40);
  const absl::Status status = file->Reserve(wanted);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr((*this / "f").string()), HasSubstr(std::to_string(wanted))));
}

TEST_F(OutputFileTest, BytesThatTheFileHasTakenAlreadyNeedNotBeFree) {
  std::mt19937 random(1);
  std::string content(std::size_t{1} << 20, '\0');
  std::generate(content.begin(), content.end(), [&] { return static_cast<char>(random()); });
  WriteTestFile(*this / "f", content);
  const int fd = open((*this / "f").c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(fsync(fd), 0) << "some file systems find places late";
  EXPECT_EQ(internal::BytesBeyond(fd, content.size() / 2), 0U);
  EXPECT_LE(internal::BytesBeyond(fd, 3 * content.size()), 2 * content.size());
  EXPECT_GT(internal::BytesBeyond(fd, 3 * content.size()), content.size());
  close(fd);
}

TEST_F(OutputFileTest, AFailedWriteLeavesNothing) {
  struct rlimit before {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const struct rlimit small = {.rlim_cur = 4, .rlim_max = before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status status = WriteOutputFile(*this / "f", "12345678");
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(NamesIn(folder_.path()), 0U);
}

TEST_F(OutputFileTest, AFolderAppearsWholeOnCommit) {
  auto folder = OutputFolder::Create(*this / "model/");
  ASSERT_TRUE(folder.ok()) << folder.status();
  ASSERT_TRUE(WriteOutputFile(folder->path() / "a", "A").ok());
  EXPECT_FALSE(fs::exists(*this / "model"));
  ASSERT_TRUE(folder->Commit().ok());
  EXPECT_EQ(ReadTestFile(*this / "model" / "a"), "A");
  EXPECT_EQ(NamesIn(folder_.path()), 1U);
}

TEST_F(OutputFileTest, AFolderIsRemovedWithoutCommit) {
  {
    const auto folder = OutputFolder::Create(*this / "model");
    ASSERT_TRUE(folder.ok() && WriteOutputFile(folder->path() / "a", "A").ok());
    EXPECT_EQ(OutputFolder::Create(*this / "model").status().code(), absl::StatusCode::kAborted);
  }
  EXPECT_EQ(NamesIn(folder_.path()), 0U);
}

TEST_F(OutputFileTest, AFolderTakesOverWhatAKilledRunLeft) {
  RunAndDie([this] {
    auto folder = OutputFolder::Create(*this / "model");
    static_cast<void>(WriteOutputFile(folder->path() / "stale", "A"));
    return folder;
  });
  auto folder = OutputFolder::Create(*this / "model");
  ASSERT_TRUE(folder.ok()) << folder.status();
  ASSERT_TRUE(folder->Commit().ok());
  EXPECT_EQ(NamesIn(*this / "model"), 0U);
}

TEST_F(OutputFileTest, AFolderReplacesAnEmptyOneOnly) {
  fs::create_directory(*this / "empty");
  auto folder = OutputFolder::Create(*this / "empty");
  ASSERT_TRUE(folder.ok() && WriteOutputFile(folder->path() / "a", "A").ok());
  ASSERT_TRUE(folder->Commit().ok());
  const absl::Status again = OutputFolder::Create(*this / "empty").status();
  EXPECT_EQ(again.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(again.message()), HasSubstr("empty"));
  WriteTestFile(*this / "file", "x");
  EXPECT_EQ(OutputFolder::Create(*this / "file").status().code(), absl::StatusCode::kAlreadyExists);
}

}  // namespace
}  // namespace yangtuo
