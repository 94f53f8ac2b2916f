#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace yangtuo {

// How many tokens every tenant got, for a policy that serves first who got least. Not thread-safe.
//
// Virtual time: a tenant that comes back after a pause starts at the least that an active tenant
// has, so that nobody saves up turns by staying away; and a tenant that leaves in debt comes back
// with it, as long as others are still behind.
class TenantLedger {
 public:
  using Tenant = std::uint32_t;

  // One more sequence of the tenant is there. The name may be empty: then it is that one tenant.
  Tenant Enter(std::string_view name);
  // One of its sequences is gone.
  void Leave(Tenant tenant);
  // It got so many tokens, prompt or answer.
  void Charge(Tenant tenant, std::int64_t tokens) {
    At(tenant).served += static_cast<double>(tokens);
  }

  [[nodiscard]] double served(Tenant tenant) const { return accounts_[tenant].served; }
  // Tenants with sequences, or in debt.
  [[nodiscard]] std::size_t size() const { return by_name_.size(); }

 private:
  struct Account {
    std::string name;
    double served = 0.0;
    std::int32_t sequences = 0;
  };

  [[nodiscard]] Account& At(Tenant tenant) { return accounts_[tenant]; }
  // Raises floor_ to the least that an active tenant has, and forgets who is idle below it.
  void Settle();

  std::vector<Account> accounts_;
  std::vector<Tenant> unused_;  // accounts that may be given to another tenant
  std::map<std::string, Tenant, std::less<>> by_name_;
  double floor_ = 0.0;
};

}  // namespace yangtuo
