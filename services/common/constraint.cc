#include "services/common/constraint.h"

#include <cstddef>

#include "absl/strings/str_format.h"

namespace yangtuo {
namespace {

namespace v1 = yangtuo::v1;

constexpr std::size_t kMostBytes = 65536;
constexpr int kMostChoices = 1024;

absl::Status CheckChoices(const v1::Choices& choices) {
  if (choices.texts_size() < 1 || choices.texts_size() > kMostChoices) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "has %d texts to choose from, must have 1 to %d", choices.texts_size(), kMostChoices));
  }
  for (int i = 0; i < choices.texts_size(); ++i) {
    if (choices.texts(i).empty()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("choice %d is empty: there would be nothing to answer", i));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<GrammarSpec> Translate(const v1::Constraint& constraint) {
  switch (constraint.kind_case()) {
    case v1::Constraint::kJsonObject:
      return GrammarSpec{.kind = GrammarKind::kJsonObject};
    case v1::Constraint::kJsonSchema:
      return GrammarSpec{.kind = GrammarKind::kJsonSchema, .text = constraint.json_schema()};
    case v1::Constraint::kRegex:
      return GrammarSpec{.kind = GrammarKind::kRegex, .text = constraint.regex()};
    case v1::Constraint::kGrammar:
      return GrammarSpec{.kind = GrammarKind::kGbnf, .text = constraint.grammar()};
    case v1::Constraint::kChoices:
      if (absl::Status status = CheckChoices(constraint.choices()); !status.ok()) {
        return status;
      }
      return GrammarSpec{
          .kind = GrammarKind::kChoice,
          .choices = {constraint.choices().texts().begin(), constraint.choices().texts().end()}};
    case v1::Constraint::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "is empty: set one of json_object, json_schema, regex, grammar and choices, or leave it out");
}

}  // namespace

absl::StatusOr<GrammarSpec> ToGrammarSpec(const v1::Constraint& constraint) {
  if (constraint.ByteSizeLong() > kMostBytes) {
    return absl::InvalidArgumentError(absl::StrFormat("has %d bytes, at most %d are allowed",
                                                      constraint.ByteSizeLong(), kMostBytes));
  }
  return Translate(constraint);
}

std::string ConstraintField(const v1::Constraint& constraint) {
  switch (constraint.kind_case()) {
    case v1::Constraint::kJsonObject:
      return "json_object";
    case v1::Constraint::kJsonSchema:
      return "json_schema";
    case v1::Constraint::kRegex:
      return "regex";
    case v1::Constraint::kGrammar:
      return "grammar";
    case v1::Constraint::kChoices:
      return "choices";
    case v1::Constraint::KIND_NOT_SET:
      break;
  }
  return "kind";
}

}  // namespace yangtuo
