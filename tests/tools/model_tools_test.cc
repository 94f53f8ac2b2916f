// merge-lora, convert and verify as a user runs them.

#include <chrono>
#include <filesystem>
#include <optional>
#include <signal.h>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"
#include "tests/tools/command_run.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using testing::CommandRun;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

class ModelToolsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!SharedData("weights/poem-llama").has_value()) {
      GTEST_SKIP() << "no shared data beside this checkout";
    }
  }
  static std::string Data(const std::string& name) {
    return SharedData("weights/" + name)->string();
  }
  [[nodiscard]] std::string Out(const std::string& name) const {
    return (folder_.path() / name).string();
  }
  [[nodiscard]] std::vector<std::string> MergeTo(const std::string& output) const {
    return {"merge-lora", "--base",   Data("poem-llama"), "--lora", Data("poem-alpaca-lora"),
            "--output",   Out(output)};
  }
  // Returns standard output.
  static std::string Succeed(const std::vector<std::string>& arguments) {
    CommandRun run(arguments);
    EXPECT_EQ(run.Wait(), "exit code 0") << run.err();
    return run.out();
  }
  static std::string Fail(const std::vector<std::string>& arguments) {
    CommandRun run(arguments);
    EXPECT_EQ(run.Wait(), "exit code 1") << run.out();
    return run.err() + run.out();
  }
  void ExpectGolden(const std::string& name) const {
    EXPECT_THAT(Succeed({"verify", Out(name), "--against", Data("poem-alpaca")}),
                HasSubstr("same    as "));
  }

  TempDir folder_;
};

TEST_F(ModelToolsTest, MergesPoemAlpacaIntoEveryFormatAndBackBitForBit) {
  Succeed(MergeTo("merged"));
  ExpectGolden("merged");
  Succeed({"convert", "--input", Out("merged"), "--output", Out("pth"), "--format", "pth",
           "--shards", "4"});
  ExpectGolden("pth");
  Succeed({"convert", "--input", Out("pth"), "--output", Out("bin"), "--format", "bin",
           "--max-shard-size", "5MB"});
  ExpectGolden("bin");
  Succeed({"convert", "--input", Out("bin"), "--output", Out("model.gguf")});
  Succeed({"convert", "--input", Out("model.gguf"), "--output", Out("back")});
  ExpectGolden("back");
}

TEST_F(ModelToolsTest, MergesIntoAnyFormatInOnePass) {
  std::vector<std::string> merge = MergeTo("direct");
  merge.insert(merge.end(), {"--format", "pth", "--shards", "2", "--threads", "1"});
  Succeed(merge);
  ExpectGolden("direct");
}

TEST_F(ModelToolsTest, AMergeQuantizedInOnePassIsTheMergeThenQuantized) {
  std::vector<std::string> merge = MergeTo("direct.gguf");
  merge.insert(merge.end(), {"--type", "q8_0"});
  Succeed(merge);
  Succeed(
      {"convert", "--input", Data("poem-alpaca"), "--output", Out("later.gguf"), "--type", "q8_0"});
  EXPECT_THAT(Succeed({"verify", Out("direct.gguf"), "--against", Out("later.gguf")}),
              HasSubstr("same    as "));
}

TEST_F(ModelToolsTest, WritesInt8AndInt4AndReadsThemBack) {
  for (const std::string type : {"int8", "int4"}) {
    Succeed({"convert", "--input", Data("poem-llama"), "--output", Out(type), "--type", type});
    EXPECT_THAT(Succeed({"verify", Out(type)}), HasSubstr("yangtuo.manifest.json"));
    const std::string against = Fail({"verify", Out(type), "--against", Data("poem-llama")});
    EXPECT_THAT(against, AllOf(HasSubstr("tensor model.layers.0.mlp.down_proj.weight: "),
                               HasSubstr("values differ, by at most 0.")));
  }
}

