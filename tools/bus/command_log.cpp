// bus stream viewget|gaps|verify|purge|seal|edit|backup|restore: the messages of a stream, and its
//                log.

#include <cstdio>
#include <filesystem>
#include <memory>

#include "commands.hpp"
#include "progress.hpp"

namespace tools {

namespace {

struct options {
  std::string name, directory, to, from, subject, since, as;
  std::uint64_t sequence = 0, count = 20, below = 0;
  std::uint32_t lane = 0;
  bool all = false, off = false, raw = false, force = false, damaged = false;
  std::string max_age, max_bytes, fsync, fsync_interval, compress, timeout;
  std::optional<std::uint64_t> max_messages, per_subject;
};

void print(const context& c, const options& o, const bus::message& m) {
  if (c.json) {
    std::printf("%s\n", dump(to_json(m)).c_str());
  } else if (o.raw) {
    std::fwrite(m.text().data(), 1, m.size(), stdout);
  } else {
    std::printf("%s  lane %u #%llu  %s  %s\n", show_time(m.publish_time()).c_str(), m.lane(),
                static_cast<unsigned long long>(m.sequence()), printable(m.subject()).c_str(),
                printable(m.text()).c_str());
  }
}

// Calls `fn` for the existing messages from `start` on, until it returns false.
template <class Fn>
int each_message(const context& c, bus::session& session, const bus::stream_info& stream,
                 const std::vector<std::string>& patterns, bus::start start, Fn&& fn) {
  const std::vector<std::string_view> views(patterns.begin(), patterns.end());
  for (const auto& lane : stream.lanes) {
    if (lane.last_sequence == 0) continue;
    bus::subscriber_options how;
    how.stream = stream.config.name;
    how.lane = lane.index;
    how.gate = false;
    how.start = start;
    how.name = "bus stream view";
    auto subscriber = session.subscribe(views, how);
    if (!subscriber) return c.fail(subscriber.error());
    // Only what exists already is read; later messages are not awaited.
    while (auto m = subscriber->next(std::chrono::milliseconds(50))) {
      if (m->sequence() > lane.last_sequence || !fn(*m)) break;
      if (m->sequence() == lane.last_sequence) break;
    }
    if (subscriber->failure()) return c.fail(*subscriber->failure());
  }
  return 0;
}

int view(const context& c, const options& o) {
  auto session = c.open("stream view", false);
  if (!session) return c.fail(session.error());
  auto stream = session->stream(o.name);
  if (!stream) return c.fail(stream.error());
  bus::start start = bus::start::all();
  if (o.sequence != 0) start = bus::start::by_sequence(o.sequence);
  if (!o.since.empty()) {
    const auto since = parse_time(o.since);
    if (!since)
      return c.usage("invalid --since '" + o.since + "'",
                     "use 5m (ago), 10:15:00 or 2026-11-22T10:15:00");
    start = bus::start::by_time(*since);
  }
  const std::vector<std::string> patterns =
      o.subject.empty() ? std::vector<std::string>{">"} : std::vector<std::string>{o.subject};
  std::uint64_t seen = 0;
  return each_message(c, *session, *stream, patterns, start, [&](const bus::message& m) {
    print(c, o, m);
    return ++seen < o.count || o.all;
  });
}

int get(const context& c, const options& o) {
  auto session = c.open("stream get", false);
  if (!session) return c.fail(session.error());
  auto stream = session->stream(o.name);
  if (!stream) return c.fail(stream.error());
  bus::subscriber_options how;
  how.stream = o.name;
  how.gate = false;
  how.name = "bus stream get";
  if (o.subject.empty()) how.lane = o.lane;
  how.start = o.subject.empty() ? bus::start::by_sequence(o.sequence) : bus::start::last();
  auto subscriber = session->subscribe(o.subject.empty() ? std::string_view(">") : o.subject, how);
  if (!subscriber) return c.fail(subscriber.error());
  const std::uint64_t last =
      o.lane < stream->lanes.size() ? stream->lanes[o.lane].last_sequence : 0;
  if (o.subject.empty() && o.sequence > last)
    return c.fail({bus::errc::not_found, 0, "no message " + std::to_string(o.sequence),
                   "the last one of lane " + std::to_string(o.lane) + " is " + std::to_string(last),
                   "bus stream info " + o.name});
  auto m = subscriber->next(std::chrono::milliseconds(200));
  if (subscriber->failure()) return c.fail(*subscriber->failure());
  if (!m || (o.subject.empty() && m->sequence() != o.sequence))
    return c.fail({bus::errc::not_found, 0,
                   o.subject.empty() ? "no message " + std::to_string(o.sequence)
                                     : "no message of '" + o.subject + "'",
                   "it was removed or never existed", "bus stream view " + o.name});
  print(c, o, *m);
  return 0;
}

bus::result<std::string> log_directory(const context& c, const options& o, const char* as) {
  if (!o.directory.empty()) return o.directory;
  if (o.name.empty())
    return bus::error{bus::errc::invalid_argument, 0, "no log given",
                      "neither a name nor --dir was given",
                      "name a stream (bus stream ls), or give the directory of a log: --dir DIR"};
  auto session = c.open(as, false);
  if (!session) return std::move(session.error());
  auto stream = session->stream(o.name);
  if (!stream) return std::move(stream.error());
  if (stream->log_directory.empty())
    return bus::error{bus::errc::not_found, 0, "stream '" + o.name + "' has no log",
                      std::string("its storage is ") + bus::storage_name(stream->config.storage),
                      "create it with --storage durable"};
  return stream->log_directory;
}

json gap_json(const bus::gap& one) {
  return {{"lane", one.lane},
          {"first", one.first},
          {"count", one.count},
          {"reason", bus::gap_reason_name(one.reason)}};
}

json damage_json(const bus::log_damage& one) {
  return {{"file", one.file},       {"offset", one.offset},
          {"bytes", one.bytes},     {"first_sequence", one.first_sequence},
          {"missing", one.missing}, {"why", one.why}};
}

void print_damage(const bus::log_damage& one) {
  if (!one.why.empty())
    std::printf("  DAMAGED: %s: %s\n", one.file.c_str(), one.why.c_str());
  else if (one.missing != 0)
    std::printf("  DAMAGED: %llu bytes at %llu in %s: %llu messages are missing, from #%llu\n",
                static_cast<unsigned long long>(one.bytes),
                static_cast<unsigned long long>(one.offset), one.file.c_str(),
                static_cast<unsigned long long>(one.missing),
                static_cast<unsigned long long>(one.first_sequence));
  else
    std::printf("  DAMAGED: %llu bytes at %llu in %s, near #%llu: no message is missing\n",
                static_cast<unsigned long long>(one.bytes),
                static_cast<unsigned long long>(one.offset), one.file.c_str(),
                static_cast<unsigned long long>(one.first_sequence));
}

int verify(const context& c, const options& o, bool gaps_only) {
  auto directory = log_directory(c, o, gaps_only ? "stream gaps" : "stream verify");
  if (!directory) return c.fail(directory.error());
  progress_bar bar(gaps_only ? "reading" : "verifying", !c.json);
  auto report = bus::verify_log(
      *directory, [&](std::uint64_t done, std::uint64_t all) { bar.show(done, all); });
  bar.done();
  if (!report) return c.fail(report.error());
  const bool whole = report->is_whole();
  if (c.json) {
    json lanes = json::array();
    for (const auto& lane : report->lanes) {
      json gaps = json::array(), damages = json::array();
      for (const auto& one : lane.gaps) gaps.push_back(gap_json(one));
      for (const auto& one : lane.damages) damages.push_back(damage_json(one));
      lanes.push_back({{"lane", lane.lane},
                       {"first_sequence", lane.first_sequence},
                       {"last_sequence", lane.last_sequence},
                       {"messages", lane.messages},
                       {"bytes", lane.bytes},
                       {"segments", lane.segments},
                       {"gaps", std::move(gaps)},
                       {"damages", std::move(damages)}});
    }
    json damages = json::array();
    for (const auto& one : report->damages) damages.push_back(damage_json(one));
    json whole_report = {{"directory", report->directory}, {"whole", whole},
                         {"subjects", report->subjects},   {"messages", report->messages()},
                         {"damages", std::move(damages)},  {"lanes", std::move(lanes)}};
    if (report->announced) whole_report["announced"] = *report->announced;
    std::printf("%s\n", dump(whole_report, true).c_str());
    return whole || gaps_only ? 0 : bus::exit_status(bus::errc::corrupt);
  }
  for (const auto& lane : report->lanes) {
    if (!gaps_only)
      std::printf("lane %u: sequences %llu to %llu, %llu messages, %s in %llu segments\n",
                  lane.lane, static_cast<unsigned long long>(lane.first_sequence),
                  static_cast<unsigned long long>(lane.last_sequence),
                  static_cast<unsigned long long>(lane.messages),
                  show_bytes(static_cast<double>(lane.bytes)).c_str(),
                  static_cast<unsigned long long>(lane.segments));
    for (const auto& one : lane.gaps)
      std::printf("  lane %u: %llu sequences from #%llu are missing: %s\n", lane.lane,
                  static_cast<unsigned long long>(one.count),
                  static_cast<unsigned long long>(one.first), bus::gap_reason_name(one.reason));
    for (const auto& one : lane.damages)
      if (!gaps_only) print_damage(one);
  }
  if (gaps_only) return 0;
  for (const auto& one : report->damages) print_damage(one);
  if (report->announced)
    std::printf("backup: %llu of %llu messages\n",
                static_cast<unsigned long long>(report->messages()),
                static_cast<unsigned long long>(*report->announced));
  std::printf("%s\n", whole
                          ? "intact: every byte is as it was written"
                          : "DAMAGED: what is intact is still delivered; restore from a backup, or "
                            "replay the missing sequences from their source");
  return whole ? 0 : bus::exit_status(bus::errc::corrupt);
}

int backup(const context& c, const options& o) {
  auto directory = log_directory(c, o, "stream backup");
  if (!directory) return c.fail(directory.error());
  progress_bar bar("copying", !c.json);
  auto copied = bus::copy_log(*directory, o.to,
                              [&](std::uint64_t done, std::uint64_t all) { bar.show(done, all); });
  bar.done();
  if (!copied) return c.fail(copied.error());
  const std::uint64_t messages = copied->messages();
  const bool whole = copied->is_whole();
  if (c.json)
    std::printf("%s\n", dump({{"to", o.to}, {"messages", messages}, {"whole", whole}}).c_str());
  else
    std::printf("%llu messages in %s%s\n", static_cast<unsigned long long>(messages), o.to.c_str(),
                whole ? "" : ", DAMAGED like the log itself: bus stream verify --dir shows where");
  return whole ? 0 : bus::exit_status(bus::errc::corrupt);
}

int edit(const context& c, const options& o) {
  auto session = c.open("stream edit", false);
  if (!session) return c.fail(session.error());
  auto stream = session->stream(o.name);
  if (!stream) return c.fail(stream.error());
  bus::stream_config config = stream->config;
  const auto duration = [&](const std::string& text, const char* option, auto& into) {
    if (text.empty()) return true;
    const auto parsed = parse_duration(text);
    if (parsed)
      into = *parsed;
    else
      c.usage(std::string("invalid ") + option + " '" + text + "'",
              "it is not a duration such as 7d");
    return parsed.has_value();
  };
  if (!duration(o.max_age, "--max-age", config.max_age) ||
      !duration(o.fsync_interval, "--fsync-interval", config.fsync_interval) ||
      !duration(o.timeout, "--send-timeout", config.send_timeout))
    return exit_usage;
  if (!o.max_bytes.empty()) {
    const auto bytes = parse_bytes(o.max_bytes);
    if (!bytes)
      return c.usage("invalid --max-bytes '" + o.max_bytes + "'", "it is not a size such as 10GiB");
    config.max_bytes = *bytes;
  }
  if (o.max_messages) config.max_messages = *o.max_messages;
  if (o.per_subject) config.max_messages_per_subject = *o.per_subject;
  if (!o.fsync.empty()) {
    auto fsync = bus::parse_fsync(o.fsync);
    if (!fsync) return c.fail(fsync.error());
    config.fsync = *fsync;
  }
  if (!o.compress.empty()) {
    auto compress = bus::parse_compression(o.compress);
    if (!compress) return c.fail(compress.error());
    config.compress = *compress;
  }
  return c.say(session->edit_stream(config), "stream " + o.name + " changed");
}

}  // namespace

void add_log(CLI::App& stream, context& c) {
  auto o = std::make_shared<options>();
  const auto named = [&](const char* name, const char* text) {
    auto* command = stream.add_subcommand(name, text);
    command->add_option("name", o->name, "Name of the stream")->required();
    return command;
  };
  auto* viewing = named("view", "Show the messages of a stream, in its ring and its log");
  viewing->add_option("--from-sequence", o->sequence, "Start with this sequence");
  viewing->add_option("--since", o->since, "Start at a time: 5m (ago), 10:15:00");
  viewing->add_option("--subject", o->subject, "Only these subjects: a pattern");
  viewing->add_option("--count,-n", o->count, "At most this many per lane")->capture_default_str();
  viewing->add_flag("--all", o->all, "All of them");
  viewing->callback([o, &c] { c.run = [o, &c] { return view(c, *o); }; });

  auto* getting = named("get", "Get one message: by sequence, or the last of a subject");
  auto* which = getting->add_option_group("which");
  which->add_option("sequence", o->sequence, "Its sequence")->check(CLI::PositiveNumber);
  which->add_option("--subject", o->subject, "The last message of this subject");
  which->require_option(1);
  getting->add_option("--lane", o->lane, "Lane, if the stream has several")->capture_default_str();
  getting->add_flag("--raw", o->raw, "Only the payload");
  getting->callback([o, &c] { c.run = [o, &c] { return get(c, *o); }; });

  // A log given by its stream's name or by its directory.
  const auto named_or_there = [&](const char* name, const char* text) {
    auto* command = stream.add_subcommand(name, text);
    command->add_option("name", o->name, "Name of the stream");
    command->add_option("--dir", o->directory, "Directory of the log, instead of bus and stream");
    return command;
  };
  auto* missing = named_or_there("gaps", "List the sequences that the log lacks, and why");
  missing->callback([o, &c] { c.run = [o, &c] { return verify(c, *o, true); }; });

  auto* checking =
      named_or_there("verify", "Check every byte of the log; exit status 9 when it is damaged");
  checking->callback([o, &c] { c.run = [o, &c] { return verify(c, *o, false); }; });

  auto* copying = named_or_there("backup", "Copy the log to a directory, while it is written");
  copying->add_option("--to", o->to, "Directory that does not exist yet")->required();
  copying->callback([o, &c] { c.run = [o, &c] { return backup(c, *o); }; });

  auto* restoring = named("restore", "Create a stream from a backup; busd copies it");
  restoring->add_option("--from", o->from, "Directory that bus stream backup made")->required();
  restoring->add_flag("--damaged", o->damaged,
                      "Even if parts of the backup are missing or damaged");
  restoring->callback([o, &c] {
    c.run = [o, &c] {
      auto session = c.open("stream restore", false);
      if (!session) return c.fail(session.error());
      auto counts =
          session->restore_stream(o->name, std::filesystem::absolute(o->from).string(), o->damaged);
      if (!counts) return c.fail(counts.error());
      const bool all = counts->found == counts->announced;
      if (c.json)
        std::printf("%s\n", dump({{"stream", o->name},
                                  {"messages", counts->found},
                                  {"announced", counts->announced}})
                                .c_str());
      else
        std::printf(
            "stream %s restored: %llu of %llu messages; new ones continue above its last "
            "sequence\n",
            o->name.c_str(), static_cast<unsigned long long>(counts->found),
            static_cast<unsigned long long>(counts->announced));
      return all ? 0 : bus::exit_status(bus::errc::corrupt);
    };
  });

  auto* purging = named("purge", "Remove messages from the log");
  auto* below = purging->add_option("--below", o->below, "Those with a lower sequence");
  purging->add_flag("--all", o->all, "All of them")->excludes(below);
  purging->callback([o, below, &c] {
    c.run = [o, below, &c] {
      if (!o->all && below->count() == 0)
        return c.usage("nothing to purge", "give --below SEQUENCE, or --all");
      auto session = c.open("stream purge", false);
      if (!session) return c.fail(session.error());
      return c.say(session->purge_stream(o->name, o->all ? ~0ull : o->below),
                   "stream " + o->name + " purged");
    };
  });

  auto* sealing = named("seal", "Close a stream to publishers");
  sealing->add_flag("--off", o->off, "Open it to publishers again");
  sealing->callback([o, &c] {
    c.run = [o, &c] {
      auto session = c.open("stream seal", false);
      if (!session) return c.fail(session.error());
      return c.say(session->seal_stream(o->name, !o->off),
                   "stream " + o->name + (o->off ? " accepts messages again" : " is sealed"));
    };
  });

  auto* editing = named("edit", "Change the limits of a stream with a log");
  editing->add_option("--max-age", o->max_age, "Remove older messages; 0: keep all");
  editing->add_option("--max-bytes", o->max_bytes, "Remove the oldest above this; 0: no limit");
  editing->add_option("--max-messages", o->max_messages, "Keep at most this many; 0: no limit");
  editing->add_option("--max-messages-per-subject", o->per_subject,
                      "Keep this many newest messages of each subject; 0: keep all");
  editing->add_option("--fsync", o->fsync, "batch, interval or never");
  editing->add_option("--fsync-interval", o->fsync_interval, "With --fsync interval");
  editing->add_option("--compress", o->compress, "Compression of full log files: none or zstd");
  editing->add_option("--send-timeout", o->timeout, "How long a publisher waits for space");
  editing->callback([o, &c] { c.run = [o, &c] { return edit(c, *o); }; });
}

}  // namespace tools
