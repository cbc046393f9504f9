// bus completion: prints a completion script, made from the commands themselves.

#include <cstdio>
#include <memory>

#include "commands.hpp"

namespace tools {

namespace {

struct entry {
  std::string path;   // "stream add"
  std::string words;  // subcommands and options
};

void collect(const CLI::App& app, const std::string& path, std::vector<entry>& all) {
  std::string words;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    words += sub->get_name() + " ";
    collect(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), all);
  }
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) words += "--" + name + " ";
  all.push_back({path, words});
}

int run(const CLI::App& app, const std::string& shell) {
  std::vector<entry> all;
  collect(app, "", all);
  if (shell == "fish") {
    for (const auto& e : all)
      std::printf(
          "complete -c bus -f -n 'test (string join \" \" (commandline -opc)[2..-1] | string "
          "replace -r \" -.*\" \"\") = \"%s\"' -a '%s'\n",
          e.path.c_str(), e.words.c_str());
    return 0;
  }
  if (shell == "zsh") std::printf("#compdef bus\nautoload -U +X bashcompinit && bashcompinit\n");
  std::printf(
      "_bus() {\n  local path= word\n  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
      "    case \"$word\" in -*) break;; *) path=\"${path:+$path }$word\";; esac\n  done\n"
      "  while :; do\n    case \"$path\" in\n");
  for (const auto& e : all)
    std::printf(
        "      '%s') COMPREPLY=($(compgen -W '%s' -- \"${COMP_WORDS[COMP_CWORD]}\")); return;;\n",
        e.path.c_str(), e.words.c_str());
  std::printf(
      "    esac\n    case \"$path\" in *' '*) path=\"${path%% *}\";; *) path=;; esac\n  "
      "done\n}\ncomplete -F _bus bus\n");
  return 0;
}

}  // namespace

void add_completion(CLI::App& app, context& c) {
  auto shell = std::make_shared<std::string>("bash");
  auto* command =
      app.add_subcommand("completion", "Print a completion script: source <(bus completion bash)");
  command->add_option("shell", *shell, "bash, zsh or fish")
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->callback([shell, &app, &c] { c.run = [shell, &app] { return run(app, *shell); }; });
}

}  // namespace tools
