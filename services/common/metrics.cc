#include "services/common/metrics.h"

#include <sstream>
#include <utility>

#include "inference_core/base/mutex.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"

namespace yangtuo {
namespace {

class PrometheusCounter final : public Counter {
 public:
  explicit PrometheusCounter(prometheus::Counter& counter) : counter_(counter) {}
  void Add(double amount) override { counter_.Increment(amount); }

 private:
  prometheus::Counter& counter_;
};

class PrometheusGauge final : public Gauge {
 public:
  PrometheusGauge(prometheus::Family<prometheus::Gauge>& family, prometheus::Gauge& gauge)
      : family_(family), gauge_(gauge) {}
  void Set(double value) override { gauge_.Set(value); }
  void Add(double amount) override { gauge_.Increment(amount); }

  void Remove() { family_.Remove(&gauge_); }

 private:
  prometheus::Family<prometheus::Gauge>& family_;
  prometheus::Gauge& gauge_;
};

class PrometheusHistogram final : public Histogram {
 public:
  explicit PrometheusHistogram(prometheus::Histogram& histogram) : histogram_(histogram) {}
  void Observe(double value) override { histogram_.Observe(value); }

 private:
  prometheus::Histogram& histogram_;
};

using Key = std::pair<std::string, Labels>;

prometheus::Labels ToPrometheus(const Labels& labels) { return {labels.begin(), labels.end()}; }

}  // namespace

struct Metrics::State {
  prometheus::Registry registry;
  Mutex mutex;
  std::map<Key, std::unique_ptr<Counter>> counters ABSL_GUARDED_BY(mutex);
  std::map<Key, std::unique_ptr<PrometheusGauge>> gauges ABSL_GUARDED_BY(mutex);
  std::map<Key, std::unique_ptr<Histogram>> histograms ABSL_GUARDED_BY(mutex);
  // Apart from `mutex`, so that an update may add metrics; held while the updates run, so that two
  // scrapes do not run one update at the same time.
  Mutex collect_mutex;
  std::vector<std::function<void()>> updates ABSL_GUARDED_BY(collect_mutex);
};

Metrics::Metrics() : state_(std::make_unique<State>()) {}
Metrics::~Metrics() = default;

Counter& Metrics::AddCounter(const std::string& name, const std::string& help,
                             const Labels& labels) {
  const MutexLock lock(state_->mutex);
  std::unique_ptr<Counter>& counter = state_->counters[{name, labels}];
  if (counter == nullptr) {
    auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(state_->registry);
    counter = std::make_unique<PrometheusCounter>(family.Add(ToPrometheus(labels)));
  }
  return *counter;
}

Gauge& Metrics::AddGauge(const std::string& name, const std::string& help, const Labels& labels) {
  const MutexLock lock(state_->mutex);
  std::unique_ptr<PrometheusGauge>& gauge = state_->gauges[{name, labels}];
  if (gauge == nullptr) {
    auto& family = prometheus::BuildGauge().Name(name).Help(help).Register(state_->registry);
    gauge = std::make_unique<PrometheusGauge>(family, family.Add(ToPrometheus(labels)));
  }
  return *gauge;
}

Histogram& Metrics::AddHistogram(const std::string& name, const std::string& help,
                                 const std::vector<double>& buckets, const Labels& labels) {
  const MutexLock lock(state_->mutex);
  std::unique_ptr<Histogram>& histogram = state_->histograms[{name, labels}];
  if (histogram == nullptr) {
    auto& family = prometheus::BuildHistogram().Name(name).Help(help).Register(state_->registry);
    histogram = std::make_unique<PrometheusHistogram>(family.Add(ToPrometheus(labels), buckets));
  }
  return *histogram;
}

void Metrics::RemoveGauge(const std::string& name, const Labels& labels) {
  const MutexLock lock(state_->mutex);
  const auto gauge = state_->gauges.find({name, labels});
  if (gauge != state_->gauges.end()) {
    gauge->second->Remove();
    state_->gauges.erase(gauge);
  }
}

void Metrics::OnCollect(std::function<void()> update) {
  const MutexLock lock(state_->collect_mutex);
  state_->updates.push_back(std::move(update));
}

std::string Metrics::Expose() {
  {
    const MutexLock lock(state_->collect_mutex);
    for (const std::function<void()>& update : state_->updates) {
      update();
    }
  }
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, state_->registry.Collect());
  return text.str();
}

// The longest bounds of each list are for CPUs, where a long prompt takes minutes.

const std::vector<double>& TimeToFirstTokenBuckets() {
  static const auto& buckets = *new std::vector<double>{
      0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
      1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};
  return buckets;
}

const std::vector<double>& InterTokenBuckets() {
  static const auto& buckets =
      *new std::vector<double>{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,  0.3,  0.4, 0.5,
                               0.75, 1.0,   2.5,  5.0,   7.5, 10.0, 20.0, 40.0, 80.0};
  return buckets;
}

const std::vector<double>& RequestSecondsBuckets() {
  static const auto& buckets = *new std::vector<double>{
      0.3,  0.5,  0.8,  1.0,  1.5,   2.0,   2.5,   5.0,   10.0,   15.0,  20.0,
      30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
  return buckets;
}

}  // namespace yangtuo
