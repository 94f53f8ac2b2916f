#include "tools/bench_kernels/bench_kernels_command.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "inference_core/base/cpu.h"
#include "tools/bench_kernels/kernel_runs.h"
#include "tools/bench_kernels/machine_limits.h"
#include "tools/common/report_file.h"
#include "tools/common/svg_plot.h"
#include "tools/common/table.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo bench kernels
  yangtuo bench kernels --threads 1 --json
  yangtuo bench kernels --svg kernels.svg

Limits are measured in the same run: reading memory beyond every cache, and the widest multiply-adds
of this CPU doing nothing else. What fits a cache is read faster than memory, and AVX2's int4
products sum in 16 bits where the limit's loop sums in 32: ratios above 1 are possible. Nothing else
should run; on a shared host reading varies from minute to minute.)";

struct Arguments {
  std::int32_t threads = 0;
  bool json = false;
  std::string svg;
};

const char* UnitOf(Bound bound) {
  return bound == Bound::kReading ? "GB/s" : bound == Bound::kInteger ? "GOP/s" : "GFLOP/s";
}

void PrintJson(const MachineLimits& limits, const std::vector<KernelSpeed>& speeds, int threads) {
  nlohmann::json list = nlohmann::json::array();
  for (const KernelSpeed& speed : speeds) {
    list.push_back({{"kernel", speed.name},
                    {"unit", UnitOf(speed.bound)},
                    {"value", speed.per_second / 1e9},
                    {"ratio", speed.ratio}});
  }
  const nlohmann::json json = {{"threads", threads},
                               {"limits",
                                {{"read_gb_s", limits.read_bytes_per_second / 1e9},
                                 {"float_gflop_s", limits.float_ops_per_second / 1e9},
                                 {"bf16_gflop_s", limits.bf16_ops_per_second / 1e9},
                                 {"integer_gop_s", limits.integer_ops_per_second / 1e9}}},
                               {"kernels", list}};
  std::cout << json.dump(2) << "\n";
}

void PrintTable(const MachineLimits& limits, const std::vector<KernelSpeed>& speeds) {
  std::cout
      << Describe(GetCpuLimits(), GetCpuFeatures()) << "\n"
      << absl::StrFormat(
             "limits: reading %.1f GB/s, f32 %.0f GFLOP/s, bf16 %.0f GFLOP/s, int8 in 32 bits %.0f "
             "GOP/s\n\n",
             limits.read_bytes_per_second / 1e9, limits.float_ops_per_second / 1e9,
             limits.bf16_ops_per_second / 1e9, limits.integer_ops_per_second / 1e9);
  Table table{.columns = {{"kernel"},
                          {"achieved", Align::kRight},
                          {"unit"},
                          {"of the limit", Align::kRight}},
              .rows = {}};
  for (const KernelSpeed& speed : speeds) {
    table.rows.push_back({speed.name, absl::StrFormat("%.1f", speed.per_second / 1e9),
                          UnitOf(speed.bound), absl::StrFormat("%.2f", speed.ratio)});
  }
  std::cout << FormatTable(table, 0);
}

// One bar a kernel: what it reaches of the limit that bounds it.
std::string KernelsSvg(const std::vector<KernelSpeed>& speeds) {
  const auto plot_of = [&](std::string title, std::initializer_list<Bound> bounds) {
    Plot plot{.title = std::move(title),
              .x_label = "",
              .y_label = "of the limit",
              .x = {},
              .series = {{"of the limit", {}}},
              .kind = PlotKind::kRows};
    for (const KernelSpeed& speed : speeds) {
      if (std::find(bounds.begin(), bounds.end(), speed.bound) != bounds.end()) {
        plot.x.push_back(speed.name);
        plot.series[0].values.push_back(speed.ratio);
      }
    }
    return plot;
  };
  return DrawSvg(
      {plot_of("Kernels bound by reading", {Bound::kReading}),
       plot_of("Kernels bound by arithmetic", {Bound::kFloat, Bound::kBf16, Bound::kInteger})});
}

int Run(Arguments arguments) {
  if (arguments.threads == 0) {
    arguments.threads = GetCpuLimits().compute_threads();
  }
  const MachineLimits limits = MeasureLimits(arguments.threads);
  const std::vector<KernelSpeed> speeds = RunKernels(arguments.threads, limits);
  if (arguments.json) {
    PrintJson(limits, speeds, arguments.threads);
  } else {
    PrintTable(limits, speeds);
  }
  if (!arguments.svg.empty()) {
    if (const absl::Status written = WriteReport(arguments.svg, KernelsSvg(speeds));
        !written.ok()) {
      std::cerr << "yangtuo bench kernels: " << written.message() << "\n";
      return 1;
    }
  }
  return 0;
}

}  // namespace

void AddBenchKernelsCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app =
      *parent.add_subcommand("kernels", "Every hot kernel beside what this machine can do");
  const auto arguments = std::make_shared<Arguments>();
  app.add_option("--threads", arguments->threads, "compute threads; 0: one per usable core")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_flag("--json", arguments->json, "print JSON instead of a table");
  app.add_option("--svg", arguments->svg, "write plots")->type_name("FILE");
  app.footer(kExamples);
  app.callback([&run, arguments] { run = [arguments] { return Run(*arguments); }; });
}

}  // namespace yangtuo
