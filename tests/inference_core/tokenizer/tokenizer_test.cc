#include "inference_core/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

#include "tests/inference_core/tokenizer/model_builder.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A model folder with the small model and JSON files beside it.
class TokenizerTest : public testing::Test {
 protected:
  void Write(const std::string& name, std::string_view bytes) {
    WriteTestFile(folder_.path() / name, bytes);
  }
  void WriteModel() { Write("tokenizer.model", builder_.Build()); }
  std::unique_ptr<const Tokenizer> Load(const TokenizerOptions& options = {}) {
    auto loaded = Tokenizer::Load(folder_.path(), options);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return *std::move(loaded);
  }
  [[nodiscard]] std::string LoadError(const TokenizerOptions& options = {}) const {
    return Tokenizer::Load(folder_.path(), options).status().ToString();
  }

  ModelBuilder builder_;
  TempDir folder_;
};

TEST_F(TokenizerTest, PutsBosFirstWhenAsked) {
  WriteModel();
  const auto tokenizer = Load();
  const std::int32_t a = *tokenizer->vocabulary().Find("▁a");

  EXPECT_THAT(*tokenizer->Encode("a", {.add_bos = true}), ElementsAre(1, a));
  EXPECT_THAT(*tokenizer->Encode("a"), ElementsAre(a));
  EXPECT_THAT(*tokenizer->Encode("", {.add_bos = true}), ElementsAre(1));
  EXPECT_THAT(*tokenizer->Encode(""), ElementsAre());
}

TEST_F(TokenizerTest, ParsesLiteralSpecialTokensOnlyWhenAsked) {
  WriteModel();
  const auto tokenizer = Load();
  const std::int32_t a = *tokenizer->vocabulary().Find("▁a");

  // The text after a special token is encoded with a space in front again.
  EXPECT_THAT(*tokenizer->Encode("a</s><s>a<unk>", {.parse_special = true}),
              ElementsAre(a, 2, 1, a, 0));
  EXPECT_THAT(*tokenizer->Encode("a</s>a"), testing::Each(testing::Gt(2)));
  EXPECT_THAT(*tokenizer->Encode("<s", {.parse_special = true}), testing::Each(testing::Gt(2)));
}

TEST_F(TokenizerTest, TakesPaddingAndOtherSpecialTokensFromTheFilesBesideTheModel) {
  builder_.Add("[PAD]");
  builder_.Add("<|end|>");
  WriteModel();
  Write("special_tokens_map.json",
        R"({"pad_token": "[PAD]", "eos_token": {"content": "<|end|>", "lstrip": false}})");
  const auto tokenizer = Load();
  const std::int32_t end = *tokenizer->vocabulary().Find("<|end|>");

  EXPECT_EQ(tokenizer->pad_id(), end - 1);
  EXPECT_EQ(tokenizer->eos_id(), end);
  EXPECT_THAT(*tokenizer->Encode("[PAD]<|end|>", {.parse_special = true}),
              ElementsAre(end - 1, end));
}

TEST_F(TokenizerTest, PrefersTheLongestSpecialToken) {
  builder_.Add("<sx>", spm::SentencePiece::CONTROL);
  builder_.Add("<sx>b", spm::SentencePiece::CONTROL);
  WriteModel();
  const auto tokenizer = Load();
  const std::int32_t longest = *tokenizer->vocabulary().Find("<sx>b");

  EXPECT_THAT(*tokenizer->Encode("<sx>b<sx>", {.parse_special = true}),
              ElementsAre(longest, longest - 1));
}

TEST_F(TokenizerTest, GrowsByTokensThatTheFilesPutBehindTheModel) {
  WriteModel();
  Write("added_tokens.json", R"({"[PAD]": 271})");
  Write("tokenizer_config.json", R"({"pad_token": "[PAD]"})");
  const auto tokenizer = Load();

  EXPECT_EQ(tokenizer->vocabulary().size(), 272);
  EXPECT_EQ(tokenizer->pad_id(), 271);
  EXPECT_THAT(*tokenizer->Encode("[PAD]", {.parse_special = true}), ElementsAre(271));
  EXPECT_EQ(*tokenizer->Decode(std::vector<std::int32_t>{271}), "[PAD]");
}

