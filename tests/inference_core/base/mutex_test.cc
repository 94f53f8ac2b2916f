#include "inference_core/base/mutex.h"

#include <chrono>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "gtest/gtest.h"

namespace yangtuo {
namespace {

struct Counter {
  Mutex mutex;
  CondVar changed;
  int value ABSL_GUARDED_BY(mutex) = 0;
};

TEST(MutexTest, KeepsWritersApart) {
  constexpr int writers = 4;
  constexpr int rounds = 2000;
  Counter counter;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < writers; ++t) {
      threads.emplace_back([&counter] {
        for (int i = 0; i < rounds; ++i) {
          const MutexLock lock(counter.mutex);
          ++counter.value;
        }
      });
    }
  }
  const MutexLock lock(counter.mutex);
  EXPECT_EQ(counter.value, writers * rounds);
}

TEST(CondVarTest, WakesAWaiterThatHoldsTheMutexAgain) {
  Counter counter;
  const std::jthread waker([&counter] {
    {
      const MutexLock lock(counter.mutex);
      counter.value = 1;
    }
    counter.changed.NotifyAll();
  });
  const MutexLock lock(counter.mutex);
  while (counter.value == 0) {
    counter.changed.Wait(counter.mutex);
  }
  EXPECT_EQ(counter.value, 1);
}

TEST(CondVarTest, GivesUpAtTheDeadline) {
  Counter counter;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(10);
  const MutexLock lock(counter.mutex);
  while (counter.changed.WaitUntil(counter.mutex, deadline)) {
  }
  // The wall clock measures the wait, so a small slack.
  EXPECT_GE(std::chrono::steady_clock::now(), deadline - std::chrono::milliseconds(5));
}

}  // namespace
}  // namespace yangtuo
