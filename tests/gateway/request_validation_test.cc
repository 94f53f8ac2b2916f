#include "gateway/request_validation.h"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr ModelBounds kModel{.context_tokens = 512, .vocabulary_size = 100};

std::vector<std::string> Fields(const absl::Status& status) {
  google::rpc::BadRequest report;
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.BadRequest");
  EXPECT_TRUE(payload.has_value()) << status;
  EXPECT_TRUE(!payload || report.ParseFromString(std::string(*payload)));
  std::vector<std::string> fields;
  for (const auto& violation : report.field_violations()) {
    fields.push_back(violation.field());
  }
  return fields;
}

struct Case {
  std::string name;
  std::string field;
  std::function<void(v1::GenerateRequest&)> wrong;
  std::function<void(v1::GenerateRequest&)> right;
};

std::ostream& operator<<(std::ostream& out, const Case& one) { return out << one.name; }

class FieldTest : public ::testing::TestWithParam<Case> {};

TEST_P(FieldTest, IsNamedWhenOutOfRangeAndAcceptedAtTheEdge) {
  v1::GenerateRequest request;
  request.set_text("x");
  GetParam().right(request);
  EXPECT_EQ(CheckGenerateRequest(request, {}), absl::OkStatus());
  EXPECT_EQ(CheckAgainstModel(request, kModel), absl::OkStatus());
  request.Clear();
  request.set_text("x");
  GetParam().wrong(request);
  absl::Status status = CheckGenerateRequest(request, {});
  if (status.ok()) {
    status = CheckAgainstModel(request, kModel);
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Fields(status), ElementsAre(GetParam().field));
}

std::function<void(v1::GenerateRequest&)> Sampling(void (*change)(v1::SamplingParams&)) {
  return [change](v1::GenerateRequest& request) { change(*request.mutable_sampling()); };
}

std::function<void(v1::GenerateRequest&)> Stop(void (*change)(v1::StopConditions&)) {
  return [change](v1::GenerateRequest& request) { change(*request.mutable_stop()); };
}

