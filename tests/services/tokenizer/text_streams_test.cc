#include "services/tokenizer/text_streams.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/services/tokenizer/small_tokenizer.h"

namespace yangtuo {
namespace {

using internal::v1::DecodeStreamInput;
using internal::v1::DecodeStreamOutput;
using internal::v1::DecodeStreamRequest;
using internal::v1::DecodeStreamResponse;
using testing::HasSubstr;

class TextStreamsTest : public testing::Test {
 protected:
  TextStreamsTest() { EXPECT_TRUE(registry_.Add("small", LoadSmallTokenizer()).ok()); }

  [[nodiscard]] std::uint32_t Id(std::string_view literal) const {
    return SmallId(*registry_.all().front().tokenizer, literal);
  }

  static DecodeStreamInput Input(std::uint64_t stream, const std::vector<std::uint32_t>& ids,
                                 bool end = false) {
    DecodeStreamInput input;
    input.set_stream_id(stream);
    input.mutable_ids()->Add(ids.begin(), ids.end());
    input.set_end(end);
    return input;
  }

  std::vector<DecodeStreamOutput> Answer(const std::vector<DecodeStreamInput>& inputs) {
    DecodeStreamRequest request;
    request.mutable_inputs()->Add(inputs.begin(), inputs.end());
    DecodeStreamResponse response;
    streams_.Answer(request, response);
    return {response.outputs().begin(), response.outputs().end()};
  }

  TokenizerRegistry registry_;
  Metrics metrics_;
  TokenizerMetrics tokenizer_metrics_{metrics_};
  TextStreams streams_{registry_, tokenizer_metrics_, 3};
};

TEST_F(TextStreamsTest, AnswersEveryInputInOrderWithItsOwnText) {
  const auto outputs = Answer({Input(7, {Id("▁a")}), Input(8, {Id("b")}), Input(7, {Id("▁a")})});

  ASSERT_EQ(outputs.size(), 3U);
  EXPECT_EQ(outputs[0].stream_id(), 7U);
  EXPECT_EQ(outputs[0].text(), "a");
  EXPECT_EQ(outputs[1].text(), "b");
  EXPECT_EQ(outputs[2].text(), " a");
  EXPECT_EQ(outputs[2].ids_consumed(), 2U);
  EXPECT_FALSE(outputs[2].end());
}

TEST_F(TextStreamsTest, HoldsHalfACharacterBackUntilTheNextListOrTheEnd) {
  EXPECT_EQ(Answer({Input(1, {Id("<0xE4>"), Id("<0xBD>")})})[0].text(), "");
  EXPECT_EQ(Answer({Input(1, {Id("<0xA0>"), Id("<0xE4>")})})[0].text(), "你");
  const DecodeStreamOutput last = Answer({Input(1, {}, true)})[0];
  EXPECT_EQ(last.text(), "\xEF\xBF\xBD");
  EXPECT_TRUE(last.end());
  EXPECT_TRUE(streams_.empty());
}

TEST_F(TextStreamsTest, KeepsTheLeadingSpaceOfATextThatContinuesItsContext) {
  DecodeStreamInput input = Input(1, {Id("▁a")});
  input.add_context_ids(1);
  input.add_context_ids(Id("b"));

  const DecodeStreamOutput output = Answer({input})[0];

  EXPECT_EQ(output.text(), " a");
  EXPECT_EQ(output.ids_consumed(), 1U);
}

TEST_F(TextStreamsTest, GivesTheBytesOfEveryIdWhenAsked) {
  DecodeStreamInput input = Input(1, {Id("▁a"), Id("<0xE4>"), 2});
  input.set_want_pieces(true);

  const DecodeStreamOutput output = Answer({input})[0];

  EXPECT_THAT(output.pieces(), testing::ElementsAre(" a", "\xE4", ""));
}

TEST_F(TextStreamsTest, EndsOnlyTheStreamThatFailed) {
  const auto outputs = Answer({Input(1, {Id("b"), 99999}), Input(2, {Id("b")})});

  EXPECT_TRUE(outputs[0].end());
  EXPECT_EQ(outputs[0].text(), "b");
  EXPECT_EQ(outputs[0].ids_consumed(), 1U);
  EXPECT_THAT(outputs[0].error(), HasSubstr("99999 is outside the vocabulary"));
  EXPECT_FALSE(outputs[1].end());
  EXPECT_EQ(outputs[1].error(), "");
}

TEST_F(TextStreamsTest, NamesTheTokenizersWhenOneIsUnknown) {
  DecodeStreamInput input = Input(1, {Id("b")});
  input.set_tokenizer("large");

  const DecodeStreamOutput output = Answer({input})[0];

  EXPECT_TRUE(output.end());
  EXPECT_THAT(output.error(), HasSubstr("there are: small"));
}

TEST_F(TextStreamsTest, RefusesMoreStreamsThanTheLimitUntilOneEnds) {
  Answer({Input(1, {}), Input(2, {}), Input(3, {})});
  EXPECT_THAT(Answer({Input(4, {})})[0].error(), HasSubstr("limit"));
  Answer({Input(2, {}, true)});
  EXPECT_EQ(Answer({Input(4, {Id("b")})})[0].text(), "b");
}

TEST_F(TextStreamsTest, CountsOpenStreamsAndTokens) {
  Answer({Input(1, {Id("b"), Id("b")}), Input(2, {Id("b")}), Input(2, {}, true)});

  const std::string exposed = metrics_.Expose();

  EXPECT_THAT(exposed, HasSubstr("yangtuo_tokenizer_open_streams 1"));
  EXPECT_THAT(exposed, HasSubstr("yangtuo_tokenizer_tokens_total{direction=\"decoded\"} 3"));
}

}  // namespace
}  // namespace yangtuo
