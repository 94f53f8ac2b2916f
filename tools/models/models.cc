#include "tools/models/models.h"

#include <memory>
#include <unistd.h>

#include "absl/strings/str_format.h"
#include "google/protobuf/util/json_util.h"
#include "tools/common/error_text.h"
#include "tools/common/table.h"
#include "tools/common/terminal.h"

namespace yangtuo {
namespace {

constexpr std::size_t kDigestCharacters = 12;

int Fail(const absl::Status& status, const std::string& server) {
  WriteAll(STDERR_FILENO, absl::StrFormat("yangtuo models: %s\n", DescribeError(status, server)));
  return 1;
}

std::string OrDash(const std::string& text) { return text.empty() ? "-" : text; }

}  // namespace

std::string FormatModels(const v1::ListModelsResponse& response, int max_width) {
  Table table{.columns = {{"MODEL"},
                          {"CONTEXT", Align::kRight},
                          {"VOCABULARY", Align::kRight},
                          {"TEMPLATE"},
                          {"GROUPS", Align::kRight},
                          {"WEIGHTS"},
                          {"DIGEST"}},
              .rows = {}};
  for (const v1::Model& model : response.models()) {
    table.rows.push_back({model.name(), absl::StrFormat("%d", model.context_tokens()),
                          absl::StrFormat("%d", model.vocabulary_size()),
                          OrDash(model.chat_template()),
                          absl::StrFormat("%d", model.ready_groups()), OrDash(model.weight_type()),
                          OrDash(model.digest().substr(0, kDigestCharacters))});
  }
  return FormatTable(table, max_width);
}

int RunModels(const ModelsOptions& options) {
  const absl::StatusOr<std::unique_ptr<Client>> client = Client::Create(options.client);
  if (!client.ok()) {
    return Fail(client.status(), options.client.server);
  }
  const absl::StatusOr<v1::ListModelsResponse> response = (*client)->ListModels();
  if (!response.ok()) {
    return Fail(response.status(), options.client.server);
  }
  if (options.json) {
    google::protobuf::util::JsonPrintOptions print;
    print.preserve_proto_field_names = true;
    print.always_print_primitive_fields = true;
    std::string text;
    if (!google::protobuf::util::MessageToJsonString(*response, &text, print).ok()) {
      return Fail(absl::InternalError("the list of models has no JSON form"),
                  options.client.server);
    }
    WriteAll(STDOUT_FILENO, text + "\n");
    return 0;
  }
  if (response->models().empty()) {
    WriteAll(STDERR_FILENO, "no model is served yet: look at `yangtuo status`\n");
    return 0;
  }
  WriteAll(STDOUT_FILENO, FormatModels(*response, Terminal::LookAt(STDOUT_FILENO).columns));
  return 0;
}

}  // namespace yangtuo
