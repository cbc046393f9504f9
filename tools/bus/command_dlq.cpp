// bus dlq lsshow|export|drop: dead letters and their reasons.

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "commands.hpp"

namespace tools {

namespace {

constexpr std::size_t page = 256;
constexpr std::size_t shown_bytes = 1024;

struct options {
  std::string stream, group, file;
  std::uint64_t sequence = 0, upto = 0;
  std::size_t limit = 10;
  bool all = false, raw = false;
};

std::chrono::nanoseconds since(std::chrono::system_clock::time_point t) {
  return std::max<std::chrono::nanoseconds>(std::chrono::system_clock::now() - t,
                                            std::chrono::nanoseconds(0));
}

int list(const context& c, const options& o) {
  auto session = c.look("dlq ls", bus::membership::guest_if_full);
  if (!session) return c.fail(session.error());
  std::vector<bus::group_info> groups;
  if (!o.group.empty()) {
    auto one = session->group(o.stream, o.group);
    if (!one) return c.fail(one.error());
    groups.push_back(std::move(*one));
  } else {
    auto all = session->groups(o.stream);
    if (!all) return c.fail(all.error());
    groups = std::move(*all);
  }
  json rows = json::array();
  if (!c.json)
    std::printf("%-16s %-16s %9s %9s %9s  %s\n", "STREAM", "GROUP", "KEPT", "EVER", "OLDEST",
                "ITS REASON");
  for (const auto& g : groups) {
    auto first = session->dead_letters(g.config.stream, g.config.name, 0, 1);
    if (!first) return c.fail(first.error());
    const auto* oldest = first->empty() ? nullptr : &first->front();
    if (c.json)
      rows.push_back({{"stream", g.config.stream},
                      {"group", g.config.name},
                      {"kept", g.config.dead_letters},
                      {"messages", g.dead_letters_kept},
                      {"dead", g.counts.dead},
                      {"oldest_sequence", oldest ? json(oldest->sequence) : json()},
                      {"oldest_age_ns", oldest ? json(since(oldest->last_time).count()) : json()},
                      {"oldest_reason", oldest ? json(oldest->reason) : json()}});
    else
      std::printf("%-16s %-16s %9llu %9llu %9s  %s\n", g.config.stream.c_str(),
                  g.config.name.c_str(), static_cast<unsigned long long>(g.dead_letters_kept),
                  static_cast<unsigned long long>(g.counts.dead),
                  oldest ? show_duration(since(oldest->last_time)).c_str() : "-",
                  !g.config.dead_letters ? "dlq=none: dropped"
                  : oldest               ? (oldest->reason + (oldest->error.empty() ? "" : ": ") +
                              printable(oldest->error))
                                 .c_str()
                           : "");
  }
  if (c.json) std::printf("%s\n", dump(rows, true).c_str());
  return 0;
}

void print_hex(std::string_view bytes) {
  for (std::size_t at = 0; at < bytes.size(); at += 16) {
    std::string line, text;
    for (std::size_t i = at; i < std::min(at + 16, bytes.size()); ++i) {
      std::array<char, 4> digits{};
      const auto byte = static_cast<unsigned char>(bytes[i]);
      std::snprintf(digits.data(), digits.size(), "%02x ", static_cast<unsigned>(byte));
      line += digits.data();
      text += byte >= 0x20 && byte < 0x7f ? bytes[i] : '.';
    }
    std::printf("  %06zx  %-48s %s\n", at, line.c_str(), text.c_str());
  }
}

void print(const bus::dead_letter& d) {
  std::printf("dead letter %llu of group %s of stream %s\n",
              static_cast<unsigned long long>(d.sequence), d.group.c_str(), d.stream.c_str());
  std::printf("  reason     %s, attempts %u\n", printable(d.reason).c_str(), d.attempts);
  if (!d.error.empty()) std::printf("  error      %s\n", printable(d.error).c_str());
  std::printf("  message    %s, lane %u #%llu\n", printable(d.subject).c_str(), d.origin_lane,
              static_cast<unsigned long long>(d.origin_sequence));
  std::printf("  published  %s\n  first out  %s\n  died       %s (%s ago)\n",
              show_time(d.publish_time).c_str(), show_time(d.first_time).c_str(),
              show_time(d.last_time).c_str(), show_duration(since(d.last_time)).c_str());
  if (!d.process.empty()) std::printf("  consumer   %s\n", printable(d.process).c_str());
  for (const auto& [key, value] : d.headers)
    std::printf("  header     %s: %s\n", printable(key).c_str(), printable(value).c_str());
  std::string_view text = text_of(d.payload);
  const std::size_t more = text.size() > shown_bytes ? text.size() - shown_bytes : 0;
  std::printf("  payload    %zu bytes\n", text.size());
  if (is_utf8(text))
    std::printf("  %s\n", printable(text.substr(0, shown_bytes)).c_str());
  else
    print_hex(text.substr(0, shown_bytes));
  if (more != 0) std::printf("  ... and %zu bytes more: --raw or --json\n", more);
}

int show(const context& c, const options& o) {
  if (o.raw && o.sequence == 0)
    return c.usage("--raw needs a sequence", "it prints the payload of one dead letter");
  auto session = c.look("dlq show", bus::membership::guest_if_full);
  if (!session) return c.fail(session.error());
  auto letters =
      session->dead_letters(o.stream, o.group, o.sequence, o.sequence != 0 ? 1 : o.limit);
  if (!letters) return c.fail(letters.error());
  if (o.sequence != 0 && (letters->empty() || letters->front().sequence != o.sequence))
    return c.fail({bus::errc::not_found, 0, "no dead letter " + std::to_string(o.sequence),
                   "it was removed or never existed", "bus dlq show " + o.stream + " " + o.group});
  for (const auto& letter : *letters) {
    if (c.json) {
      std::printf("%s\n", dump(to_json(letter)).c_str());
    } else if (o.raw) {
      std::fwrite(letter.payload.data(), 1, letter.payload.size(), stdout);
    } else {
      if (&letter != &letters->front()) std::printf("\n");
      print(letter);
    }
  }
  return 0;
}

int write_all(const context& c, const options& o, const bus::session& session, std::FILE* to) {
  std::uint64_t from = 0, count = 0;
  for (;;) {
    auto letters = session.dead_letters(o.stream, o.group, from, page);
    if (!letters) return c.fail(letters.error());
    for (const auto& letter : *letters) {
      std::fprintf(to, "%s\n", dump(to_json(letter)).c_str());
      from = letter.sequence + 1;
      ++count;
    }
    if (letters->size() < page) break;
  }
  if (std::fflush(to) != 0 || std::ferror(to) != 0)
    return c.fail({bus::errc::system, errno, "cannot write the dead letters", std::strerror(errno),
                   "the output is incomplete"});
  if (o.file.empty()) return 0;
  if (c.json)
    std::printf("%s\n", dump({{"file", o.file}, {"messages", count}}).c_str());
  else
    std::printf("%llu dead letters in %s\n", static_cast<unsigned long long>(count),
                o.file.c_str());
  return 0;
}

int write(const context& c, const options& o) {
  auto session = c.look("dlq export", bus::membership::guest_if_full);
  if (!session) return c.fail(session.error());
  auto group = session->group(o.stream, o.group);
  if (!group) return c.fail(group.error());
  if (o.file.empty()) return write_all(c, o, *session, stdout);
  if (std::filesystem::exists(o.file))
    return c.fail({bus::errc::conflict, 0, "cannot write to " + o.file, "the file exists",
                   "choose another name, or move the file away"});
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(o.file.c_str(), "wx"),
                                                       &std::fclose);
  if (!file)
    return c.fail({bus::errc::system, errno, "cannot write to " + o.file, std::strerror(errno),
                   "use another name"});
  return write_all(c, o, *session, file.get());
}

int drop(const context& c, const options& o) {
  auto session = c.open("dlq drop", false);
  if (!session) return c.fail(session.error());
  auto dropped = session->drop_dead_letters(o.stream, o.group, o.all ? ~0ull : o.upto);
  if (!dropped) return c.fail(dropped.error());
  if (c.json)
    std::printf("%s\n",
                dump({{"stream", o.stream}, {"group", o.group}, {"dropped", *dropped}}).c_str());
  else
    std::printf("%llu dead letters dropped\n", static_cast<unsigned long long>(*dropped));
  return 0;
}

}  // namespace

