#include "inference_core/base/cpu.h"

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

// A file tree that stands for a machine.
class CpuLimitsTest : public ::testing::Test {
 protected:
  void Put(const std::filesystem::path& name, std::string_view text) {
    std::filesystem::create_directories((root_.path() / name).parent_path());
    WriteTestFile(root_.path() / name, text);
  }
  void PutCpu(int cpu, int package, int core) {
    const std::string topology = "sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    Put(topology + "physical_package_id", std::to_string(package) + "\n");
    Put(topology + "core_id", std::to_string(core) + "\n");
  }
  CpuLimits Read(const std::vector<int>& cpus) { return ReadCpuLimits(cpus, root_.path()); }

  TempDir root_;
};

TEST_F(CpuLimitsTest, TakesOneThreadOfEveryPhysicalCore) {
  for (int cpu = 0; cpu < 8; ++cpu) {
    PutCpu(cpu, /*package=*/(cpu / 2) % 2, /*core=*/cpu % 2);  // 4..7 are the second threads
  }
  const CpuLimits limits = Read({0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_THAT(limits.cores, ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(limits.compute_threads(), 4);
}

TEST_F(CpuLimitsTest, CountsOnlyCpusItMayUse) {
  for (int cpu = 0; cpu < 4; ++cpu) {
    PutCpu(cpu, 0, cpu / 2);
  }
  EXPECT_THAT(Read({1, 3}).cores, ElementsAre(1, 3));
  EXPECT_THAT(Read({2, 3}).cores, ElementsAre(2));
}

TEST_F(CpuLimitsTest, CountsEveryCpuWhereTheTopologyIsUnknown) {
  EXPECT_THAT(Read({0, 5}).cores, ElementsAre(0, 5));
  EXPECT_EQ(Read({}).compute_threads(), 1);
}

TEST_F(CpuLimitsTest, TakesTheSmallestVersion2QuotaOnTheWayUp) {
  Put("proc/self/cgroup", "0::/kubepods/pod1/worker\n");
  Put("sys/fs/cgroup/kubepods/cpu.max", "max 100000\n");
  Put("sys/fs/cgroup/kubepods/pod1/cpu.max", "250000 100000\n");
  Put("sys/fs/cgroup/kubepods/pod1/worker/cpu.max", "400000 100000\n");
  const CpuLimits limits = Read({0, 1, 2, 3});
  EXPECT_DOUBLE_EQ(limits.quota_cpus.value_or(0), 2.5);
  EXPECT_EQ(limits.compute_threads(), 2);
}

TEST_F(CpuLimitsTest, ReadsTheMountItselfWhenTheGroupIsOutsideOfTheContainer) {
  Put("proc/self/cgroup", "0::/../../docker/abc\n");
  Put("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_DOUBLE_EQ(Read({0, 1}).quota_cpus.value_or(0), 0.5);
  EXPECT_EQ(Read({0, 1}).compute_threads(), 1);
}

TEST_F(CpuLimitsTest, ReadsAVersion1Quota) {
  Put("proc/self/cgroup", "5:memory:/a\n4:cpu,cpuacct:/a\n3:cpuset:/a\n");
  Put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "300000\n");
  Put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Read({0, 1, 2, 3}).compute_threads(), 3);
}

TEST_F(CpuLimitsTest, NoQuotaMeansNoLimit) {
  Put("proc/self/cgroup", "4:cpu,cpuacct:/\n0::/\nnonsense\n");
  Put("sys/fs/cgroup/cpu.max", "max 100000\n");
  Put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  Put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  const CpuLimits limits = Read({0, 1});
  EXPECT_FALSE(limits.quota_cpus.has_value());
  EXPECT_EQ(limits.compute_threads(), 2);
}

TEST(CpuTest, ThisProcessMayUseAtLeastOneCpu) {
  EXPECT_THAT(AffinityCpus(), Not(IsEmpty()));
  EXPECT_GE(GetCpuLimits().compute_threads(), 1);
  EXPECT_LE(GetCpuLimits().cores.size(), GetCpuLimits().cpus.size());
}

TEST(CpuTest, AgreesWithTheCompilerAboutThisCpu) {
#if defined(__x86_64__)
  const CpuFeatures& features = GetCpuFeatures();
  EXPECT_EQ(features.sse42, __builtin_cpu_supports("sse4.2") != 0);
  EXPECT_EQ(features.avx2, __builtin_cpu_supports("avx2") != 0);
  EXPECT_EQ(features.avx512, __builtin_cpu_supports("avx512bw") != 0);
  EXPECT_EQ(features.avx512_vnni, __builtin_cpu_supports("avx512vnni") != 0);
#else
  GTEST_SKIP() << "features are those of x86";
#endif
}

TEST(CpuTest, DescribesItselfInOneLine) {
  const CpuLimits limits = {.cpus = {0, 1}, .cores = {0}, .quota_cpus = 1.5};
  EXPECT_EQ(Describe(limits, {.avx2 = true, .avx512 = true, .amx = true}),
            "1 compute thread (2 cpus, 1 cores, quota 1.5 cpus), avx2 avx512 amx");
  EXPECT_EQ(Describe({.cpus = {0, 1}, .cores = {0, 1}, .quota_cpus = {}}, {}),
            "2 compute threads (2 cpus, 2 cores, no quota), no vector extensions");
}

}  // namespace
}  // namespace yangtuo
