#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace yangtuo {

using TraceId = std::array<std::uint8_t, 16>;
using SpanId = std::array<std::uint8_t, 8>;

// Which span of which trace a request is in, as W3C trace context carries it from hop to hop
// (https://www.w3.org/TR/trace-context/).
struct TraceContext {
  TraceId trace_id = {};
  SpanId span_id = {};
  // Whether this trace is recorded: decided once, where it began.
  bool sampled = false;
};

// A `traceparent` of version 00, or of a later one that begins like it. Nullopt for everything
// else, all zero ids included: such a value is ignored and a new trace begins.
std::optional<TraceContext> ParseTraceparent(std::string_view text);
std::string ToTraceparent(const TraceContext& context);

// A `tracestate` that may travel: printable ASCII of at most 512 bytes. Vendors' own, not read.
bool IsValidTracestate(std::string_view text);

// Lower case, two digits a byte.
std::string ToHex(const TraceId& id);
std::string ToHex(const SpanId& id);

// Random, never all zero.
TraceId NewTraceId();
SpanId NewSpanId();

// Whether a new trace of this id is among the share `ratio` (0..1) that is recorded. The same id
// gives the same answer in every program that decides so, as OpenTelemetry's TraceIdRatioBased.
bool IsInSample(const TraceId& id, double ratio);

}  // namespace yangtuo
