#include "inference_core/base/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <initializer_list>
#include <sched.h>
#include <set>
#include <sstream>
#include <string_view>

#include "absl/strings/str_format.h"

namespace yangtuo {
namespace {

constexpr int kMostCpus = 1 << 16;

#if defined(__x86_64__)
// Bit numbers: Intel SDM volume 2A, table 3-8 (CPUID); register states: volume 1, section 13.3.
constexpr std::uint32_t kOsxsave = 1U << 27;
constexpr std::uint64_t kAvxStates = 0x6;
constexpr std::uint64_t kAvx512States = kAvxStates | 0xE0;
constexpr std::uint64_t kAmxStates = 0x60000;

struct CpuidLeaf {
  std::uint32_t eax = 0;
  std::uint32_t ebx = 0;
  std::uint32_t ecx = 0;
  std::uint32_t edx = 0;
};

CpuidLeaf Cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  CpuidLeaf r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

// Which register states the operating system saves (XCR0); 0 where it saves none.
std::uint64_t EnabledRegisterStates(const CpuidLeaf& leaf1) {
  if ((leaf1.ecx & kOsxsave) == 0) {
    return 0;
  }
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
}

CpuFeatures DetectCpuFeatures() {
  const auto all_of = [](std::uint32_t word, std::initializer_list<int> bits) {
    return std::all_of(bits.begin(), bits.end(),
                       [word](int bit) { return (word >> bit & 1U) != 0; });
  };
  const CpuidLeaf leaf1 = Cpuid(1, 0);
  const CpuidLeaf leaf7 = Cpuid(7, 0);
  const CpuidLeaf leaf7_1 = leaf7.eax >= 1 ? Cpuid(7, 1) : CpuidLeaf{};
  const std::uint64_t states = EnabledRegisterStates(leaf1);
  const bool avx = (states & kAvxStates) == kAvxStates && all_of(leaf1.ecx, {28});
  CpuFeatures features;
  features.sse42 = all_of(leaf1.ecx, {20});
  features.f16c = avx && all_of(leaf1.ecx, {29});
  features.avx2 = avx && all_of(leaf1.ecx, {12}) && all_of(leaf7.ebx, {5});
  features.avx512 = features.avx2 && (states & kAvx512States) == kAvx512States &&
                    all_of(leaf7.ebx, {16, 17, 30, 31});
  features.avx512_bf16 = features.avx512 && all_of(leaf7_1.eax, {5});
  features.avx512_vnni = features.avx512 && all_of(leaf7.ecx, {11});
  features.avx_vnni = features.avx2 && all_of(leaf7_1.eax, {4});
  features.amx = (states & kAmxStates) == kAmxStates && all_of(leaf7.edx, {22, 24, 25});
  return features;
}
#else
CpuFeatures DetectCpuFeatures() { return {}; }
#endif

// Empty when the file cannot be read.
std::string ReadText(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::optional<double> ParseNumber(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

std::optional<double> Quota(const std::string& quota, const std::string& period) {
  const std::optional<double> us = ParseNumber(quota);  // "max" and -1 mean none
  const std::optional<double> period_us = ParseNumber(period);
  if (!us.has_value() || !period_us.has_value() || *us <= 0 || *period_us <= 0) {
    return std::nullopt;
  }
  return *us / *period_us;
}

std::optional<double> ReadQuotaV2(const std::filesystem::path& folder) {
  std::istringstream text(ReadText(folder / "cpu.max"));
  std::string quota;
  std::string period;
  text >> quota >> period;
  return Quota(quota, period);
}

std::optional<double> ReadQuotaV1(const std::filesystem::path& folder) {
  return Quota(ReadText(folder / "cpu.cfs_quota_us"), ReadText(folder / "cpu.cfs_period_us"));
}

// The smallest quota from `mount`/`group` up to `mount`: every level limits. In a container `group`
// may be a path of the host that does not exist here; then `mount` itself is the container's group.
template <typename Read>
std::optional<double> SmallestQuota(const std::filesystem::path& mount, std::string_view group,
                                    Read read) {
  std::optional<double> smallest;
  std::filesystem::path folder = mount;
  const auto take = [&] {
    const std::optional<double> quota = read(folder);
    if (quota.has_value() && (!smallest.has_value() || *quota < *smallest)) {
      smallest = quota;
    }
  };
  take();
  for (const std::filesystem::path& part : std::filesystem::path(group).relative_path()) {
    folder /= part;
    take();
  }
  return smallest;
}

std::optional<double> ReadCgroupQuota(const std::filesystem::path& root) {
  const std::filesystem::path mount = root / "sys/fs/cgroup";
  std::optional<double> smallest;
  const auto take = [&smallest](std::optional<double> quota) {
    if (quota.has_value() && (!smallest.has_value() || *quota < *smallest)) {
      smallest = quota;
    }
  };
  // Lines of cgroups(7): hierarchy-ID ":" controller-list ":" path; version 2 has "0::".
  std::istringstream lines(ReadText(root / "proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) {
      continue;
    }
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      take(SmallestQuota(mount, group, ReadQuotaV2));
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      take(SmallestQuota(mount / controllers, group, ReadQuotaV1));
      take(SmallestQuota(mount / "cpu", group, ReadQuotaV1));
    }
  }
  return smallest;
}

}  // namespace

const CpuFeatures& GetCpuFeatures() {
  static const CpuFeatures features = DetectCpuFeatures();
  return features;
}

std::int32_t CpuLimits::compute_threads() const {
  const auto available = static_cast<std::int32_t>(std::max<std::size_t>(1, cores.size()));
  if (!quota_cpus.has_value() || *quota_cpus >= available) {
    return available;
  }
  return std::max(1, static_cast<std::int32_t>(std::floor(*quota_cpus)));
}

std::vector<int> AffinityCpus() {
  for (int count = 1024; count <= kMostCpus; count *= 2) {  // EINVAL: the kernel's mask is larger
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(count));
    std::vector<cpu_set_t> set((bytes + sizeof(cpu_set_t) - 1) / sizeof(cpu_set_t));
    if (sched_getaffinity(0, bytes, set.data()) != 0) {
      continue;
    }
    std::vector<int> cpus;
    for (int cpu = 0; cpu < count; ++cpu) {
      if (CPU_ISSET_S(static_cast<std::size_t>(cpu), bytes, set.data())) {
        cpus.push_back(cpu);
      }
    }
    return cpus;
  }
  return {};
}

CpuLimits ReadCpuLimits(std::span<const int> cpus, const std::filesystem::path& root) {
  CpuLimits limits;
  limits.cpus.assign(cpus.begin(), cpus.end());
  limits.quota_cpus = ReadCgroupQuota(root);
  std::set<std::string> seen;
  for (const int cpu : cpus) {
    const std::filesystem::path topology =
        root / absl::StrFormat("sys/devices/system/cpu/cpu%d/topology", cpu);
    const std::string core = ReadText(topology / "core_id");
    // Core numbers repeat in every package. A CPU of unknown topology counts as a core of its own.
    const std::string key =
        core.empty() ? absl::StrFormat("cpu%d", cpu)
                     : absl::StrFormat("%s/%s", ReadText(topology / "physical_package_id"), core);
    if (seen.insert(key).second) {
      limits.cores.push_back(cpu);
    }
  }
  return limits;
}

CpuLimits GetCpuLimits() { return ReadCpuLimits(AffinityCpus(), "/"); }

std::string Describe(const CpuLimits& limits, const CpuFeatures& features) {
  const std::int32_t threads = limits.compute_threads();
  std::string line = absl::StrFormat(
      "%d compute thread%s (%d cpus, %d cores, %s),", threads, threads == 1 ? "" : "s",
      limits.cpus.size(), limits.cores.size(),
      limits.quota_cpus.has_value() ? absl::StrFormat("quota %.4g cpus", *limits.quota_cpus)
                                    : "no quota");
  const std::size_t without_features = line.size();
  const auto add = [&line](bool has, std::string_view name) {
    if (has) {
      line += absl::StrFormat(" %s", name);
    }
  };
  add(features.avx2, "avx2");
  add(features.avx_vnni, "avx_vnni");
  add(features.avx512, "avx512");
  add(features.avx512_vnni, "avx512_vnni");
  add(features.avx512_bf16, "avx512_bf16");
  add(features.amx, "amx");
  if (line.size() == without_features) {
    line += " no vector extensions";
  }
  return line;
}

}  // namespace yangtuo
