#include "services/common/config.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "inference_core/base/status_macros.h"
#include "services/common/build_info.h"
#include "services/common/config_file.h"

namespace yangtuo {
namespace {

constexpr int kWrongUsage = 2;

// A value from the file or the environment, and the words for where it came from.
struct Setting {
  std::vector<std::string> values;
  std::string source;
};

using Settings = std::map<std::string, Setting>;

bool IsFlag(const CLI::Option& option) { return option.get_items_expected_max() == 0; }
bool IsList(const CLI::Option& option) { return option.get_items_expected_max() > 1; }
std::string KeyOf(const CLI::Option& option) { return option.get_lnames().front(); }

// The options that have a key: all with a long name but those that only make sense as flags.
std::vector<CLI::Option*> ConfigurableOptions(CLI::App& app) {
  return app.get_options([](const CLI::Option* option) {
    return option->get_configurable() && !option->get_lnames().empty();
  });
}

std::string EnvironmentName(const std::string& prefix, std::string key) {
  std::replace(key.begin(), key.end(), '-', '_');
  return prefix + '_' + absl::AsciiStrToUpper(key);
}

// An empty variable counts as absent: that is how container platforms pass "nothing".
std::optional<std::string> Environment(const std::string& name) {
  const char* const value = std::getenv(name.c_str());  // NOLINT(concurrency-mt-unsafe)
  return value == nullptr || *value == '\0' ? std::nullopt : std::optional<std::string>(value);
}

// The file must be known before the other flags are parsed, because flags overwrite its values.
std::string ConfigPath(int argc, char** argv, const std::string& prefix) {
  std::string path = Environment(EnvironmentName(prefix, "config")).value_or("");
  for (int i = 1; i < argc && std::string_view(argv[i]) != "--"; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--config" && i + 1 < argc) {
      path = argv[i + 1];
    } else if (argument.rfind("--config=", 0) == 0) {
      path = argument.substr(std::string_view("--config=").size());
    }
  }
  return path;
}

absl::Status UnknownKey(const std::string& path, const ConfigEntry& entry,
                        const std::vector<std::string>& known) {
  const std::string nearest = NearestName(entry.key, known);
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s:%d: unknown key \"%s\"%s (--print-config shows all keys)", path, entry.line, entry.key,
      nearest.empty() ? "" : absl::StrFormat("; did you mean \"%s\"?", nearest)));
}

absl::Status ReadFileSettings(const std::string& path, CLI::App& app, Settings& settings) {
  if (path.empty()) {
    return absl::OkStatus();
  }
  std::ifstream in(path);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!in.is_open() || in.bad()) {
    return absl::NotFoundError(absl::StrFormat("cannot read the configuration file %s", path));
  }
  YANGTUO_ASSIGN_OR_RETURN(std::vector<ConfigEntry> entries, ParseConfigFile(path, text));
  std::vector<std::string> known;
  std::map<std::string, const CLI::Option*> options;
  for (const CLI::Option* option : ConfigurableOptions(app)) {
    known.push_back(KeyOf(*option));
    options[known.back()] = option;
  }
  for (ConfigEntry& entry : entries) {
    const auto found = options.find(entry.key);
    if (found == options.end()) {
      return UnknownKey(path, entry, known);
    }
    if (entry.is_array && !IsList(*found->second)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s:%d: \"%s\" takes one value, found a list", path, entry.line, entry.key));
    }
    settings[entry.key] = {.values = std::move(entry.values),
                           .source = absl::StrFormat("file %s:%d", path, entry.line)};
  }
  return absl::OkStatus();
}

// A list in one variable: a TOML array, or the values with commas between them.
absl::StatusOr<std::vector<std::string>> SplitEnvironmentList(const std::string& name,
                                                              const std::string& value) {
  if (value.front() != '[') {
    return std::vector<std::string>(absl::StrSplit(value, ','));
  }
  YANGTUO_ASSIGN_OR_RETURN(const std::vector<ConfigEntry> entries,
                           ParseConfigFile("environment variable " + name, "x = " + value));
  return entries.front().values;
}

