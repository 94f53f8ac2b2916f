#include "inference_core/scheduler/tenant_ledger.h"

#include <algorithm>
#include <limits>

namespace yangtuo {

TenantLedger::Tenant TenantLedger::Enter(std::string_view name) {
  Settle();
  auto found = by_name_.find(name);
  if (found == by_name_.end()) {
    Tenant tenant = static_cast<Tenant>(accounts_.size());
    if (unused_.empty()) {
      accounts_.emplace_back();
    } else {
      tenant = unused_.back();
      unused_.pop_back();
    }
    At(tenant) = {.name = std::string(name), .served = floor_, .sequences = 0};
    found = by_name_.emplace(std::string(name), tenant).first;
  }
  Account& account = At(found->second);
  if (account.sequences++ == 0) {
    account.served = std::max(account.served, floor_);
  }
  return found->second;
}

void TenantLedger::Leave(Tenant tenant) { --At(tenant).sequences; }

void TenantLedger::Settle() {
  double least = std::numeric_limits<double>::infinity();
  double most = floor_;
  for (const auto& [name, tenant] : by_name_) {
    const Account& account = At(tenant);
    most = std::max(most, account.served);
    if (account.sequences > 0) {
      least = std::min(least, account.served);
    }
  }
  // With nobody active, everybody starts anew.
  floor_ = std::max(floor_, least < std::numeric_limits<double>::infinity() ? least : most);
  for (auto entry = by_name_.begin(); entry != by_name_.end();) {
    const Account& account = At(entry->second);
    if (account.sequences == 0 && account.served <= floor_) {
      unused_.push_back(entry->second);
      entry = by_name_.erase(entry);
    } else {
      ++entry;
    }
  }
}

}  // namespace yangtuo