TEST_F(ModelToolsTest, WhatCannotBeDividedIntoBlocksStays16BitAndSaysSo) {
  const std::string out = Succeed({"convert", "--input", Data("stories260K/hf-f32"), "--output",
                                   Out("s.gguf"), "--type", "q8_0"});
  EXPECT_THAT(out, AllOf(HasSubstr("5 tensors stay f16"), HasSubstr("rows of 172")));
}

TEST_F(ModelToolsTest, CountsValuesThatANewTypeDoesNotHold) {
  EXPECT_THAT(Succeed({"convert", "--input", Data("stories260K/stories260K.bin"), "--output",
                       Out("f16"), "--type", "f16"}),
              HasSubstr("values were rounded to the new type"));
  EXPECT_THAT(Succeed({"verify", Out("f16"), "--against", Data("stories260K/hf-f16")}),
              HasSubstr("same    as "));
}

TEST_F(ModelToolsTest, ADryRunSaysWhatIsNeededAndWritesNothing) {
  std::vector<std::string> merge = MergeTo("dry");
  merge.emplace_back("--dry-run");
  EXPECT_THAT(Succeed(merge), AllOf(HasSubstr("16.4 MB of disk"), HasSubstr("of memory"),
                                    HasSubstr("time    about")));
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

TEST_F(ModelToolsTest, AFolderThatIsNotEmptyIsRefusedByADryRunToo) {
  fs::create_directory(Out("full"));
  WriteTestFile(folder_.path() / "full/file", "somebody's");
  std::vector<std::string> merge = MergeTo("full");
  EXPECT_THAT(Fail(merge), HasSubstr("not empty"));
  merge.emplace_back("--dry-run");
  EXPECT_THAT(Fail(merge), HasSubstr("not empty"));
  EXPECT_EQ(ReadTestFile(folder_.path() / "full/file"), "somebody's");
}

TEST_F(ModelToolsTest, AnInterruptedMergeLeavesNothingAndCanBeStartedAgain) {
  CommandRun run(MergeTo("merged"));
  run.Signal(SIGINT);
  const std::string ended = run.Wait();
  // It may have been through already, or not yet have begun to listen.
  if (ended != "exit code 0") {
    EXPECT_FALSE(fs::exists(Out("merged"))) << ended;
    Succeed(MergeTo("merged"));
  }
  ExpectGolden("merged");
}

TEST_F(ModelToolsTest, AKilledMergeLeavesNoModelAndCanBeStartedAgain) {
  const fs::path aside = folder_.path() / ".merged.partial";
  bool killed = false;
  for (int attempt = 0; attempt < 50 && !killed; ++attempt) {
    fs::remove_all(Out("merged"));
    CommandRun run(MergeTo("merged"));
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!fs::exists(aside) && !fs::exists(Out("merged")) &&
           std::chrono::steady_clock::now() < limit) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    run.Signal(SIGKILL);
    killed = run.Wait() != "exit code 0" && fs::exists(aside);
  }
  ASSERT_TRUE(killed) << "no attempt was killed while it wrote";
  EXPECT_FALSE(fs::exists(Out("merged")));
  Fail({"inspect", Out("merged")});
  Fail({"inspect", aside.string()});
  Succeed(MergeTo("merged"));
  ExpectGolden("merged");
  EXPECT_FALSE(fs::exists(aside));
}

TEST_F(ModelToolsTest, MergesIntoAGgufBase) {
  Succeed({"convert", "--input", Data("poem-llama"), "--output", Out("base.gguf")});
  Succeed({"merge-lora", "--base", Out("base.gguf"), "--lora", Data("poem-alpaca-lora"), "--output",
           Out("merged")});
  ExpectGolden("merged");
  Succeed({"merge-lora", "--base", Out("base.gguf"), "--lora", Data("poem-alpaca-lora"), "--output",
           Out("merged.gguf")});
  Succeed({"convert", "--input", Data("poem-alpaca"), "--output", Out("later.gguf")});
  EXPECT_THAT(Succeed({"verify", Out("merged.gguf"), "--against", Out("later.gguf")}),
              HasSubstr("same    as "));
}

