#pragma once

#include <string>

#include "services/common/metrics.h"

namespace yangtuo {

// Adds yangtuo_build_info and what Prometheus' own client libraries report of every process
// (process_cpu_seconds_total, process_resident_memory_bytes, process_open_fds, process_threads,
// process_start_time_seconds), read from /proc at each scrape.
void AddProcessMetrics(Metrics& metrics, const std::string& program);

}  // namespace yangtuo