INSTANTIATE_TEST_SUITE_P(All, FieldTest,
                         ::testing::Values(
                             Case{
                                 "temperature", "sampling.temperature",
                                 Sampling([](v1::SamplingParams& s) { s.set_temperature(100.5F); }),
                                 Sampling([](v1::SamplingParams& s) { s.set_temperature(0.0F); })},
                             Case{"temperature_nan", "sampling.temperature",
                                  Sampling([](v1::SamplingParams& s) {
                                    s.set_temperature(std::numeric_limits<float>::quiet_NaN());
                                  }),
                                  Sampling([](v1::SamplingParams& s) {
                                    s.set_temperature(100.0F);
                                  })},
                             Case{"top_p", "sampling.top_p",
                                  Sampling([](v1::SamplingParams& s) { s.set_top_p(0.0F); }),
                                  Sampling([](v1::SamplingParams& s) { s.set_top_p(1.0F); })},
                             Case{"top_p_high", "sampling.top_p",
                                  Sampling([](v1::SamplingParams& s) { s.set_top_p(1.01F); }),
                                  Sampling([](v1::SamplingParams& s) { s.set_top_p(0.01F); })},
                             Case{"min_p", "sampling.min_p",
                                  Sampling([](v1::SamplingParams& s) { s.set_min_p(-0.1F); }),
                                  Sampling([](v1::SamplingParams& s) { s.set_min_p(0.0F); })},
                             Case{"repetition_penalty", "sampling.repetition_penalty",
                                  Sampling([](v1::SamplingParams& s) {
                                    s.set_repetition_penalty(0.0F);
                                  }),
                                  Sampling([](v1::SamplingParams& s) {
                                    s.set_repetition_penalty(10.0F);
                                  })},
                             Case{"presence_penalty", "sampling.presence_penalty",
                                  Sampling([](v1::SamplingParams& s) {
                                    s.set_presence_penalty(2.1F);
                                  }),
                                  Sampling([](v1::SamplingParams& s) {
                                    s.set_presence_penalty(-2.0F);
                                  })},
                             Case{"frequency_penalty", "sampling.frequency_penalty",
                                  Sampling([](v1::SamplingParams& s) {
                                    s.set_frequency_penalty(-2.1F);
                                  }),
                                  Sampling([](v1::SamplingParams& s) {
                                    s.set_frequency_penalty(2.0F);
                                  })},
                             Case{"logprobs",
                                  "sampling.logprobs", Sampling([](v1::SamplingParams& s) {
                                    s.set_logprobs(21);
                                  }),
                                  Sampling([](v1::SamplingParams& s) { s.set_logprobs(20); })},
                             Case{"top_k", "sampling.top_k", Sampling([](v1::SamplingParams& s) {
                                    s.set_top_k(101);
                                  }),
                                  Sampling([](v1::SamplingParams& s) { s.set_top_k(100); })},
                             Case{"logit_bias_value", "sampling.logit_bias[5]",
                                  [](v1::GenerateRequest& r) {
                                    (*r.mutable_sampling()->mutable_logit_bias())[5] = 101;
                                  },
                                  [](v1::GenerateRequest& r) {
                                    (*r.mutable_sampling()->mutable_logit_bias())[5] = 100;
                                  }},
                             Case{"logit_bias_id", "sampling.logit_bias",
                                  [](v1::GenerateRequest& r) {
                                    (*r.mutable_sampling()->mutable_logit_bias())[100] = 1;
                                  },
                                  [](v1::GenerateRequest& r) {
                                    (*r.mutable_sampling()->mutable_logit_bias())[99] = 1;
                                  }},
                             Case{"max_new_tokens", "stop.max_new_tokens",
                                  Stop([](v1::StopConditions& s) { s.set_max_new_tokens(0); }),
                                  Stop([](v1::StopConditions& s) { s.set_max_new_tokens(1); })},
                             Case{"max_new_tokens_high", "stop.max_new_tokens",
                                  Stop([](v1::StopConditions& s) { s.set_max_new_tokens(513); }),
                                  Stop([](v1::StopConditions& s) { s.set_max_new_tokens(512); })},
                             Case{"min_new_tokens", "stop.min_new_tokens",
                                  [](v1::GenerateRequest& r) {
                                    r.mutable_stop()->set_min_new_tokens(6);
                                    r.mutable_stop()->set_max_new_tokens(5);
                                  },
                                  Stop([](v1::StopConditions& s) { s.set_min_new_tokens(5); })},
                             Case{"stop_string_empty", "stop.stop_strings[1]",
                                  [](v1::GenerateRequest& r) {
                                    r.mutable_stop()->add_stop_strings(std::string(1, 'a'));
                                    r.mutable_stop()->add_stop_strings(std::string());
                                  },
                                  [](v1::GenerateRequest& r) {
                                    r.mutable_stop()->add_stop_strings(std::string(256, 'a'));
                                  }},
                             Case{"stop_string_long", "stop.stop_strings[0]",
                                  [](v1::GenerateRequest& r) {
                                    r.mutable_stop()->add_stop_strings(std::string(257, 'a'));
                                  },
                                  [](v1::GenerateRequest& r) {
                                    r.mutable_stop()->add_stop_strings(std::string(1, 'a'));
                                  }},
                             Case{"stop_strings", "stop.stop_strings",
                                  [](v1::GenerateRequest& r) {
                                    for (int i = 0; i < 17; ++i) {
                                      r.mutable_stop()->add_stop_strings(std::string(1, 'a'));
                                    }
                                  },
                                  [](v1::GenerateRequest& r) {
                                    for (int i = 0; i < 16; ++i) {
                                      r.mutable_stop()->add_stop_strings(std::string(1, 'a'));
                                    }
                                  }},
                             Case{"stop_token_ids", "stop.stop_token_ids",
                                  [](v1::GenerateRequest& r) {
                                    for (int i = 0; i < 65; ++i) {
                                      r.mutable_stop()->add_stop_token_ids(1);
                                    }
                                  },
                                  [](v1::GenerateRequest& r) {
                                    for (int i = 0; i < 64; ++i) {
                                      r.mutable_stop()->add_stop_token_ids(1);
                                    }
                                  }},
                             Case{"stop_token_id", "stop.stop_token_ids[0]",
                                  [](v1::GenerateRequest& r) {
                                    r.mutable_stop()->add_stop_token_ids(100);
                                  },
                                  [](v1::GenerateRequest& r) {
                                    r.mutable_stop()->add_stop_token_ids(99);
                                  }},
                             Case{"n_zero", "n", [](v1::GenerateRequest& r) { r.set_n(0); },
                                  [](v1::GenerateRequest& r) { r.set_n(1); }},
                             Case{"n_high", "n", [](v1::GenerateRequest& r) { r.set_n(17); },
                                  [](v1::GenerateRequest& r) { r.set_n(16); }},
                             Case{"priority", "priority",
                                  [](v1::GenerateRequest& r) { r.set_priority(-101); },
                                  [](v1::GenerateRequest& r) { r.set_priority(-100); }},
                             Case{"request_id", "request_id",
                                  [](v1::GenerateRequest& r) { r.set_request_id("a\nb"); },
                                  [](v1::GenerateRequest& r) { r.set_request_id("a b"); }},
                             Case{"prompt_missing", "prompt",
                                  [](v1::GenerateRequest& r) { r.clear_prompt(); },
                                  [](v1::GenerateRequest&) {}},
                             Case{"text_empty", "text",
                                  [](v1::GenerateRequest& r) { r.set_text(""); },
                                  [](v1::GenerateRequest& r) { r.set_parse_special(true); }},
                             Case{"token_ids_empty", "token_ids.ids",
                                  [](v1::GenerateRequest& r) { r.mutable_token_ids(); },
                                  [](v1::GenerateRequest& r) {
                                    r.mutable_token_ids()->add_ids(99);
                                  }},
                             Case{
                                 "token_id", "token_ids.ids",
                                 [](v1::GenerateRequest& r) {
                                   r.mutable_token_ids()->add_ids(100);
                                 },
                                 [](v1::GenerateRequest& r) { r.mutable_token_ids()->add_ids(0); }},
                             Case{"chat_empty", "chat.messages",
                                  [](v1::GenerateRequest& r) { r.mutable_chat(); },
                                  [](v1::GenerateRequest& r) {
                                    r.mutable_chat()->add_messages()->set_role("user");
                                  }},
                             Case{"chat_role", "chat.messages[0].role",
                                  [](v1::GenerateRequest& r) {
                                    r.mutable_chat()->add_messages()->set_role("robot");
                                  },
                                  [](v1::GenerateRequest& r) {
                                    r.mutable_chat()->add_messages()->set_role("assistant");
                                  }},
                             Case{"chat_template", "chat.template",
                                  [](v1::GenerateRequest& r) {
                                    r.mutable_chat()->add_messages()->set_role("user");
                                    r.mutable_chat()->set_template_("");
                                  },
                                  [](v1::GenerateRequest& r) {
                                    r.mutable_chat()->add_messages()->set_role("system");
                                  }},
                             Case{"echo_chat", "echo",
                                  [](v1::GenerateRequest& r) {
                                    r.mutable_chat()->add_messages()->set_role("user");
                                    r.set_echo(true);
                                  },
                                  [](v1::GenerateRequest& r) { r.set_echo(true); }},
                             Case{"parse_special", "parse_special",
                                  [](v1::GenerateRequest& r) {
                                    r.mutable_token_ids()->add_ids(1);
                                    r.set_parse_special(true);
                                  },
                                  [](v1::GenerateRequest& r) { r.set_parse_special(true); }}),
                         [](const auto& one) { return one.param.name; });

