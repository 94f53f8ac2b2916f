#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

// Prometheus metrics (prometheus-cpp behind it; this folder alone includes it). Names carry the
// prefix "yangtuo_" and base units; labels are few and of low cardinality.
namespace yangtuo {

using Labels = std::map<std::string, std::string>;

// Monotonic; thread-safe.
class Counter {
 public:
  virtual ~Counter() = default;
  void Add() { Add(1); }
  virtual void Add(double amount) = 0;
};

// Thread-safe.
class Gauge {
 public:
  virtual ~Gauge() = default;
  virtual void Set(double value) = 0;
  virtual void Add(double amount) = 0;
};

// Thread-safe.
class Histogram {
 public:
  virtual ~Histogram() = default;
  virtual void Observe(double value) = 0;
};

// Owns all metrics of a process. Thread-safe. Adding the same name and labels again returns the
// same object, so that a caller may look labelled counters up where the event happens.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  Counter& AddCounter(const std::string& name, const std::string& help, const Labels& labels = {});
  Gauge& AddGauge(const std::string& name, const std::string& help, const Labels& labels = {});
  Histogram& AddHistogram(const std::string& name, const std::string& help,
                          const std::vector<double>& buckets, const Labels& labels = {});
  // Ends a gauge of something that is gone (a peer that left): it is exposed no longer. References
  // to it end as well. Nothing happens when there is none.
  void RemoveGauge(const std::string& name, const Labels& labels);
  // Runs before every exposition, to set gauges that are read rather than counted.
  void OnCollect(std::function<void()> update);

  // Prometheus text format.
  [[nodiscard]] std::string Expose();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// vLLM's bucket bounds, seconds.
const std::vector<double>& TimeToFirstTokenBuckets();
const std::vector<double>& InterTokenBuckets();
const std::vector<double>& RequestSecondsBuckets();

}  // namespace yangtuo
