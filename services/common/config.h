#pragma once

#include <functional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "services/common/service_options.h"

namespace yangtuo {

// Adds the flags of ServiceOptions to `app`. `environment_prefix` as in ParseCommandLine. Options
// hold the defaults (in particular the service's ports) when this is called.
void AddServiceFlags(CLI::App& app, ServiceOptions& options);

// How a program should go on after parsing.
struct ParsedCommandLine {
  bool run = true;  // false: leave main with `exit_code` (help, version, an error, --check-config)
  int exit_code = 0;  // 2 for wrong usage
};

// Parses with the order flag over environment over file over default. Every long flag "--kv-blocks"
// is also the environment variable PREFIX_KV_BLOCKS and the TOML key "kv-blocks" of the file named
// by --config (or PREFIX_CONFIG). Unknown keys in the file are errors that name the nearest key.
// Adds --config, --print-config (effective values as TOML, with where each came from) and
// --check-config (also runs `validate`), and --version. `validate` checks values against each other
// and the disk; its error is printed and ends the program with code 2.
ParsedCommandLine ParseCommandLine(CLI::App& app, int argc, char** argv,
                                   const std::string& environment_prefix,
                                   const std::function<absl::Status()>& validate);

}  // namespace yangtuo
