#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// The only two macros of the code base: C++20 has no other way to return early from the caller.

#define YANGTUO_RETURN_IF_ERROR(expr)                                   \
  do {                                                                  \
    if (absl::Status yangtuo_status_ = (expr); !yangtuo_status_.ok()) { \
      return yangtuo_status_;                                           \
    }                                                                   \
  } while (false)

#define YANGTUO_CONCAT_INNER(a, b) a##b
#define YANGTUO_CONCAT(a, b) YANGTUO_CONCAT_INNER(a, b)
#define YANGTUO_ASSIGN_OR_RETURN(lhs, expr) \
  YANGTUO_ASSIGN_OR_RETURN_IMPL(YANGTUO_CONCAT(yangtuo_statusor_, __LINE__), lhs, expr)
#define YANGTUO_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                                  \
  if (!tmp.ok()) {                                    \
    return std::move(tmp).status();                   \
  }                                                   \
  lhs = *std::move(tmp)