TEST_F(TokenizerTest, RefusesFilesOfAnotherModel) {
  WriteModel();
  Write("added_tokens.json", R"({"[PAD]": 32000})");
  EXPECT_THAT(LoadError(), HasSubstr("come from different models"));
  Write("added_tokens.json", R"(["[PAD]"])");
  EXPECT_THAT(LoadError(), HasSubstr("expected a JSON object"));
  Write("added_tokens.json", R"({"[PAD]": "x"})");
  EXPECT_THAT(LoadError(), HasSubstr("expected an id"));
}

TEST_F(TokenizerTest, NamesWhatIsMissing) {
  EXPECT_THAT(LoadError(), HasSubstr("tokenizer.model"));
  EXPECT_THAT(LoadError(), HasSubstr("NOT_FOUND"));
}

TEST_F(TokenizerTest, ChoosesTheTemplateByNameThenMetadataThenVocabulary) {
  WriteModel();
  EXPECT_EQ(Load()->chat_template(), "");
  EXPECT_EQ(Load({.chat_template = "alpaca-inference"})->chat_template(), "alpaca-inference");
  EXPECT_THAT(LoadError({.chat_template = "vicuna"}), HasSubstr("alpaca-2-long"));
  Write("tokenizer_config.json", R"({"chat_template": "... <<SYS>> ... [INST] ..."})");
  EXPECT_EQ(Load()->chat_template(), "llama-2");
  EXPECT_EQ(Load({.chat_template = "none"})->chat_template(), "");
  Write("tokenizer_config.json", R"({"chat_template": "alpaca-2-long"})");
  EXPECT_EQ(Load()->chat_template(), "alpaca-2-long");
}

TEST_F(TokenizerTest, IsUsableFromManyThreads) {
  WriteModel();
  const auto tokenizer = Load();
  const std::string text = "ab a你好 \xFF ab<s>";
  const std::vector<std::int32_t> expected = *tokenizer->Encode(text, {.parse_special = true});
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 500; ++round) {
        ASSERT_EQ(*tokenizer->Encode(text, {.parse_special = true}), expected);
        ASSERT_TRUE(Tokenizer::Load(folder_.path() / "tokenizer.model").ok() || round % 100 != 0);
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

// Many models in one process share one link namespace, of which there are about 15.
TEST_F(TokenizerTest, LoadsMoreModelsThanThereAreLinkNamespaces) {
  WriteModel();
  std::vector<std::unique_ptr<const Tokenizer>> tokenizers;
  for (int i = 0; i < 40; ++i) {
    tokenizers.push_back(Load());
  }
  EXPECT_TRUE(tokenizers.back()->Encode("ab").ok());
}

TEST(TokenizerOfModelTest, KnowsTheDefaultsOfTheSharedModels) {
  struct Expected {
    const char* path;
    const char* chat_template;
    std::optional<std::int32_t> pad_id;
  };
  const Expected all[] = {{"tokenizers/llama.model", "", std::nullopt},
                          {"tokenizers/chinese-llama.model", "", std::nullopt},
                          {"tokenizers/chinese-alpaca.model", "alpaca", 49953},
                          {"tokenizers/chinese-llama-2.model", "alpaca-2", 32000},
                          {"weights/poem-llama", "", std::nullopt},
                          {"weights/poem-alpaca", "alpaca", 6000},
                          {"weights/stories260K", "", std::nullopt}};
  for (const Expected& expected : all) {
    const auto path = SharedData(expected.path);
    if (!path.has_value()) {
      GTEST_SKIP() << "no shared data";
    }
    const auto tokenizer = Tokenizer::Load(*path);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ((*tokenizer)->chat_template(), expected.chat_template) << expected.path;
    EXPECT_EQ((*tokenizer)->pad_id(), expected.pad_id) << expected.path;
  }
}

}  // namespace
}  // namespace yangtuo
