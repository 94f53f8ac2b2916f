#include "tools/up/summary.h"

#include "absl/strings/str_format.h"
#include "tools/common/client.h"
#include "tools/common/table.h"

namespace yangtuo {
namespace {

std::string ServiceTable(const ClusterSummary& summary) {
  Table table{.columns = {{"SERVICE"},
                          {"PID", Align::kRight},
                          {"THREADS", Align::kRight},
                          {"GRPC"},
                          {"ADMIN (/metrics)"}},
              .rows = {}};
  for (const ServiceRecord& service : summary.state.services) {
    const bool worker = service.name.rfind("worker", 0) == 0;
    table.rows.push_back({service.name, absl::StrFormat("%d", service.pid),
                          worker ? absl::StrFormat("%d", summary.threads) : "-", service.grpc,
                          "http://" + service.admin});
  }
  return FormatTable(table, 0);  // an address that is cut is of no use
}

std::string ModelLines(const v1::ListModelsResponse& models) {
  std::string lines;
  for (const v1::Model& model : models.models()) {
    absl::StrAppendFormat(&lines, "%s: context %d tokens, vocabulary %d, %s weights, %s\n",
                          model.name(), model.context_tokens(), model.vocabulary_size(),
                          model.weight_type().empty() ? "unknown" : model.weight_type(),
                          model.chat_template().empty() ? "completes text (no chat template)"
                                                        : "chat template " + model.chat_template());
  }
  return lines;
}

}  // namespace

std::string FormatSummary(const ClusterSummary& summary) {
  const std::string& gateway = summary.state.gateway;
  // The default address needs no flag.
  const std::string server = gateway == kDefaultServer ? "" : " --server " + gateway;
  const bool chats =
      summary.models.models_size() > 0 && !summary.models.models(0).chat_template().empty();
  std::string text = absl::StrFormat("\nready after %.1f s\n\n", summary.seconds);
  text += ServiceTable(summary) + "\n" + ModelLines(summary.models) + "\n";
  text += "Talk to it from another terminal:\n";
  absl::StrAppendFormat(&text, "  yangtuo generate%s %s\n", server,
                        chats ? "写一首题为《春望》的五言律诗。" : "床前明月光");
  if (chats) {
    absl::StrAppendFormat(&text, "  yangtuo chat%s\n", server);
  }
  absl::StrAppendFormat(&text, "  yangtuo status%s --watch\n", server);
  absl::StrAppendFormat(&text, "gRPC: %s, yangtuo.v1.GenerationService\n", gateway);
  if (!summary.http.empty()) {
    absl::StrAppendFormat(&text, "HTTP: http://%s/v1, OpenAI's API\n", summary.http);
  }
  absl::StrAppendFormat(&text, "Logs: %s\n", summary.state.log_folder);
  return text + "Ctrl-C stops the cluster.\n";
}

}  // namespace yangtuo
