// bus queue peek: shows the next messages of a group without taking them.

#include <cstdio>
#include <memory>

#include "commands.hpp"

namespace tools {

namespace {

struct options {
  std::string stream, group;
  std::size_t limit = 10;
};

int peek(const context& c, const options& o) {
  auto session = c.look("queue peek", bus::membership::guest_if_full);
  if (!session) return c.fail(session.error());
  auto messages = session->peek(o.stream, o.group, o.limit);
  if (!messages) return c.fail(messages.error());
  for (const auto& m : *messages) {
    if (c.json) {
      std::printf("%s\n", dump(to_json(m)).c_str());
      continue;
    }
    std::string line = show_duration(m.age) + " old  lane " + std::to_string(m.lane) + " #" +
                       std::to_string(m.sequence) + "  " + printable(m.subject);
    for (const auto& [key, value] : m.headers)
      line += "  [" + printable(key) + ": " + printable(value) + "]";
    std::printf("%s  %s\n", line.c_str(), printable(text_of(m.payload)).c_str());
  }
  return 0;
}

}  // namespace

void add_queue(CLI::App& app, context& c) {
  auto o = std::make_shared<options>();
  auto* command = app.add_subcommand("queue", "Inspect messages that wait in a group");
  command->require_subcommand(1);
  auto* peeking =
      command->add_subcommand("peek", "Show the next unclaimed messages without claiming them");
  peeking->add_option("stream", o->stream, "Name of the stream")->required();
  peeking->add_option("group", o->group, "Name of the group")->required();
  peeking->add_option("--limit,-n", o->limit, "At most this many")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  peeking->footer(
      "For claimed messages, and those that wait for a retry: bus group pending.\n"
      "Example:\n  bus queue peek orders workers --limit 3");
  peeking->callback([o, &c] { c.run = [o, &c] { return peek(c, *o); }; });
}

}  // namespace tools
