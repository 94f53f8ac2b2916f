#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_format.h"
#include "tools/common/json_text.h"
#include "tools/common/progress_bar.h"
#include "tools/convert/conversion.h"

namespace yangtuo {
namespace {

using nlohmann::ordered_json;

// "291 tensors: 226 q4_0, 65 f32".
std::string TypesOf(const std::vector<TensorSpec>& tensors) {
  std::map<std::string_view, std::int64_t> count;
  for (const TensorSpec& tensor : tensors) {
    ++count[NameOf(tensor.dtype)];
  }
  std::string text = absl::StrFormat("%d tensors", tensors.size());
  const char* separator = ": ";
  for (const auto& [name, number] : count) {
    text += absl::StrFormat("%s%d %s", std::exchange(separator, ", "), number, std::string(name));
  }
  return text;
}

std::vector<TensorSpec> InputsOf(const ConversionPlan& plan) {
  std::vector<TensorSpec> specs;
  for (const PlannedTensor& tensor : plan.tensors) {
    specs.push_back(tensor.from);
  }
  return specs;
}

std::string FilesOf(const PreparedConversion& prepared) {
  return prepared.output.format == CheckpointFormat::kMeta
             ? absl::StrFormat(" in %d files", prepared.output.meta_shards)
             : std::string();
}

}  // namespace

std::string DescribePlan(const Conversion& conversion, const PreparedConversion& prepared) {
  const ConversionPlan& plan = prepared.plan;
  std::string text = absl::StrFormat(
      "from    %s (%s), %s, %s\n"
      "to      %s (%s%s), %s, %s, %.2f bits a weight\n"
      "needs   %s of disk (%s free), up to %s of memory beside mapped files, %d threads\n",
      conversion.input.path.string(), std::string(NameOf(conversion.input.format)),
      TypesOf(InputsOf(plan)), FormatBytes(plan.bytes_read), prepared.output.path.string(),
      std::string(NameOf(prepared.output.format)), FilesOf(prepared),
      TypesOf(prepared.output.tensors), FormatBytes(plan.bytes_written), plan.bits_per_weight(),
      FormatBytes(plan.bytes_written), FormatBytes(prepared.free_disk_bytes),
      FormatBytes(plan.memory_bytes), prepared.threads);
  if (prepared.estimated_seconds > 0) {
    text += absl::StrFormat("time    about %s\n", FormatSeconds(prepared.estimated_seconds));
  }
  for (const std::string& warning : prepared.warnings) {
    text += absl::StrFormat("note    %s\n", warning);
  }
  return text;
}

std::string DescribeReport(const PreparedConversion& prepared, const ConversionReport& report) {
  std::string text;
  if (report.rounded() > 0) {
    text += absl::StrFormat("note    %d of %d values were rounded to the new type\n",
                            report.rounded(), prepared.plan.elements());
  }
  if (const double error = report.relative_squared_error(); error > 0) {
    text += absl::StrFormat("error   %.3g of the weights' squares (squared error, all tensors)\n",
                            error);
  }
  const double seconds = std::max(report.seconds, 1e-3);
  text += absl::StrFormat(
      "wrote   %s to %s in %s (%s/s read)\ndigest  %s\n", FormatBytes(prepared.plan.bytes_written),
      prepared.output.path.string(), FormatSeconds(report.seconds),
      FormatBytes(
          static_cast<std::int64_t>(static_cast<double>(prepared.plan.bytes_read) / seconds)),
      report.digest);
  return text;
}

std::string EncodeReport(const Conversion& conversion, const PreparedConversion& prepared,
                         const ConversionReport* report) {
  const ConversionPlan& plan = prepared.plan;
  ordered_json tensors = ordered_json::array();
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlannedTensor& tensor = plan.tensors[i];
    ordered_json entry = {{"name", tensor.to.name},
                          {"shape", tensor.to.shape},
                          {"from", NameOf(tensor.from.dtype)},
                          {"to", NameOf(tensor.to.dtype)}};
    if (tensor.kept_plain()) {
      entry["asked"] = NameOf(tensor.asked);
    }
    if (report != nullptr) {
      entry["sha256"] = report->tensors[i].sha256;
      entry["rounded"] = report->tensors[i].rounded;
      if (const CopiedTensor& copied = report->tensors[i]; copied.square > 0) {
        entry["relative_squared_error"] = copied.squared_error / copied.square;
      }
    }
    tensors.push_back(entry);
  }
  ordered_json json = {{"input", conversion.input.path.string()},
                       {"output", prepared.output.path.string()},
                       {"format", NameOf(prepared.output.format)},
                       {"bytes_read", plan.bytes_read},
                       {"bytes_written", plan.bytes_written},
                       {"bits_per_weight", plan.bits_per_weight()},
                       {"memory_bytes", plan.memory_bytes},
                       {"free_disk_bytes", prepared.free_disk_bytes},
                       {"threads", prepared.threads},
                       {"notes", prepared.warnings}};
  if (report == nullptr) {
    json["estimated_seconds"] = prepared.estimated_seconds;
  } else {
    json["seconds"] = report->seconds;
    json["rounded"] = report->rounded();
    json["relative_squared_error"] = report->relative_squared_error();
    json["digest"] = report->digest;
  }
  json["tensors"] = tensors;
  return JsonText(json);
}

}  // namespace yangtuo
