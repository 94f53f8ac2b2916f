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

// What AddServiceFlags' values have to satisfy: addresses that parse, TLS files that can be read
// and belong together. INVALID_ARGUMENT naming the value.
absl::Status CheckServiceOptions(const ServiceOptions& options);

// Adds the flag --NAME with its opposite --no-NAME; `value` holds the default. Unlike a plain
// CLI11 flag it shows its default in --help and --print-config.
CLI::Option* AddSwitch(CLI::App& app, const std::string& name, bool& value,
                       const std::string& description);

// How a program should go on after parsing.
struct ParsedCommandLine {
  bool run = true;  // false: leave main with `exit_code` (help, version, an error, --check-config)
  int exit_code = 0;  // 2 for wrong usage
};

// Parses with the order flag over environment over file over default. Every long flag "--kv-blocks"
// is also the environment variable PREFIX_KV_BLOCKS and the TOML key "kv-blocks" of the file named
// by --config (or PREFIX_CONFIG). Unknown keys in the file are errors that name the nearest key.
// An option bound to a vector is a list: a repeated flag, a TOML array, or a variable with commas.
// Callbacks of options may run more than once (file, then flag); the last value counts.
// Adds --config, --print-config (effective values as TOML, with where each came from) and
// --check-config (also runs `validate`), and --version. `validate` checks values against each other
// and the disk; its error is printed and ends the program with code 2.
ParsedCommandLine ParseCommandLine(CLI::App& app, int argc, char** argv,
                                   const std::string& environment_prefix,
                                   const std::function<absl::Status()>& validate);

}  // namespace yangtuo
