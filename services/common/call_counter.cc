#include "services/common/call_counter.h"

#include <algorithm>
#include <string_view>

namespace yangtuo {
namespace {

using grpc::experimental::Interceptor;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerInterceptorFactoryInterface;
using grpc::experimental::ServerRpcInfo;

// gRPC creates one for each call and destroys it when the call has ended.
class CountedCall final : public Interceptor {
 public:
  explicit CountedCall(CallCounter& counter) : counter_(counter) { counter_.Begin(); }
  ~CountedCall() override { counter_.End(); }
  CountedCall(const CountedCall&) = delete;
  CountedCall& operator=(const CountedCall&) = delete;

  void Intercept(InterceptorBatchMethods* methods) override { methods->Proceed(); }

 private:
  CallCounter& counter_;
};

// `method` is "/package.Service/Method".
bool IsWatched(std::string_view method) {
  const std::string_view name = method.substr(method.rfind('/') + 1);
  return name.rfind("Watch", 0) == 0 || method.rfind("/grpc.reflection.", 0) == 0;
}

class Factory final : public ServerInterceptorFactoryInterface {
 public:
  explicit Factory(CallCounter& counter) : counter_(counter) {}
  Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    return IsWatched(info->method()) ? nullptr : new CountedCall(counter_);
  }

 private:
  CallCounter& counter_;
};

}  // namespace

std::unique_ptr<ServerInterceptorFactoryInterface> CallCounter::NewInterceptorFactory() {
  return std::make_unique<Factory>(*this);
}

void CallCounter::Begin() {
  const MutexLock lock(mutex_);
  ++running_;
}

void CallCounter::End() {
  const MutexLock lock(mutex_);
  --running_;
  if (running_ == 0) {
    idle_since_ = SteadyClock().Now();
    changed_.NotifyAll();
  }
}

void CallCounter::WaitUntilIdle(Duration quiet, TimePoint deadline) {
  const TimePoint start = SteadyClock().Now();
  const MutexLock lock(mutex_);
  for (TimePoint now = start; now < deadline; now = SteadyClock().Now()) {
    const TimePoint quiet_until = std::max(idle_since_, start) + quiet;
    if (running_ == 0 && now >= quiet_until) {
      return;
    }
    changed_.WaitUntil(mutex_, running_ == 0 ? std::min(quiet_until, deadline) : deadline);
  }
}

}  // namespace yangtuo
