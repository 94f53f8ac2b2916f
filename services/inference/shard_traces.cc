#include "services/inference/shard_traces.h"

#include <algorithm>
#include <utility>

namespace yangtuo {

void ShardTraces::Begin(const Step& step, std::int32_t rank) {
  step_.clear();
  if (tracer_ == nullptr) {
    return;
  }
  rank_ = rank;
  for (const SequenceOpen& open : step.opens) {
    const auto parent = ParseTraceparent(open.traceparent);
    if (parent.has_value() && parent->sampled) {
      traced_[open.id] = {.parent = *parent};
    }
  }
  for (const SequenceId id : step.closes) {
    if (const auto found = traced_.find(id); found != traced_.end()) {
      Report(found->second);
      traced_.erase(found);
    }
  }
  if (traced_.empty()) {
    return;
  }
  for (const StepRows& rows : step.rows) {
    if (traced_.contains(rows.id)) {
      step_.push_back({.id = rows.id, .rows = static_cast<std::int64_t>(rows.token_ids.size())});
    }
  }
}

void ShardTraces::Computed(TimePoint begin, TimePoint end) {
  for (const Part& part : step_) {
    Traced& traced = traced_.at(part.id);
    if (traced.steps == 0) {
      traced.first = begin;
    }
    traced.last = end;
    traced.compute += end - begin;
    traced.rows += part.rows;
    ++traced.steps;
  }
}

bool ShardTraces::pending() const {
  return std::any_of(traced_.begin(), traced_.end(),
                     [](const auto& entry) { return entry.second.steps > 0; });
}

void ShardTraces::Flush() {
  for (auto& [id, traced] : traced_) {
    Report(traced);
    traced = {.parent = traced.parent};
  }
}

void ShardTraces::EndAll() {
  Flush();
  traced_.clear();
  step_.clear();
}

void ShardTraces::Report(const Traced& traced) const {
  if (traced.steps == 0) {
    return;
  }
  tracer_->AddPart(traced.parent, "shard steps", traced.first, traced.last,
                   {{"yangtuo.shard.index", std::int64_t{rank_}},
                    {"yangtuo.steps", traced.steps},
                    {"yangtuo.rows", traced.rows},
                    {"yangtuo.step_compute_seconds", ToSeconds(traced.compute)}});
}

}  // namespace yangtuo
