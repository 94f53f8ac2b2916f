#include "services/tokenizer/work_queue.h"

#include <atomic>
#include <future>
#include <gtest/gtest.h>

namespace yangtuo {
namespace {

TEST(WorkQueueTest, RefusesWhatExceedsItsBoundAndGoesOnAfterwards) {
  std::atomic<int> done = 0;
  {
    std::promise<void> release;
    std::promise<void> started;
    WorkQueue queue(1, 1);
    ASSERT_TRUE(queue.Submit([&] {
      started.set_value();
      release.get_future().wait();
      ++done;
    }));
    started.get_future().wait();
    EXPECT_TRUE(queue.Submit([&] { ++done; }));
    EXPECT_FALSE(queue.Submit([&] { done = 100; }));
    release.set_value();
  }
  EXPECT_EQ(done, 2) << "the destructor runs what was accepted";
}

}  // namespace
}  // namespace yangtuo
