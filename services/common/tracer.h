#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/base/clock.h"
#include "services/common/metrics.h"
#include "services/common/otlp_json.h"
#include "services/common/request_context.h"
#include "services/common/trace_context.h"

namespace yangtuo {

class SpanExporter;
class Tracer;

// Where and how much a process traces. The defaults of flags are OpenTelemetry's own environment
// variables, see FromEnvironment.
struct TracingOptions {
  std::string endpoint = {};  // OTLP/HTTP base URL; empty: no spans
  std::string ca_file = {};   // PEM, verifies an https endpoint; empty: the system's authorities
  double sample_ratio = 1;    // of requests that bring no trace of their own
  std::string service_name = {};         // of the resource; empty: the program's
  std::string resource_attributes = {};  // key=value,key=value

  // OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_SERVICE_NAME and
  // OTEL_RESOURCE_ATTRIBUTES.
  static TracingOptions FromEnvironment();
};

// INVALID_ARGUMENT naming the flag or variable.
absl::Status CheckTracingOptions(const TracingOptions& options);

// One timed piece of a request. A handle: copies are the same span. It ends with End, or as a
// success when the last handle goes. Without a tracer, or in a trace that is not sampled, it
// records nothing, and only says what to pass on. Thread-safe; must not outlive its tracer.
//
// Names and attributes hold sizes, times and names of models, never what people wrote.
class Span {
 public:
  Span() = default;

  // Whether attributes are worth computing.
  [[nodiscard]] bool recording() const { return state_ != nullptr; }
  // Nullopt when the span belongs to no trace at all.
  [[nodiscard]] const std::optional<TraceContext>& context() const { return context_; }

  void SetName(std::string name) const;
  // A later value of a key replaces the earlier one.
  void Set(std::string_view key, AttributeValue value) const;
  // A part of this span that begins now.
  [[nodiscard]] Span Child(std::string name, SpanKind kind) const;
  // A part that has ended already.
  void AddChild(std::string name, TimePoint begin, TimePoint end, Attributes attributes) const;

  // Once; later calls do nothing. Errors become the attribute error.type; the span failed when the
  // error is not the caller's own, which a server cannot help.
  void End(const absl::Status& status) const;

 private:
  friend class Tracer;
  struct State;

  std::optional<TraceContext> context_;
  std::shared_ptr<State> state_;  // null: records nothing
};

// Makes spans and hands them to the exporter. Thread-safe.
class Tracer {
 public:
  // Makes no spans: what comes in is passed on as it is.
  Tracer();
  // `service_name` unless the options name another. Errors as CheckTracingOptions'.
  static absl::StatusOr<std::unique_ptr<Tracer>> Start(const TracingOptions& options,
                                                       const std::string& service_name,
                                                       Metrics& metrics);
  // Flushes, for two seconds at most.
  ~Tracer();
  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;

  // The span of a request that came with `incoming`: a part of its trace, which says whether it is
  // sampled, or the first span of a new one.
  [[nodiscard]] Span Serve(const RequestContext& incoming, std::string name) const;
  // A part of another process's span that has ended already.
  void AddPart(const TraceContext& parent, std::string name, TimePoint begin, TimePoint end,
               Attributes attributes) const;

 private:
  explicit Tracer(double sample_ratio, std::unique_ptr<SpanExporter> exporter);

  const double sample_ratio_ = 0;
  const std::unique_ptr<SpanExporter> exporter_;  // null: off
};

// What to send with calls that are made for `span`: identity of the request as it came, place in
// the trace as it is now.
RequestContext ContextWithin(const RequestContext& incoming, const Span& span);

}  // namespace yangtuo
