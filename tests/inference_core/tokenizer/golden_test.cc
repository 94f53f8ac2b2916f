// Every golden vector, for the four tokenizers they were computed with.

#include "tests/inference_core/tokenizer/golden.h"

#include <chrono>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <iterator>
#include <sstream>

#include "inference_core/tokenizer/incremental_decoder.h"
#include "inference_core/tokenizer/tokenizer.h"

namespace yangtuo {
namespace {

class GoldenTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const auto file = SharedData(std::string("tokenizers/") + GetParam() + ".model");
    if (!file.has_value()) {
      GTEST_SKIP() << "no shared data";
    }
    auto loaded = Tokenizer::Load(*file);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    tokenizer_ = *std::move(loaded);
    encode_ = ReadGolden(std::string("encode-") + GetParam());
    decode_ = ReadGolden(std::string("decode-") + GetParam());
    ASSERT_EQ(encode_.size(), 537U);
    ASSERT_GT(decode_.size(), 200U);
  }

  std::unique_ptr<const Tokenizer> tokenizer_;
  std::vector<GoldenCase> encode_;
  std::vector<GoldenCase> decode_;
};

TEST_P(GoldenTest, EncodesEveryTextToItsIds) {
  for (const GoldenCase& golden : encode_) {
    EXPECT_EQ(*tokenizer_->Encode(golden.text), golden.ids) << golden.label;
  }
}

TEST_P(GoldenTest, DecodesEveryIdListToItsText) {
  for (const GoldenCase& golden : decode_) {
    EXPECT_EQ(*tokenizer_->Decode(golden.ids), golden.decoded) << golden.label;
  }
  for (const GoldenCase& golden : encode_) {
    EXPECT_EQ(*tokenizer_->Decode(golden.ids), golden.decoded) << golden.label;
  }
}

TEST_P(GoldenTest, DecodesIdByIdToTheSameText) {
  for (const std::vector<GoldenCase>* cases : {&decode_, &encode_}) {
    for (const GoldenCase& golden : *cases) {
      IncrementalDecoder decoder(tokenizer_->vocabulary());
      std::string text;
      for (const std::int32_t id : golden.ids) {
        ASSERT_TRUE(decoder.Append(std::span(&id, 1), text).ok());
      }
      decoder.Finish(text);
      EXPECT_EQ(text, golden.decoded) << golden.label;
    }
  }
}

TEST_P(GoldenTest, NeverEncodesUserTextToSpecialTokens) {
  const std::vector<std::int32_t> ids =
      *tokenizer_->Encode("<s>a</s><unk>[PAD]<pad><s></s> [PAD] <0x0A>");
  const std::optional<std::int32_t> pad = tokenizer_->pad_id();
  for (const std::int32_t id : ids) {
    EXPECT_GT(id, 2);
    EXPECT_NE(id, pad.value_or(-1));
  }
  EXPECT_EQ(*tokenizer_->Decode(ids), "<s>a</s><unk>[PAD]<pad><s></s> [PAD] <0x0A>");
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, GoldenTest,
                         testing::Values("llama", "chinese-llama", "chinese-alpaca",
                                         "chinese-llama-2"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::erase(name, '-');
                           return name;
                         });

// llama.cpp's vectors: texts between separator lines, and one line of ids for each.
TEST(LlamaCppVectorsTest, EncodeTheSameWay) {
  const auto texts = SharedData("golden/llama.cpp-spm/ggml-vocab-llama-spm.gguf.inp");
  const auto ids = SharedData("golden/llama.cpp-spm/ggml-vocab-llama-spm.gguf.out");
  if (!texts.has_value() || !ids.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  std::string rest = ReadTestFile(*texts);
  std::ifstream outputs(*ids);
  const auto tokenizer = Tokenizer::Load(*SharedData("tokenizers/llama.model"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::string separator = "\n__ggml_vocab_test__\n";
  int num_compared = 0;
  for (std::string line; std::getline(outputs, line); ++num_compared) {
    const std::size_t end = rest.find(separator);
    const std::string text = rest.substr(0, end);
    rest = end == std::string::npos ? "" : rest.substr(end + separator.size());
    std::istringstream numbers(line);
    const std::vector<std::int32_t> expected{std::istream_iterator<std::int32_t>(numbers), {}};
    EXPECT_EQ(*(*tokenizer)->Encode(text), expected) << "vector " << num_compared << ": " << text;
  }
  EXPECT_GE(num_compared, 40);
}

TEST(VeryLongTextTest, EncodesOneMegabyteInSeconds) {
  const auto file = SharedData("tokenizers/chinese-llama-2.model");
  if (!file.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  const auto tokenizer = Tokenizer::Load(*file);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  // One word without a break is the worst case of pair merging: quadratic code takes hours here.
  const std::string text(std::size_t{1} << 20, 'a');
  const auto start = std::chrono::steady_clock::now();
  const auto ids = (*tokenizer)->Encode(text);
  ASSERT_TRUE(ids.ok());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
  EXPECT_EQ(*(*tokenizer)->Decode(*ids), text);
}

}  // namespace
}  // namespace yangtuo
