#include "gateway/openai/structured_output.h"

#include <string>

#include "absl/strings/str_format.h"

namespace yangtuo::gateway::openai {
namespace {

// Sets a constraint once.
class Reader {
 public:
  Reader(Fields& fields, v1::SamplingParams& sampling) : fields_(fields), sampling_(sampling) {}

  void Schema(const std::string& field, const Json& schema) {
    if (schema.is_object() || schema.is_boolean()) {
      if (v1::Constraint* const constraint = Begin(field); constraint != nullptr) {
        constraint->set_json_schema(Write(schema));
      }
    } else if (schema.is_string()) {
      if (v1::Constraint* const constraint = Begin(field); constraint != nullptr) {
        constraint->set_json_schema(schema.get<std::string>());
      }
    } else {
      fields_.Fail(WrongField(field, "must be a JSON schema: an object, or its text"));
    }
  }

  void Regex(const std::string& field, const Json& text) {
    if (v1::Constraint* const constraint = BeginText(field, text); constraint != nullptr) {
      constraint->set_regex(text.get<std::string>());
    }
  }

  void Grammar(const std::string& field, const Json& text) {
    if (v1::Constraint* const constraint = BeginText(field, text); constraint != nullptr) {
      constraint->set_grammar(text.get<std::string>());
    }
  }

  void Choices(const std::string& field, const Json& texts) {
    if (!texts.is_array() || texts.empty()) {
      fields_.Fail(WrongField(field, "must be a list of strings"));
      return;
    }
    v1::Constraint* const constraint = Begin(field);
    for (std::size_t i = 0; constraint != nullptr && i < texts.size(); ++i) {
      if (!texts[i].is_string()) {
        fields_.Fail(WrongField(absl::StrFormat("%s[%d]", field, i), "must be a string"));
        return;
      }
      constraint->mutable_choices()->add_texts(texts[i].get<std::string>());
    }
  }

  void AnyObject(const std::string& field) {
    if (v1::Constraint* const constraint = Begin(field); constraint != nullptr) {
      constraint->mutable_json_object();
    }
  }

 private:
  // Null when there is one already.
  v1::Constraint* Begin(const std::string& field) {
    if (sampling_.has_constraint()) {
      fields_.Fail(
          WrongField(field,
                     "is one constraint too many: an answer can be held to one of response_format, "
                     "structured_outputs, guided_*, json_schema and grammar"));
      return nullptr;
    }
    return sampling_.mutable_constraint();
  }
  v1::Constraint* BeginText(const std::string& field, const Json& text) {
    if (!text.is_string()) {
      fields_.Fail(WrongField(field, "must be a string"));
      return nullptr;
    }
    return Begin(field);
  }

  Fields& fields_;
  v1::SamplingParams& sampling_;
};

void ReadResponseFormat(const Json& format, Fields& fields, Reader& reader) {
  const auto type = format.is_object() ? format.find("type") : format.end();
  if (!format.is_object() || type == format.end() || !type->is_string()) {
    fields.Fail(WrongField("response_format",
                           "must be an object with a type: text, json_object or json_schema"));
    return;
  }
  const std::string name = type->get<std::string>();
  if (name == "json_object") {
    reader.AnyObject("response_format");
  } else if (name == "json_schema") {
    const auto wrapped = format.find("json_schema");
    if (wrapped == format.end() || !wrapped->is_object() || !wrapped->contains("schema")) {
      fields.Fail(WrongField("response_format.json_schema",
                             "must be an object with a name and the schema"));
      return;
    }
    reader.Schema("response_format.json_schema.schema", (*wrapped)["schema"]);
  } else if (name != "text") {
    fields.Fail(UnsupportedField(
        "response_format.type",
        absl::StrFormat("is \"%s\": must be text, json_object or json_schema", name)));
  }
}

void ReadStructuredOutputs(const Json& outputs, Fields& fields, Reader& reader) {
  if (!outputs.is_object()) {
    fields.Fail(WrongField("structured_outputs", "must be an object"));
    return;
  }
  for (const auto& [name, value] : outputs.items()) {
    const std::string field = "structured_outputs." + name;
    if (value.is_null()) {
      continue;
    }
    if (name == "json") {
      reader.Schema(field, value);
    } else if (name == "regex") {
      reader.Regex(field, value);
    } else if (name == "choice") {
      reader.Choices(field, value);
    } else if (name == "grammar") {
      reader.Grammar(field, value);
    } else if (name == "json_object" && value.is_boolean()) {
      if (value.get<bool>()) {
        reader.AnyObject(field);
      }
    } else {
      fields.Fail(UnsupportedField(field, "is not supported by this server: leave it out"));
    }
  }
}

}  // namespace

void ReadConstraint(Fields& fields, v1::SamplingParams& sampling) {
  Reader reader(fields, sampling);
  if (const Json* format = fields.Find("response_format"); format != nullptr) {
    ReadResponseFormat(*format, fields, reader);
  }
  if (const Json* outputs = fields.Find("structured_outputs"); outputs != nullptr) {
    ReadStructuredOutputs(*outputs, fields, reader);
  }
  for (const char* name : {"guided_json", "json_schema"}) {
    if (const Json* schema = fields.Find(name); schema != nullptr) {
      reader.Schema(name, *schema);
    }
  }
  if (const Json* regex = fields.Find("guided_regex"); regex != nullptr) {
    reader.Regex("guided_regex", *regex);
  }
  if (const Json* choices = fields.Find("guided_choice"); choices != nullptr) {
    reader.Choices("guided_choice", *choices);
  }
  for (const char* name : {"guided_grammar", "grammar"}) {
    if (const Json* grammar = fields.Find(name); grammar != nullptr) {
      reader.Grammar(name, *grammar);
    }
  }
}

}  // namespace yangtuo::gateway::openai
