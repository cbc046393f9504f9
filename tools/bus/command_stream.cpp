// bus stream lsadd|info|rm, bus ls, bus rm: streams and buses.

#include <cstdio>
#include <memory>

#include "commands.hpp"

namespace tools {

namespace {

struct options {
  std::string name;
  std::vector<std::string> subjects;
  std::string overflow = "block", lanes = "1", ring = "8MiB", max_message = "1MiB", timeout = "5s";
  std::uint32_t max_subjects = bus::stream_config{}.max_subjects,
                max_readers = bus::stream_config{}.max_readers;
  bool ephemeral = false, force = false;
  std::string storage = "memory", fsync = "batch", fsync_interval = "100ms", segment = "64MiB";
  std::string max_age = "0", max_bytes = "0", compress = "none";
  std::uint64_t max_messages = 0, per_subject = 0;
};

/// Reads the options of a log. Empty: they are valid.
std::optional<int> read_log_options(const context& c, const options& o,
                                    bus::stream_config& config) {
  auto storage = bus::parse_storage(o.storage);
  if (!storage) return c.fail(storage.error());
  auto fsync = bus::parse_fsync(o.fsync);
  if (!fsync) return c.fail(fsync.error());
  auto compress = bus::parse_compression(o.compress);
  if (!compress) return c.fail(compress.error());
  const auto interval = parse_duration(o.fsync_interval), age = parse_duration(o.max_age);
  const auto segment = parse_bytes(o.segment), bytes = parse_bytes(o.max_bytes);
  if (!interval)
    return c.usage("invalid --fsync-interval '" + o.fsync_interval + "'",
                   "it is not a duration such as 100ms");
  if (!age)
    return c.usage("invalid --max-age '" + o.max_age + "'", "it is not a duration such as 7d");
  if (!segment)
    return c.usage("invalid --segment-bytes '" + o.segment + "'", "it is not a size such as 64MiB");
  if (!bytes)
    return c.usage("invalid --max-bytes '" + o.max_bytes + "'", "it is not a size such as 10GiB");
  config.storage = *storage;
  config.fsync = *fsync;
  config.fsync_interval = *interval;
  config.compress = *compress;
  config.segment_bytes = *segment;
  config.max_age = *age;
  config.max_bytes = *bytes;
  config.max_messages = o.max_messages;
  config.max_messages_per_subject = o.per_subject;
  return std::nullopt;
}

void add_log_options(CLI::App* command, options& o) {
  command->add_option("--fsync", o.fsync, "When the log is synced: batch, interval or never")
      ->capture_default_str();
  command->add_option("--fsync-interval", o.fsync_interval, "With --fsync interval")
      ->capture_default_str();
  command->add_option("--max-age", o.max_age, "Remove older messages; 0: keep all")
      ->capture_default_str();
  command->add_option("--max-bytes", o.max_bytes, "Remove the oldest above this; 0: no limit")
      ->capture_default_str();
  command->add_option("--compress", o.compress, "Compression of full log files: none or zstd")
      ->capture_default_str();
  command->add_option("--max-messages", o.max_messages, "Keep at most this many; 0: no limit")
      ->capture_default_str();
  command
      ->add_option("--max-messages-per-subject", o.per_subject,
                   "Keep this many newest messages of each subject and remove older ones in the "
                   "background; 0: keep all")
      ->capture_default_str();
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ",") + part;
  return text;
}

/// The limits of the log as text.
std::string kept(const bus::stream_config& config) {
  std::vector<std::string> limits;
  if (config.max_age.count() != 0) limits.push_back(exact_duration(config.max_age));
  if (config.max_bytes != 0) limits.push_back(show_bytes(static_cast<double>(config.max_bytes)));
  if (config.max_messages != 0) limits.push_back(std::to_string(config.max_messages) + " messages");
  std::string text;
  for (const std::string& limit : limits) text += (text.empty() ? "" : " or ") + limit;
  if (config.max_messages_per_subject != 0)
    text += (text.empty() ? "" : ", ") + std::string("the newest ") +
            std::to_string(config.max_messages_per_subject) + " of each subject";
  return text.empty() ? "everything" : text + ", per lane";
}

int list(const context& c) {
  auto session = c.look("stream ls");
  if (!session) return c.fail(session.error());
  auto streams = session->streams();
  if (!streams) return c.fail(streams.error());
  if (c.json) {
    json all = json::array();
    for (const auto& stream : *streams) all.push_back(to_json(stream));
    std::printf("%s\n", dump(all, true).c_str());
    return 0;
  }
  std::printf("%-24s %-8s %-12s %5s %10s %12s %9s  %s\n", "STREAM", "STORAGE", "OVERFLOW", "LANES",
              "RING", "MESSAGES", "SUBJECTS", "CAPTURES");
  for (const auto& s : *streams)
    std::printf("%-24s %-8s %-12s %5zu %10s %12llu %9u  %s\n", s.config.name.c_str(),
                bus::storage_name(s.config.storage), bus::overflow_name(s.config.overflow),
                s.lanes.size(), show_bytes(static_cast<double>(s.config.ring_bytes)).c_str(),
                static_cast<unsigned long long>(s.messages()), s.subjects_interned,
                joined(s.config.subjects).c_str());
  return 0;
}

int add(const context& c, const options& o) {
  bus::stream_config config;
  config.name = o.name;
  config.subjects = o.subjects;
  auto overflow = bus::parse_overflow(o.overflow);
  if (!overflow) return c.fail(overflow.error());
  config.overflow = *overflow;
  if (o.lanes == "publisher") {
    config.mode = bus::lane_mode::per_publisher;
    config.lanes = 64;
  } else {
    const auto lanes = parse_bytes(o.lanes);
    if (!lanes || *lanes > 64)
      return c.usage("invalid --lanes '" + o.lanes + "'", "it must be 1 to 64, or 'publisher'");
    config.lanes = static_cast<std::uint32_t>(*lanes);
  }
  const auto ring = parse_bytes(o.ring), message = parse_bytes(o.max_message);
  const auto timeout = parse_duration(o.timeout);
  if (!ring)
    return c.usage("invalid --ring-bytes '" + o.ring + "'", "it is not a size such as 8MiB");
  if (!message)
    return c.usage("invalid --max-message-bytes '" + o.max_message + "'",
                   "it is not a size such as 64KiB");
  if (!timeout)
    return c.usage("invalid --send-timeout '" + o.timeout + "'", "it is not a duration such as 5s");
  config.ring_bytes = *ring;
  config.max_message_bytes = *message;
  config.send_timeout = *timeout;
  config.max_subjects = o.max_subjects;
  config.max_readers = o.max_readers;
  config.ephemeral = o.ephemeral;
  if (const auto status = read_log_options(c, o, config)) return *status;
  auto session = c.open("stream add", true);
  if (!session) return c.fail(session.error());
  auto added = session->add_stream(config);
  if (!added) return c.fail(added.error());
  if (c.json) {
    auto info = session->stream(o.name);
    if (info) std::printf("%s\n", dump(to_json(*info), true).c_str());
  } else {
    std::printf("stream %s captures %s\n", o.name.c_str(), joined(o.subjects).c_str());
  }
  return 0;
}

int info(const context& c, const options& o) {
  auto session = c.look("stream info");
  if (!session) return c.fail(session.error());
  auto found = session->stream(o.name);
  if (!found) return c.fail(found.error());
  const auto& s = *found;
  auto groups = session->groups(o.name);
  if (c.json) {
    json object = to_json(s);
    object["groups"] = json::array();
    if (groups)
      for (const auto& group : *groups) object["groups"].push_back(group.config.name);
    std::printf("%s\n", dump(object, true).c_str());
    return 0;
  }
  std::printf(
      "stream            %s\ncaptures          %s\noverflow          %s\nsend timeout      "
      "%s\nring per lane     %s\nlargest message   %s\nsubjects          %u of %u\ncreated         "
      "  %s\n",
      s.config.name.c_str(), joined(s.config.subjects).c_str(),
      bus::overflow_name(s.config.overflow), show_duration(s.config.send_timeout).c_str(),
      show_bytes(static_cast<double>(s.config.ring_bytes)).c_str(),
      show_bytes(static_cast<double>(s.config.max_message_bytes)).c_str(), s.subjects_interned,
      s.config.max_subjects, show_time(s.created).c_str());
  if (s.config.storage != bus::storage_class::memory)
    std::printf("storage           %s, epoch %llu%s\n", bus::storage_name(s.config.storage),
                static_cast<unsigned long long>(s.epoch), s.sealed ? ", sealed" : "");
  if (s.config.storage == bus::storage_class::durable) {
    std::printf("synced            %s\n",
                s.config.fsync == bus::fsync_policy::interval
                    ? ("every " + exact_duration(s.config.fsync_interval)).c_str()
                : s.config.fsync == bus::fsync_policy::batch
                    ? "with every commit"
                    : "never: when the kernel writes it back");
    std::printf("keeps             %s\n", kept(s.config).c_str());
    std::printf(
        "log files         of %s, %s\n",
        show_bytes(static_cast<double>(s.config.segment_bytes)).c_str(),
        s.config.compress == bus::compression::none ? "not compressed" : "compressed when full");
    for (const auto& lane : s.lanes)
      std::printf("on disk           lane %u to sequence %llu\n", lane.index,
                  static_cast<unsigned long long>(lane.durable_sequence));
  }
  std::printf("\n%4s %12s %12s %12s %9s %9s %8s %9s\n", "LANE", "FIRST", "LAST", "HELD", "DROPPED",
              "REJECTED", "BLOCKED", "REPAIRED");
  for (const auto& lane : s.lanes)
    std::printf("%4u %12llu %12llu %12s %9llu %9llu %8llu %9llu\n", lane.index,
                static_cast<unsigned long long>(lane.first_sequence),
                static_cast<unsigned long long>(lane.last_sequence),
                show_bytes(static_cast<double>(lane.used_bytes)).c_str(),
                static_cast<unsigned long long>(lane.dropped),
                static_cast<unsigned long long>(lane.rejected),
                static_cast<unsigned long long>(lane.blocked),
                static_cast<unsigned long long>(lane.repaired));
  if (!groups) return c.fail(groups.error());
  for (const auto& g : *groups)
    std::printf("%sgroup %-24s %llu unclaimed, %llu pending, %llu dead letters\n",
                &g == &groups->front() ? "\n" : "", g.config.name.c_str(),
                static_cast<unsigned long long>(g.counts.unclaimed),
                static_cast<unsigned long long>(g.counts.pending),
                static_cast<unsigned long long>(g.dead_letters_kept));
  return 0;
}

int remove(const context& c, const options& o) {
  auto session = c.look("stream rm", bus::membership::guest_if_full);
  if (!session) return c.fail(session.error());
  if (!o.force) {
    auto processes = session->processes();
    if (!processes) return c.fail(processes.error());
    for (const auto& process : *processes) {
      if (process.state == bus::process_state::dead) continue;
      const auto uses = [&](const auto& list) {
        return std::any_of(list.begin(), list.end(),
                           [&](const auto& user) { return user.stream == o.name; });
      };
      if (uses(process.publishers) || (o.name != bus::default_stream && uses(process.readers)))
        return c.fail({bus::errc::conflict, 0, "cannot remove the stream '" + o.name + "'",
                       process.name + " (pid " + std::to_string(process.pid) + ") uses it",
                       "stop it, or use --force"});
    }
  }
  auto removed = session->remove_stream(o.name);
  if (!removed) return c.fail(removed.error());
  if (c.json) std::printf("%s\n", dump({{"removed", o.name}}).c_str());
  return 0;
}

int repair(const context& c, const options& o) {
  auto session = c.open("stream repair", false);
  if (!session) return c.fail(session.error());
  auto mended = session->repair_stream(o.name);
  if (!mended) return c.fail(mended.error());
  if (c.json)
    std::printf("%s\n", dump({{"stream", o.name}, {"lanes_repaired", *mended}}).c_str());
  else
    std::printf("%u of the lanes of '%s' needed repair\n", *mended, o.name.c_str());
  return 0;
}

int list_buses(const context& c) {
  const auto root = bus::root_of(c.url);
  if (!root) return c.fail(root.error());
  const auto names = bus::list_buses(*root);
  if (c.json) {
    std::printf("%s\n", dump(json(names)).c_str());
  } else {
    for (const auto& name : names) std::printf("%s\n", name.c_str());
  }
  return 0;
}

}  // namespace