absl::Status ReadEnvironmentSettings(const std::string& prefix, CLI::App& app, Settings& settings) {
  for (const CLI::Option* option : ConfigurableOptions(app)) {
    const std::string name = EnvironmentName(prefix, KeyOf(*option));
    const std::optional<std::string> value = Environment(name);
    if (!value.has_value()) {
      continue;
    }
    Setting setting{.values = {*value}, .source = "environment " + name};
    if (IsList(*option)) {
      YANGTUO_ASSIGN_OR_RETURN(setting.values, SplitEnvironmentList(name, *value));
    }
    settings[KeyOf(*option)] = std::move(setting);
  }
  return absl::OkStatus();
}

// CLI11 has no empty lists: its conversion empties the variable and then fails.
void ClearList(CLI::Option& option) {
  const CLI::MultiOptionPolicy policy = option.get_multi_option_policy();
  option.multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  try {
    option.run_callback();
  } catch (const CLI::ConversionError&) {
  }
  option.multi_option_policy(policy);
}

// Puts a setting where the option's default is, so that a flag on the command line overwrites it.
absl::Status ApplySetting(CLI::Option& option, const Setting& setting) {
  try {
    option.clear();
    for (const std::string& value : setting.values) {
      option.add_result(IsFlag(option) ? option.get_flag_value(KeyOf(option), value) : value);
    }
    if (setting.values.empty()) {
      ClearList(option);
    } else {
      option.run_callback();
    }
    option.clear();
    option.required(false);
    return absl::OkStatus();
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %s = %s: %s", setting.source, KeyOf(option),
                        absl::StrJoin(setting.values, ", "), e.what()));
  }
}

absl::StatusOr<Settings> ReadSettings(CLI::App& app, const std::string& path,
                                      const std::string& prefix) {
  Settings settings;
  YANGTUO_RETURN_IF_ERROR(ReadFileSettings(path, app, settings));
  YANGTUO_RETURN_IF_ERROR(ReadEnvironmentSettings(prefix, app, settings));
  for (CLI::Option* option : ConfigurableOptions(app)) {
    if (const auto found = settings.find(KeyOf(*option)); found != settings.end()) {
      YANGTUO_RETURN_IF_ERROR(ApplySetting(*option, found->second));
    }
  }
  return settings;
}

// CLI11 writes the default of a list as "[a,b]".
std::vector<std::string> DefaultValues(const CLI::Option& option) {
  std::string text = option.get_default_str();
  if (IsFlag(option) && text.empty()) {
    return {"false"};
  }
  if (!IsList(option)) {
    return {text};
  }
  if (text.size() >= 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
  }
  if (text.empty() || text == "{}") {
    return {};
  }
  return absl::StrSplit(text, ',');
}

// Where an option's value came from, and the value as it was written there.
Setting Effective(const CLI::Option& option, const Settings& settings) {
  if (option.count() > 0) {
    std::vector<std::string> values = option.results();
    if (!IsList(option)) {
      values = {values.back()};
    }
    return {.values = std::move(values), .source = "flag"};
  }
  const auto found = settings.find(KeyOf(option));
  return found != settings.end() ? found->second
                                 : Setting{.values = DefaultValues(option), .source = "default"};
}

std::string TomlValue(const CLI::Option& option, const std::string& value) {
  const std::string type = option.get_type_name();
  const bool is_number =
      type.rfind("INT", 0) == 0 || type.rfind("UINT", 0) == 0 || type.rfind("FLOAT", 0) == 0;
  return (IsFlag(option) || is_number) && IsTomlLiteral(value) ? value : TomlString(value);
}

std::string PrintedConfig(CLI::App& app, const Settings& settings) {
  std::string text;
  for (const CLI::Option* option : ConfigurableOptions(app)) {
    const Setting effective = Effective(*option, settings);
    std::vector<std::string> values;
    for (const std::string& value : effective.values) {
      values.push_back(TomlValue(*option, value));
    }
    const std::string value = IsList(*option) ? absl::StrFormat("[%s]", absl::StrJoin(values, ", "))
                                              : absl::StrJoin(values, ", ");
    // An absent value is not the same as an empty one, which the option may refuse.
    const bool unset = effective.source == "default" && !IsList(*option) && value == "\"\"";
    absl::StrAppendFormat(&text, "%s%s = %s  # %s\n", unset ? "# " : "", KeyOf(*option), value,
                          effective.source);
  }
  return text;
}

