#include "inference_core/scheduler/tenant_ledger.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "inference_core/scheduler/scheduler.h"

namespace yangtuo {
namespace {

TEST(TenantLedgerTest, OneNameIsOneTenant) {
  TenantLedger ledger;
  const TenantLedger::Tenant a = ledger.Enter("a");
  EXPECT_EQ(ledger.Enter("a"), a);
  EXPECT_NE(ledger.Enter("b"), a);
  ledger.Charge(a, 7);
  EXPECT_EQ(ledger.served(a), 7.0);
}

TEST(TenantLedgerTest, StayingAwaySavesNothingUp) {
  TenantLedger ledger;
  const TenantLedger::Tenant busy = ledger.Enter("busy");
  ledger.Charge(busy, 1000);
  EXPECT_EQ(ledger.served(ledger.Enter("new")), 1000.0);
}

TEST(TenantLedgerTest, LeavingDoesNotClearADebt) {
  TenantLedger ledger;
  const TenantLedger::Tenant slow = ledger.Enter("slow");
  const TenantLedger::Tenant greedy = ledger.Enter("greedy");
  ledger.Charge(greedy, 500);
  ledger.Leave(greedy);
  EXPECT_EQ(ledger.served(ledger.Enter("greedy")), 500.0);
  ledger.Charge(slow, 600);
  EXPECT_EQ(ledger.size(), 2U);
}

TEST(TenantLedgerTest, ForgetsTenantsThatOweNothing) {
  TenantLedger ledger;
  const TenantLedger::Tenant stays = ledger.Enter("stays");
  for (int i = 0; i < 100; ++i) {
    const TenantLedger::Tenant guest = ledger.Enter("guest " + std::to_string(i));
    ledger.Charge(guest, 3);
    ledger.Charge(stays, 10);
    ledger.Leave(guest);
  }
  ledger.Enter("stays");
  EXPECT_LE(ledger.size(), 2U);
}

// Tenants with requests of different sizes that always have some waiting, one step after the other
// as an engine does them.
class Crowd {
 public:
  explicit Crowd(std::uint32_t seed) : random_(seed) {
    limits_ = {.step_tokens = Between(4, 40),
               .prompt_chunk = 0,
               .max_running = 1,
               .depth = 1,
               .block_size = 4,
               .free_blocks = 4000};
    limits_.max_running = Between(1, std::min(8, limits_.step_tokens));
    for (std::int32_t t = Between(2, 4); t > 0; --t) {
      tenants_.push_back({.name = "tenant " + std::to_string(t),
                          .most_prompt = Between(1, 60),
                          .most_answer = Between(1, 60)});
    }
  }

  void Step() {
    for (std::size_t t = 0; t < tenants_.size(); ++t) {
      while (Waiting(t) <= limits_.max_running) {
        Arrive(t);
      }
    }
    std::vector<ScheduledSequence> running;
    std::vector<ScheduledSequence> waiting;
    for (auto& [id, life] : lives_) {
      life.state.tenant_served = ledger_.served(life.state.tenant);
      (life.running ? running : waiting).push_back(life.state);
    }
    const StepPlan plan = PlanNextStep(running, waiting, limits_);
    ASSERT_FALSE(plan.empty());
    ASSERT_TRUE(plan.preempt.empty());
    for (const auto* list : {&plan.decode, &plan.prompt}) {
      for (const PlannedRows& rows : *list) {
        Run(rows);
      }
    }
  }

  // How far the shares are apart, and how far they may be.
  [[nodiscard]] double spread() const {
    double least = tenants_.front().served;
    double most = least;
    for (const Tenant& tenant : tenants_) {
      least = std::min(least, tenant.served);
      most = std::max(most, tenant.served);
    }
    return most - least;
  }
  [[nodiscard]] double bound() const { return static_cast<double>(limits_.max_running) * longest_; }

 private:
  struct Tenant {
    std::string name;
    std::int32_t most_prompt = 1;
    std::int32_t most_answer = 1;
    double served = 0.0;
  };
  struct Life {
    ScheduledSequence state;
    std::size_t tenant = 0;
    std::int32_t end = 0;
    bool running = false;
  };

  std::int32_t Between(std::int32_t low, std::int32_t high) {
    return std::uniform_int_distribution<std::int32_t>(low, high)(random_);
  }

  std::int64_t Waiting(std::size_t tenant) const {
    return std::count_if(lives_.begin(), lives_.end(), [tenant](const auto& entry) {
      return entry.second.tenant == tenant && !entry.second.running;
    });
  }

  void Arrive(std::size_t t) {
    const std::int32_t prompt = Between(1, tenants_[t].most_prompt);
    const std::uint64_t id = ++last_id_;
    lives_[id] = {
        .state = {.id = id, .known_tokens = prompt, .tenant = ledger_.Enter(tenants_[t].name)},
        .tenant = t,
        .end = prompt + Between(1, tenants_[t].most_answer),
        .running = false};
    longest_ = std::max(longest_, static_cast<double>(lives_[id].end));
  }

  void Run(const PlannedRows& rows) {
    Life& life = lives_.at(rows.id);
    life.running = true;
    life.state.computed_tokens += rows.tokens;
    life.state.blocks = (life.state.computed_tokens + 3) / 4;
    ledger_.Charge(life.state.tenant, rows.tokens);
    tenants_[life.tenant].served += rows.tokens;
    if (life.state.computed_tokens == life.state.known_tokens &&
        ++life.state.known_tokens >= life.end) {
      ledger_.Leave(life.state.tenant);
      lives_.erase(rows.id);
    }
  }

  std::mt19937 random_;
  PlanLimits limits_;
  TenantLedger ledger_;
  std::vector<Tenant> tenants_;
  std::map<std::uint64_t, Life> lives_;
  std::uint64_t last_id_ = 0;
  double longest_ = 0.0;
};

TEST(FairnessTest, TenantsThatAlwaysWaitGetEqualSharesWhateverTheirRequests) {
  for (std::uint32_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    Crowd crowd(seed);
    for (int step = 0; step < 400; ++step) {
      crowd.Step();
      ASSERT_FALSE(HasFatalFailure());
      // What runs already goes on, whoever is behind: as many sequences as may run at once.
      ASSERT_LE(crowd.spread(), crowd.bound()) << "step " << step;
    }
  }
}

}  // namespace
}  // namespace yangtuo