TEST_F(ModelToolsTest, PyTorchReadsWhatIsWritten) {
  Succeed({"convert", "--input", Data("poem-alpaca"), "--output", Out("bin"), "--format", "bin",
           "--max-shard-size", "5MB"});
  Succeed({"convert", "--input", Data("poem-alpaca"), "--output", Out("pth"), "--format", "pth",
           "--shards", "4"});
  CommandRun run("/usr/bin/python3",
                 {SourceFile("tests/tools/torch_reads.py").string(), Data("poem-alpaca"),
                  Out("bin"), Out("pth")},
                 "");
  EXPECT_EQ(run.Wait(), "exit code 0") << run.err();
  EXPECT_THAT(run.out(), ::testing::AnyOf("same\n", "no torch\n"));
}

TEST_F(ModelToolsTest, ReportsAreJsonForScripts) {
  std::vector<std::string> merge = MergeTo("merged");
  merge.emplace_back("--json");
  const auto report = nlohmann::json::parse(Succeed(merge), nullptr, false);
  ASSERT_TRUE(report.is_object());
  EXPECT_EQ(report["tensors"].size(), 57U);
  EXPECT_EQ(report["format"], "safetensors");
  const auto verified =
      nlohmann::json::parse(Succeed({"verify", Out("merged"), "--json"}), nullptr, false);
  ASSERT_TRUE(verified.is_object());
  EXPECT_EQ(verified["digest"], report["digest"]);
  EXPECT_EQ(verified["same"], true);
}

TEST_F(ModelToolsTest, WrongPairsAreRefusedBeforeAnythingIsWritten) {
  EXPECT_THAT(Fail({"merge-lora", "--base", Data("stories260K/hf-f16"), "--lora",
                    Data("poem-alpaca-lora"), "--output", Out("wrong")}),
              AllOf(HasSubstr("does not belong on"), HasSubstr("hidden size 256")));
  EXPECT_THAT(Fail({"merge-lora", "--base", Data("poem-alpaca-lora"), "--lora",
                    Data("poem-alpaca-lora"), "--output", Out("wrong")}),
              HasSubstr("LoRA adapter"));
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

TEST_F(ModelToolsTest, VerifyNamesWhatDiffersAndByHowMuch) {
  const std::string out = Fail({"verify", Data("poem-llama"), "--against", Data("poem-alpaca")});
  EXPECT_THAT(out, AllOf(HasSubstr("model.embed_tokens.weight: shape [6000, 256] and [6001, 256]"),
                         HasSubstr("model.layers.3.self_attn.k_proj.weight: "),
                         HasSubstr("of 65536 values differ"), HasSubstr("configuration")));
}

TEST_F(ModelToolsTest, VerifyFindsDamageThroughTheManifest) {
  Succeed(MergeTo("merged"));
  std::string bytes = ReadTestFile(folder_.path() / "merged/model.safetensors");
  bytes[bytes.size() / 2] ^= 1;
  WriteTestFile(folder_.path() / "merged/model.safetensors", bytes);
  EXPECT_THAT(Fail({"verify", Out("merged")}), HasSubstr("other content"));
}

TEST_F(ModelToolsTest, VerifyWritesAManifestThatOthersCompareWith) {
  Succeed(MergeTo("merged"));
  fs::remove(folder_.path() / "merged/yangtuo.manifest.json");
  EXPECT_THAT(Succeed({"verify", Out("merged")}), HasSubstr("no manifest"));
  Succeed({"verify", Out("merged"), "--write"});
  EXPECT_THAT(
      Succeed({"verify", Data("poem-alpaca"), "--against", Out("merged/yangtuo.manifest.json")}),
      HasSubstr("same    as "));
}

// A tokenizer's JSON files may add tokens behind its pieces, and hold a template.
TEST_F(ModelToolsTest, AddedTokensAndTemplatesGoIntoAGgufFileAndBack) {
  fs::copy(Data("poem-alpaca"), Out("model"));
  WriteTestFile(folder_.path() / "model/chat_template.jinja", "{{ bos_token }}<<SYS>>[INST]");
  // poem-alpaca has 6001 rows for 6001 pieces: a tokenizer without the last one, which is added.
  Succeed({"convert", "--input", Data("poem-llama"), "--output", Out("base.gguf")});
  fs::remove(Out("model") + "/tokenizer.model");
  fs::copy(Data("poem-llama") + "/tokenizer.model", Out("model") + "/tokenizer.model");
  WriteTestFile(folder_.path() / "model/added_tokens.json", R"({"<|im_start|>": 6000})");
  Succeed({"convert", "--input", Out("model"), "--output", Out("model.gguf")});
  Succeed({"convert", "--input", Out("model.gguf"), "--output", Out("back")});
  const auto found = Tokenizer::Load(folder_.path() / "back/tokenizer.model");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*(*found)->Encode("<|im_start|>", {.parse_special = true}),
            std::vector<std::int32_t>{6000});
  EXPECT_EQ(nlohmann::json::parse(
                ReadTestFile(folder_.path() / "back/tokenizer_config.json"))["chat_template"],
            "{{ bos_token }}<<SYS>>[INST]");
  EXPECT_EQ((*found)->chat_template(), "llama-2");
}

