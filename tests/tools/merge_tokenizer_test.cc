// `yangtuo merge-tokenizer` as a user runs it.

#include "tools/merge_tokenizer/merge_tokenizer.h"

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/base/sha256.h"
#include "nlohmann/json.hpp"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"
#include "tests/tools/command_run.h"

namespace yangtuo {
namespace {

using testing::CommandRun;
using ::testing::HasSubstr;

class MergeTokenizerCommandTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto folder = SharedData("tokenizers");
    if (!folder.has_value()) {
      GTEST_SKIP() << "no shared data";
    }
    base_ = (*folder / "llama.model").string();
    other_ = (*folder / "chinese_sp.model").string();
  }
  [[nodiscard]] std::string Path(const std::string& name) const {
    return (temp_.path() / name).string();
  }

  std::string base_;
  std::string other_;
  TempDir temp_;
};

TEST_F(MergeTokenizerCommandTest, MakesThePublishedChineseAlpacaFolder) {
  CommandRun run({"merge-tokenizer", "--base", base_, "--add", other_, "--pad-token", "[PAD]",
                  "--output", Path("alpaca")});
  EXPECT_EQ(run.Wait(), "exit code 0") << run.err();
  EXPECT_EQ(Sha256Hex(ReadTestFile(Path("alpaca/tokenizer.model"))),
            "2d967e855b1213a439df6c8ce2791f869c84b4f3b6cfacf22b86440b8192a2f8");
  EXPECT_EQ(ReadTestFile(Path("alpaca/special_tokens_map.json")).size(), 96U);
  EXPECT_THAT(run.out(), HasSubstr("32000 in the base + 17954 added = 49954"));
}

TEST_F(MergeTokenizerCommandTest, AddsWordsToTheResultAndKeepsItsPaddingToken) {
  CommandRun first({"merge-tokenizer", "--base", base_, "--add", other_, "--pad-token", "[PAD]",
                    "--output", Path("alpaca")});
  ASSERT_EQ(first.Wait(), "exit code 0") << first.err();
  WriteTestFile(Path("words.txt"), "羊驼\n大模型\n人工智能\n量子纠缠\n");
  WriteTestFile(Path("sample.txt"), "羊驼大模型");
  CommandRun run({"merge-tokenizer", "--base", Path("alpaca"), "--add", Path("words.txt"),
                  "--sample", Path("sample.txt"), "--output", Path("mine"), "--json"});
  ASSERT_EQ(run.Wait(), "exit code 0") << run.err();
  const auto report = nlohmann::json::parse(run.out());
  EXPECT_EQ(report["added"], 3);
  EXPECT_EQ(report["duplicates"], 1);
  EXPECT_EQ(report["unreachable"][0]["piece"], "量子纠缠");
  EXPECT_EQ(report["sample"]["characters"], 5);
  EXPECT_LT(report["sample"]["tokens_after"], report["sample"]["tokens_before"]);
  EXPECT_EQ(report["sha256"], Sha256Hex(ReadTestFile(Path("mine/tokenizer.model"))));
  EXPECT_EQ(ReadTestFile(Path("mine/special_tokens_map.json")), SpecialTokensMap("[PAD]"));
}

TEST_F(MergeTokenizerCommandTest, WritesNothingInADryRun) {
  CommandRun run(
      {"merge-tokenizer", "--base", base_, "--add", other_, "--output", Path("out"), "--dry-run"});
  EXPECT_EQ(run.Wait(), "exit code 0") << run.err();
  EXPECT_THAT(run.out(), HasSubstr("nothing written"));
  EXPECT_FALSE(std::filesystem::exists(Path("out")));
}

TEST_F(MergeTokenizerCommandTest, RefusesWhatItCannotMergeAndLeavesNothing) {
  struct Case {
    std::vector<std::string> arguments;
    std::string message;
  };
  WriteTestFile(Path("latin1.txt"), "caf\xE9\n");
  WriteTestFile(Path("broken.model"), "no model");
  const std::vector<Case> cases = {
      {{"--base", other_, "--add", base_}, "expected a LLaMA tokenizer"},
      {{"--base", base_, "--add", base_}, "nothing to add"},
      {{"--base", base_, "--add", Path("latin1.txt")}, "line 1 is not UTF-8"},
      {{"--base", base_, "--add", Path("broken.model")}, "expected a sentencepiece model"},
      {{"--base", base_, "--add", Path("absent")}, "No such file"}};
  for (const Case& bad : cases) {
    std::vector<std::string> arguments = {"merge-tokenizer", "--output", Path("out")};
    arguments.insert(arguments.end(), bad.arguments.begin(), bad.arguments.end());
    CommandRun run(arguments);
    EXPECT_EQ(run.Wait(), "exit code 1");
    EXPECT_THAT(run.err(), HasSubstr(bad.message));
    EXPECT_FALSE(std::filesystem::exists(Path("out")));
  }
}

}  // namespace
}  // namespace yangtuo
