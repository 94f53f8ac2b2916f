#include "services/common/trace_context.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

namespace yangtuo {
namespace {

constexpr std::size_t kTraceparentBytes = 55;  // 00-<32>-<16>-<2>
constexpr std::size_t kMaxTracestateBytes = 512;
constexpr char kDigits[] = "0123456789abcdef";

// The value of a lower-case digit; the standard allows no others.
std::optional<std::uint8_t> DigitOf(char c) {
  if (c >= '0' && c <= '9') {
    return static_cast<std::uint8_t>(c - '0');
  }
  if (c >= 'a' && c <= 'f') {
    return static_cast<std::uint8_t>(c - 'a' + 10);
  }
  return std::nullopt;
}

template <std::size_t kBytes>
std::optional<std::array<std::uint8_t, kBytes>> ParseHex(std::string_view text) {
  std::array<std::uint8_t, kBytes> bytes = {};
  for (std::size_t i = 0; i < kBytes; ++i) {
    const auto high = DigitOf(text[2 * i]);
    const auto low = DigitOf(text[2 * i + 1]);
    if (!high.has_value() || !low.has_value()) {
      return std::nullopt;
    }
    bytes[i] = static_cast<std::uint8_t>(*high * 16 + *low);
  }
  return bytes;
}

template <typename Id>
bool IsZero(const Id& id) {
  return std::all_of(id.begin(), id.end(), [](std::uint8_t byte) { return byte == 0; });
}

template <typename Id>
std::string HexOf(const Id& id) {
  std::string text;
  for (const std::uint8_t byte : id) {
    text += kDigits[byte / 16];
    text += kDigits[byte % 16];
  }
  return text;
}

// One generator a thread: a span is begun for every hop of every traced request.
std::uint64_t RandomBits() {
  thread_local std::mt19937_64 generator = [] {
    std::random_device entropy;
    std::seed_seq seed{entropy(), entropy(), entropy(), entropy()};
    return std::mt19937_64(seed);
  }();
  return generator();
}

template <typename Id>
Id RandomId() {
  Id id = {};
  while (IsZero(id)) {
    for (std::size_t i = 0; i < id.size(); i += sizeof(std::uint64_t)) {
      const std::uint64_t bits = RandomBits();
      std::memcpy(id.data() + i, &bits, sizeof(bits));
    }
  }
  return id;
}

}  // namespace

std::optional<TraceContext> ParseTraceparent(std::string_view text) {
  if (text.size() < kTraceparentBytes || text[2] != '-' || text[35] != '-' || text[52] != '-') {
    return std::nullopt;
  }
  const auto version = ParseHex<1>(text.substr(0, 2));
  const auto trace_id = ParseHex<16>(text.substr(3, 32));
  const auto span_id = ParseHex<8>(text.substr(36, 16));
  const auto flags = ParseHex<1>(text.substr(53, 2));
  if (!version.has_value() || !trace_id.has_value() || !span_id.has_value() || !flags.has_value()) {
    return std::nullopt;
  }
  // A later version may say more, behind another dash; 255 is none.
  const bool longer = text.size() > kTraceparentBytes;
  const bool may_be_longer =
      (*version)[0] > 0 && text[std::min(text.size() - 1, kTraceparentBytes)] == '-';
  if ((*version)[0] == 0xFF || (longer && !may_be_longer) || IsZero(*trace_id) ||
      IsZero(*span_id)) {
    return std::nullopt;
  }
  return TraceContext{
      .trace_id = *trace_id, .span_id = *span_id, .sampled = ((*flags)[0] & 1U) != 0};
}

std::string ToTraceparent(const TraceContext& context) {
  std::string text = "00-";
  text += ToHex(context.trace_id);
  text += '-';
  text += ToHex(context.span_id);
  text += context.sampled ? "-01" : "-00";
  return text;
}

bool IsValidTracestate(std::string_view text) {
  return !text.empty() && text.size() <= kMaxTracestateBytes &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c <= 0x7E; });
}

std::string ToHex(const TraceId& id) { return HexOf(id); }
std::string ToHex(const SpanId& id) { return HexOf(id); }

TraceId NewTraceId() { return RandomId<TraceId>(); }
SpanId NewSpanId() { return RandomId<SpanId>(); }

bool IsInSample(const TraceId& id, double ratio) {
  if (ratio >= 1) {
    return true;
  }
  // The last 7 bytes are what the standard calls the random part; a double holds 53 bits exactly.
  std::uint64_t value = 0;
  for (std::size_t i = 9; i < id.size(); ++i) {
    value = value * 256 + id[i];
  }
  return std::ldexp(static_cast<double>(value >> 3U), -53) < ratio;
}

}  // namespace yangtuo