TEST(CheckGenerateRequestTest, NamesEveryWrongFieldAtOnce) {
  v1::GenerateRequest request;
  request.set_text("x");
  request.set_n(0);
  request.mutable_sampling()->set_top_p(2);
  EXPECT_THAT(Fields(CheckGenerateRequest(request, {})), ElementsAre("sampling.top_p", "n"));
}

TEST(CheckConstraintTest, NamesWhatIsWrongWithIt) {
  GrammarCache grammars;
  v1::GenerateRequest request;
  EXPECT_EQ(CheckConstraint(request, grammars), absl::OkStatus());
  v1::Constraint& constraint = *request.mutable_sampling()->mutable_constraint();
  EXPECT_THAT(Fields(CheckConstraint(request, grammars)), ElementsAre("sampling.constraint.kind"));
  constraint.set_json_schema(R"({"type": "object", "minProperties": 2})");
  const absl::Status status = CheckConstraint(request, grammars);
  EXPECT_THAT(Fields(status), ElementsAre("sampling.constraint.json_schema"));
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("minProperties"));
  constraint.set_regex(std::string(70000, 'a'));
  EXPECT_THAT(Fields(CheckConstraint(request, grammars)), ElementsAre("sampling.constraint.regex"));
  constraint.mutable_choices()->add_texts("");
  EXPECT_THAT(Fields(CheckConstraint(request, grammars)),
              ElementsAre("sampling.constraint.choices"));
  constraint.mutable_json_object();
  EXPECT_EQ(CheckConstraint(request, grammars), absl::OkStatus());
  request.mutable_stop()->set_ignore_eos(true);
  EXPECT_THAT(Fields(CheckConstraint(request, grammars)), ElementsAre("stop.ignore_eos"));
}

TEST(CheckGenerateRequestTest, RefusesAnAdapterAsUnknown) {
  v1::GenerateRequest request;
  request.set_text("x");
  request.set_adapter("poet");
  const absl::Status status = CheckGenerateRequest(request, {});
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReasonOf(status), "ADAPTER_NOT_FOUND");
  EXPECT_THAT(std::string(status.message()), HasSubstr("poet"));
}

TEST(CheckContextLengthTest, TellsAllNumbersWhenNoTokenFits) {
  EXPECT_TRUE(CheckContextLength(511, 100, kModel).ok());
  const absl::Status status = CheckContextLength(512, 100, kModel);
  EXPECT_EQ(ReasonOf(status), "CONTEXT_LENGTH_EXCEEDED");
  for (const char* number : {"512", "100", "511"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(number));
  }
}

TEST(OtherRequestsTest, AreCheckedToo) {
  v1::EmbedRequest embed;
  EXPECT_THAT(Fields(CheckEmbedRequest(embed, {})), ElementsAre("texts"));
  embed.add_texts("a");
  embed.add_texts("");
  EXPECT_THAT(Fields(CheckEmbedRequest(embed, {})), ElementsAre("texts[1]"));
  EXPECT_THAT(Fields(CheckTokenizeRequest({})), ElementsAre("input"));
  v1::TokenizeRequest tokenize;
  tokenize.mutable_chat()->add_messages()->set_role("user");
  tokenize.set_add_bos(true);
  EXPECT_THAT(Fields(CheckTokenizeRequest(tokenize)), ElementsAre("add_bos"));
  v1::DetokenizeRequest detokenize;
  detokenize.add_token_ids(100);
  EXPECT_THAT(Fields(CheckDetokenizeRequest(detokenize, kModel)), ElementsAre("token_ids"));
}

}  // namespace
}  // namespace yangtuo::gateway