void add_dlq(CLI::App& app, context& c) {
  auto o = std::make_shared<options>();
  auto* command = app.add_subcommand("dlq", "Dead letters: messages that a group gave up");
  command->require_subcommand(1);
  const auto named = [&](const char* name, const char* text) {
    auto* sub = command->add_subcommand(name, text);
    sub->add_option("stream", o->stream, "Name of the stream")->required();
    sub->add_option("group", o->group, "Name of the group")->required();
    return sub;
  };
  auto* listing = command->add_subcommand("ls", "List the number of dead letters per group");
  listing->add_option("stream", o->stream, "Name of the stream");
  listing->add_option("group", o->group, "Name of the group");
  listing->callback([o, &c] { c.run = [o, &c] { return list(c, *o); }; });

  auto* showing = named("show", "Show dead letters: why they died, headers, payload");
  showing->add_option("sequence", o->sequence, "Only this one: its number among the dead letters")
      ->check(CLI::PositiveNumber);
  showing->add_option("--limit,-n", o->limit, "At most this many, the oldest first")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  showing->add_flag("--raw", o->raw, "Print only the payload of one");
  showing->footer("Example:\n  bus dlq show orders workers 7 --raw > payload");
  showing->callback([o, &c] { c.run = [o, &c] { return show(c, *o); }; });

  auto* exporting = named("export", "Write dead letters as JSON lines, without removing them");
  exporting->add_option("--out,-o", o->file, "A new file (default: standard output)");
  exporting->footer(
      "Example:\n  bus dlq export orders workers --out dead.jsonl\n  bus dlq drop orders workers "
      "--all");
  exporting->callback([o, &c] { c.run = [o, &c] { return write(c, *o); }; });

  auto* dropping = named("drop", "Drop dead letters permanently");
  auto* upto = dropping->add_option("--up-to", o->upto, "Those up to this sequence")
                   ->check(CLI::PositiveNumber);
  dropping->add_flag("--all", o->all, "All of them")->excludes(upto);
  dropping->footer("Example:\n  bus dlq drop orders workers --up-to 7");
  dropping->callback([o, &c] {
    c.run = [o, &c] {
      if (!o->all && o->upto == 0)
        return c.usage("nothing to drop", "give --up-to SEQUENCE, or --all");
      return drop(c, *o);
    };
  });
  command->footer("Example:\n  bus dlq ls\n  bus dlq show orders workers");
}

}  // namespace tools