void AddCommonFlags(CLI::App& app, const std::string& prefix) {
  // Read by ConfigPath before CLI11 parses anything; here for --help. CLI11 takes a constant second
  // argument for the description of an option without a variable.
  const std::string config =
      absl::StrFormat("Configuration file (TOML; or %s)", EnvironmentName(prefix, "config"));
  app.add_option("--config", config)->type_name("FILE");
  const std::string print_config = "Print all values and where they came from, then exit";
  app.add_flag("--print-config", print_config);
  const std::string check_config = "Check all values, then exit";
  app.add_flag("--check-config", check_config);
  for (const char* name : {"--config", "--print-config", "--check-config"}) {
    app.get_option(name)->configurable(false)->group("Configuration");
  }
  const BuildInfo build = ThisBuild();
  app.set_version_flag("--version",
                       absl::StrFormat("%s %s (%s, %s)", app.get_name(), build.version,
                                       build.build_type, build.compiler),
                       "Print the version, then exit")
      ->group("Configuration");
  if (app.get_footer().empty()) {
    app.footer(absl::StrFormat(
        "Every long flag --some-flag is also the environment variable %s and the key some-flag\n"
        "of the configuration file. A flag goes before the environment, that before the file.",
        EnvironmentName(prefix, "some-flag")));
  }
}

int Fail(const CLI::App& app, const std::string& message) {
  std::cerr << app.get_name() << ": " << message << '\n';
  return kWrongUsage;
}

// The error of a flag that does not exist, with the nearest one that does.
std::string UnknownFlagHint(CLI::App& app) {
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options({})) {
    known.insert(known.end(), option->get_lnames().begin(), option->get_lnames().end());
  }
  for (const std::string& argument : app.remaining()) {
    if (argument.rfind("--", 0) == 0) {
      const std::string nearest = NearestName(argument.substr(2, argument.find('=') - 2), known);
      return nearest.empty() ? "" : absl::StrFormat("Did you mean --%s?\n", nearest);
    }
  }
  return "";
}

// Nothing when the program should go on; otherwise what to exit with. An error of `settings` goes
// before those of flags, which may follow from it, but not before --help.
std::optional<int> ParseFlags(CLI::App& app, int argc, char** argv, const absl::Status& settings) {
  try {
    app.parse(argc, argv);
    return settings.ok() ? std::nullopt
                         : std::optional<int>(Fail(app, std::string(settings.message())));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0 && !settings.ok()) {
      return Fail(app, std::string(settings.message()));
    }
    const int code = app.exit(error, std::cout, std::cerr);
    if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
      std::cerr << UnknownFlagHint(app);
    }
    return code == 0 ? 0 : kWrongUsage;
  } catch (const std::exception& error) {
    return Fail(app, error.what());
  }
}

}  // namespace

CLI::Option* AddSwitch(CLI::App& app, const std::string& name, bool& value,
                       const std::string& description) {
  return app.add_flag(absl::StrFormat("--%s,!--no-%s", name, name), value, description)
      ->default_function([&value] { return std::string(value ? "true" : "false"); })
      ->capture_default_str();
}

ParsedCommandLine ParseCommandLine(CLI::App& app, int argc, char** argv,
                                   const std::string& environment_prefix,
                                   const std::function<absl::Status()>& validate) {
  AddCommonFlags(app, environment_prefix);
  // The bound variables still hold the defaults here; later they hold what was set.
  for (CLI::Option* option : app.get_options([](const CLI::Option*) { return true; })) {
    option->capture_default_str();
  }
  const absl::StatusOr<Settings> settings =
      ReadSettings(app, ConfigPath(argc, argv, environment_prefix), environment_prefix);
  if (const auto code = ParseFlags(app, argc, argv, settings.status()); code.has_value()) {
    return {.run = false, .exit_code = *code};
  }
  const bool print = app.count("--print-config") > 0;
  if (print) {
    std::cout << PrintedConfig(app, *settings) << std::flush;
  }
  if (const absl::Status valid = validate ? validate() : absl::OkStatus(); !valid.ok()) {
    return {.run = false, .exit_code = Fail(app, std::string(valid.message()))};
  }
  const bool check = app.count("--check-config") > 0;
  if (check && !print) {
    std::cout << "the configuration is valid" << std::endl;
  }
  return {.run = !print && !check, .exit_code = 0};
}

}  // namespace yangtuo