void add_stream(CLI::App& app, context& c) {
  auto o = std::make_shared<options>();
  auto* command =
      app.add_subcommand("stream", "List, add, inspect, check, copy and remove streams");
  command->require_subcommand(1);

  command->add_subcommand("ls", "List the streams")->callback([&c] {
    c.run = [&c] { return list(c); };
  });

  auto* adding = command->add_subcommand("add", "Add a stream that captures subjects");
  adding->add_option("name", o->name, "Name of the stream")->required();
  adding->add_option("--subjects,-s", o->subjects, "Patterns, separated by commas")
      ->required()
      ->delimiter(',');
  adding
      ->add_option("--overflow", o->overflow,
                   "When the ring is full: block, reject, drop_oldest or drop_new")
      ->capture_default_str();
  adding->add_option("--lanes", o->lanes, "Rings: 1 to 64, or 'publisher' for one per publisher")
      ->capture_default_str();
  adding->add_option("--ring-bytes", o->ring, "Size of a ring, a power of two")
      ->capture_default_str();
  adding
      ->add_option("--max-message-bytes", o->max_message,
                   "Largest message; four must fit into a ring")
      ->capture_default_str();
  adding->add_option("--send-timeout", o->timeout, "How long a publisher waits for space (block)")
      ->capture_default_str();
  adding
      ->add_option("--max-subjects", o->max_subjects,
                   "Subjects kept in the table; others travel with their messages")
      ->capture_default_str();
  adding->add_option("--max-readers", o->max_readers, "Subscribers per lane")
      ->capture_default_str();
  adding
      ->add_option("--storage", o->storage,
                   "Where messages go that the ring no longer holds: memory (nowhere), spill (to "
                   "disk while a reader lags), durable (all to disk)")
      ->capture_default_str();
  adding->add_option("--segment-bytes", o->segment, "Size of a log file")->capture_default_str();
  add_log_options(adding, *o);
  adding->add_flag("--ephemeral", o->ephemeral, "Remove it when the last process leaves the bus");
  adding->footer(
      "Example:\n  bus stream add orders --subjects 'orders.>' --overflow block --ring-bytes 4MiB "
      "--max-message-bytes 64KiB\n  bus stream add trades --subjects 'trades.>' --storage durable "
      "--max-age 30d");
  adding->callback([o, &c] { c.run = [o, &c] { return add(c, *o); }; });

  auto* showing = command->add_subcommand("info", "Show one stream and its lanes");
  showing->add_option("name", o->name, "Name of the stream")->required();
  showing->callback([o, &c] { c.run = [o, &c] { return info(c, *o); }; });

  add_log(*command, c);

  auto* removing = command->add_subcommand("rm", "Remove a stream with its messages");
  removing->add_option("name", o->name, "Name of the stream")->required();
  removing->add_flag(
      "--force", o->force,
      "Even if processes use it: their publishers move to another stream or get an error");
  removing->callback([o, &c] { c.run = [o, &c] { return remove(c, *o); }; });

  auto* repairing = command->add_subcommand(
      "repair", "Repair what 'bus doctor' finds in its lanes; no message is lost");
  repairing->add_option("name", o->name, "Name of the stream")->required();
  repairing->callback([o, &c] { c.run = [o, &c] { return repair(c, *o); }; });

  app.add_subcommand("ls", "List your buses on this host")->callback([&c] {
    c.run = [&c] { return list_buses(c); };
  });
  auto* dropping = app.add_subcommand("rm", "Remove the bus with everything in it");
  dropping->add_flag("--force", o->force, "Even if processes use it");
  dropping->callback([o, &c] {
    c.run = [o, &c] {
      auto removed = bus::remove_bus(c.url, o->force);
      return removed ? 0 : c.fail(removed.error());
    };
  });
}

}  // namespace tools