TEST_F(ModelToolsTest, AnAdapterOnAQuantizedBaseIsMergedWithANote) {
  Succeed(
      {"convert", "--input", Data("poem-llama"), "--output", Out("base.gguf"), "--type", "q8_0"});
  EXPECT_THAT(Succeed({"merge-lora", "--base", Out("base.gguf"), "--lora", Data("poem-alpaca-lora"),
                       "--output", Out("merged")}),
              HasSubstr("note    44 tensors of the base are quantized"));
}

TEST_F(ModelToolsTest, RefusesFlagsThatTheFormatDoesNotHave) {
  const auto convert = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"convert", "--input", Data("poem-llama"), "--output", Out("x")});
    return Fail(more);
  };
  EXPECT_THAT(convert({"--format", "bin", "--shards", "2"}), HasSubstr("--shards is for"));
  EXPECT_THAT(convert({"--format", "pth", "--max-shard-size", "1GB"}),
              HasSubstr("--max-shard-size is for"));
  EXPECT_THAT(Fail({"estimate", Data("poem-llama"), "--vocab", "7"}), HasSubstr("--vocab goes"));
}

TEST_F(ModelToolsTest, ReportsAreJsonWhateverTheNames) {
  fs::copy(Data("poem-llama"), Out("m\xff"));
  std::string config = ReadTestFile(folder_.path() / "m\xff/config.json");
  const std::string untied = R"("tie_word_embeddings": false)";
  config.replace(config.find(untied), untied.size(), R"("tie_word_embeddings": null)");
  WriteTestFile(folder_.path() / "m\xff/config.json", config);
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
           {"inspect", Out("m\xff"), "--json"},
           {"verify", Out("m\xff"), "--json"},
           {"convert", "--input", Out("m\xff"), "--output", Out("out"), "--json"}}) {
    EXPECT_TRUE(nlohmann::json::parse(Succeed(command), nullptr, false).is_object()) << command[0];
  }
}

TEST_F(ModelToolsTest, VerifyAnswersOfOneFileAsItIsAsked) {
  const std::string tokenizer = SharedData("tokenizers/chinese-alpaca.model")->string();
  const auto found =
      nlohmann::json::parse(Succeed({"verify", tokenizer, "--json"}), nullptr, false);
  ASSERT_TRUE(found.is_object());
  EXPECT_EQ(found["sha256"].get<std::string>().size(), 64U);
  EXPECT_THAT(Fail({"verify", tokenizer, "--against", "/nonexistent"}), HasSubstr("--against"));
}

TEST_F(ModelToolsTest, VerifyRecognisesPublishedFiles) {
  const std::string tokenizer = SharedData("tokenizers/chinese-alpaca.model")->string();
  EXPECT_THAT(Succeed({"verify", tokenizer}), HasSubstr("Chinese-Alpaca"));
}

}  // namespace
}  // namespace yangtuo
