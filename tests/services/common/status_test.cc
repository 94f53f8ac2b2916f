#include "services/common/status.h"

#include <chrono>
#include <string>

#include "absl/strings/cord.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "services/common/utf8.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::Ge;
using ::testing::Le;
using ::testing::SizeIs;

google::rpc::Status DetailsOf(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  return details;
}

TEST(StatusTest, KeepsEveryCanonicalCodeThroughGrpcAndBack) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "why");
    EXPECT_EQ(static_cast<int>(ToGrpc(status).error_code()), code);
    EXPECT_EQ(FromGrpc(ToGrpc(status)).code(), status.code());
  }
}

TEST(StatusTest, TurnsACodeThatNobodyKnowsIntoUnknown) {
  const absl::Status status = FromGrpc(grpc::Status(static_cast<grpc::StatusCode>(17), "odd"));

  EXPECT_TRUE(absl::IsUnknown(status));
  EXPECT_EQ(status.message(), "odd");
}

TEST(StatusTest, CarriesReasonMetadataAndRetryDelayThroughGrpcAndBack) {
  const absl::Status sent = WithRetryAfter(
      WithReason(absl::ResourceExhaustedError("full"), "QUEUE_FULL", {{"limit", "64"}}),
      std::chrono::milliseconds(1500));

  const absl::Status received = FromGrpc(ToGrpc(sent));

  EXPECT_EQ(received, sent);
  EXPECT_EQ(ReasonOf(received), "QUEUE_FULL");
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(info.ParseFromString(
      std::string(*received.GetPayload("type.googleapis.com/google.rpc.ErrorInfo"))));
  EXPECT_EQ(info.domain(), "yangtuo");
  EXPECT_EQ(info.metadata().at("limit"), "64");
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(retry.ParseFromString(
      std::string(*received.GetPayload("type.googleapis.com/google.rpc.RetryInfo"))));
  EXPECT_EQ(retry.retry_delay().seconds(), 1);
  EXPECT_EQ(retry.retry_delay().nanos(), 500'000'000);
}

TEST(StatusTest, NamesTheFieldOfAnInvalidRequest) {
  const absl::Status status = InvalidField("sampling.top_p", "expected (0, 1], found 2");

  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_EQ(status.message(), "sampling.top_p: expected (0, 1], found 2");
  google::rpc::BadRequest bad;
  ASSERT_TRUE(DetailsOf(ToGrpc(status)).details(0).UnpackTo(&bad));
  EXPECT_EQ(bad.field_violations(0).field(), "sampling.top_p");
  EXPECT_EQ(bad.field_violations(0).description(), "expected (0, 1], found 2");
}

TEST(StatusTest, PutsCodeAndMessageIntoTheDetailsToo) {
  const google::rpc::Status details =
      DetailsOf(ToGrpc(WithReason(absl::NotFoundError("no model"), "UNKNOWN_MODEL")));

  EXPECT_EQ(details.code(), 5);
  EXPECT_EQ(details.message(), "no model");
}

TEST(StatusTest, SendsNoDetailsWhenThereAreNone) {
  EXPECT_EQ(ToGrpc(absl::InternalError("bug")).error_details(), "");
  EXPECT_EQ(ReasonOf(absl::InternalError("bug")), "");
}

TEST(StatusTest, CutsALongMessageBetweenCharacters) {
  std::string text;
  for (int i = 0; i < 1000; ++i) {
    text += "羊";
  }

  const std::string message = ToGrpc(absl::InternalError("x" + text)).error_message();

  EXPECT_THAT(message, SizeIs(AllOf(Ge(1022U), Le(1024U))));
  EXPECT_EQ(message, ("x" + text).substr(0, message.size()));
  EXPECT_EQ(message.size() % 3, 1U) << "cut inside a character";
}

TEST(StatusTest, ReplacesBytesThatAreNotUtf8) {
  EXPECT_EQ(ToGrpc(absl::InternalError("a\xFFz")).error_message(), "a\xEF\xBF\xBDz");
}

TEST(StatusTest, LeavesOutDetailsThatWouldNotFitIntoTheTrailers) {
  absl::Status status = WithReason(absl::InternalError("bug"), "SMALL");
  status.SetPayload("type.googleapis.com/huge", absl::Cord(std::string(100'000, 'x')));

  const grpc::Status sent = ToGrpc(status);

  EXPECT_THAT(sent.error_details(), SizeIs(Le(4096U)));
  EXPECT_EQ(ReasonOf(FromGrpc(sent)), "SMALL");
}

TEST(Utf8Test, RefusesOverlongFormsSurrogatesAndCutCharacters) {
  EXPECT_EQ(Utf8CharacterLength("a"), 1U);
  EXPECT_EQ(Utf8CharacterLength("é"), 2U);
  EXPECT_EQ(Utf8CharacterLength("羊"), 3U);
  EXPECT_EQ(Utf8CharacterLength("🦙"), 4U);
  EXPECT_EQ(Utf8CharacterLength("\xC0\x80"), 0U);
  EXPECT_EQ(Utf8CharacterLength("\xE0\x80\x80"), 0U);
  EXPECT_EQ(Utf8CharacterLength("\xED\xA0\x80"), 0U);
  EXPECT_EQ(Utf8CharacterLength("\xF4\x90\x80\x80"), 0U);
  EXPECT_EQ(Utf8CharacterLength("\xE7\xBE"), 0U);
  EXPECT_EQ(Utf8CharacterLength("\x80"), 0U);
  EXPECT_EQ(Utf8CharacterLength(""), 0U);
}

}  // namespace
}  // namespace yangtuo
