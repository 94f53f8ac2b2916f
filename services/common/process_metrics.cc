#include "services/common/process_metrics.h"

#include <cstdint>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sys/resource.h>
#include <system_error>
#include <unistd.h>

#include "services/common/build_info.h"

namespace yangtuo {
namespace {

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
}

double ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  double total_pages = 0;
  double resident_pages = 0;
  statm >> total_pages >> resident_pages;
  return resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE));
}

// 0 when the folder cannot be read.
double CountEntries(const char* folder) {
  std::error_code error;
  double count = 0;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    ++count;
  }
  return count;
}

}  // namespace

void AddProcessMetrics(Metrics& metrics, const std::string& program) {
  const BuildInfo build = ThisBuild();
  metrics
      .AddGauge("yangtuo_build_info", "Always 1; the labels say what runs.",
                {{"program", program},
                 {"version", std::string(build.version)},
                 {"compiler", std::string(build.compiler)},
                 {"build_type", std::string(build.build_type)}})
      .Set(1);
  metrics.AddGauge("process_start_time_seconds", "Start of the process, seconds since the epoch.")
      .Set(static_cast<double>(std::time(nullptr)));
  Counter& cpu = metrics.AddCounter("process_cpu_seconds_total", "CPU time used, seconds.");
  Gauge& resident = metrics.AddGauge("process_resident_memory_bytes", "Resident memory, bytes.");
  Gauge& files = metrics.AddGauge("process_open_fds", "Open file descriptors.");
  Gauge& threads = metrics.AddGauge("process_threads", "Threads of the process.");
  metrics.OnCollect([&cpu, &resident, &files, &threads, counted = 0.0]() mutable {
    const double now = CpuSeconds();
    cpu.Add(now - counted);
    counted = now;
    resident.Set(ResidentBytes());
    files.Set(CountEntries("/proc/self/fd"));
    threads.Set(CountEntries("/proc/self/task"));
  });
}

}  // namespace yangtuo
