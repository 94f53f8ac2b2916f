#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/chat/conversation.h"
#include "tools/chat/edit_buffer.h"
#include "tools/chat/key_decoder.h"

namespace yangtuo {
namespace {

using ::testing::HasSubstr;

// A token a byte.
absl::StatusOr<std::uint32_t> CountBytes(const v1::ChatPrompt& prompt) {
  std::uint32_t tokens = 0;
  for (const v1::ChatMessage& message : prompt.messages()) {
    tokens += static_cast<std::uint32_t>(message.content().size());
  }
  return tokens;
}

TEST(ConversationTest, DropsTheOldestTurnsUntilTheMessageFits) {
  Conversation conversation;
  conversation.SetSystem("sys");
  for (const char* name : {"1", "2", "3"}) {
    conversation.AddTurn(std::string(name) + "user", std::string(name) + "answ");
  }
  EXPECT_EQ(*conversation.DropUntilFits("hello", 18, CountBytes), 2);
  const v1::ChatPrompt prompt = conversation.PromptWith("hello");
  ASSERT_EQ(prompt.messages_size(), 4);
  EXPECT_EQ(prompt.messages(0).content(), "sys");
  EXPECT_EQ(prompt.messages(1).content(), "3user");
  EXPECT_EQ(*conversation.DropUntilFits("hello", 18, CountBytes), 0);
}

TEST(ConversationTest, RefusesAMessageThatDoesNotFitAloneAndForgetsNothing) {
  Conversation conversation;
  conversation.AddTurn("a", "b");
  const auto dropped = conversation.DropUntilFits("hello", 4, CountBytes);
  EXPECT_EQ(dropped.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(dropped.status().message()), HasSubstr("takes 5 tokens"));
  EXPECT_EQ(conversation.num_turns(), 1);
}

TEST(ConversationTest, ClearKeepsTheSystemMessage) {
  Conversation conversation;
  conversation.SetSystem("sys");
  conversation.AddTurn("a", "b");
  conversation.Clear();
  EXPECT_EQ(conversation.PromptWith("c").messages_size(), 2);
}

TEST(EditBufferTest, MovesAndDeletesWholeCharacters) {
  EditBuffer buffer;
  buffer.Insert("春望");
  buffer.Left();
  buffer.Insert("a");
  EXPECT_EQ(buffer.text(), "春a望");
  buffer.Backspace();
  buffer.Backspace();
  EXPECT_EQ(buffer.text(), "望");
  buffer.Backspace();
  buffer.DeleteForward();
  buffer.DeleteForward();
  EXPECT_EQ(buffer.text(), "");
}

TEST(EditBufferTest, DeletesWordsAndEnds) {
  EditBuffer buffer;
  buffer.Set("one two  ");
  buffer.DeleteWordBack();
  EXPECT_EQ(buffer.text(), "one ");
  buffer.Home();
  buffer.Right();
  buffer.DeleteToEnd();
  EXPECT_EQ(buffer.text(), "o");
  buffer.Insert("x");
  buffer.Left();
  buffer.DeleteToStart();
  EXPECT_EQ(buffer.text(), "x");
}

TEST(PositionAfterTest, WrapsWideCharactersBeforeTheyWouldBeSplit) {
  EXPECT_EQ(PositionAfter("春望", 2, 5).row, 1);
  EXPECT_EQ(PositionAfter("春望", 2, 5).column, 2);
  EXPECT_EQ(PositionAfter("春望", 2, 6).row, 1);  // just full: the cursor is in the next line
  EXPECT_EQ(PositionAfter("春望", 2, 6).column, 0);
  EXPECT_EQ(PositionAfter("a\nb", 2, 80).row, 1);
  EXPECT_EQ(PositionAfter("a\nb", 2, 80).column, 1);
}

std::vector<KeyPress> Decode(const std::string& bytes) {
  KeyDecoder decoder;
  std::vector<KeyPress> presses;
  for (const char byte : bytes) {
    const KeyPress press = decoder.Feed(byte);
    if (press.key != Key::kNone) {
      presses.push_back(press);
    }
  }
  return presses;
}

TEST(KeyDecoderTest, GivesCharactersWhole) {
  const auto presses = Decode("a春");
  ASSERT_EQ(presses.size(), 2U);
  EXPECT_EQ(presses[1].text, "春");
}

TEST(KeyDecoderTest, KnowsTheEditingKeysAndPassesOverOthers) {
  const auto presses = Decode("\033[D\033OC\033[3~\033[1;5C\x01\x7F\r");
  ASSERT_EQ(presses.size(), 6U);
  EXPECT_EQ(presses[0].key, Key::kLeft);
  EXPECT_EQ(presses[1].key, Key::kRight);
  EXPECT_EQ(presses[2].key, Key::kDelete);
  EXPECT_EQ(presses[3].key, Key::kHome);
  EXPECT_EQ(presses[4].key, Key::kBackspace);
  EXPECT_EQ(presses[5].key, Key::kEnter);
}

TEST(KeyDecoderTest, KeepsTheNewlinesOfAPasteInTheMessage) {
  const auto presses = Decode("\033[200~a\rb\x03\033[201~\r");
  ASSERT_EQ(presses.size(), 4U);
  EXPECT_EQ(presses[1].key, Key::kText);
  EXPECT_EQ(presses[1].text, "\n");
  EXPECT_EQ(presses[3].key, Key::kEnter);
}

TEST(KeyDecoderTest, DropsBytesThatAreNotUtf8) {
  const auto presses = Decode("\xFF\xFF\xFF\xFFz");
  ASSERT_EQ(presses.size(), 1U);
  EXPECT_EQ(presses[0].text, "z");
}

}  // namespace
}  // namespace yangtuo
