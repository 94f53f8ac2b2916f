#pragma once

#include "gateway/openai/json_body.h"
#include "yangtuo/v1/sampling.pb.h"

namespace yangtuo::gateway::openai {

// What the answer must look like, in any of the ways that clients say it:
//
//   "response_format": {"type": "json_object"}
//   "response_format": {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}
//   OpenAI "guided_json": {...} | "guided_regex": "..." | "guided_choice": [...] |
//   "guided_grammar": "..." "structured_outputs": {"json": {...} | "regex": ... | "choice": ... |
//   "grammar": ...}        vLLM "json_schema": {...} | "grammar": "..." llama.cpp
//
// A schema is an object, or its text. Fails `fields` for a wrong value and for more than one of
// them.
void ReadConstraint(Fields& fields, v1::SamplingParams& sampling);

}  // namespace yangtuo::gateway::openai
