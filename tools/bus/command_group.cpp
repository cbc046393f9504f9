// bus group lsinfo|pause|resume|rm|pending|why|repair: groups of consumers and their state.

#include <algorithm>
#include <cstdio>
#include <memory>

#include "commands.hpp"

namespace tools {

namespace {

struct options {
  std::string stream, group, time;
  std::size_t limit = 100;
  bool force = false;
  std::string name() const { return "group " + group + " of stream " + stream; }
};

std::size_t living(const bus::group_info& group) {
  return static_cast<std::size_t>(std::count_if(group.consumers.begin(), group.consumers.end(),
                                                [](const auto& one) { return one.alive; }));
}

std::string show_age(const std::optional<std::chrono::nanoseconds>& age) {
  return age ? show_duration(*age) : "-";
}

void print_why(const std::vector<std::string>& why) {
  for (const auto& one : why) std::printf("  %s\n", printable(one).c_str());
}

int list(const context& c, const options& o) {
  auto session = c.look("group ls", bus::membership::guest_if_full);
  if (!session) return c.fail(session.error());
  auto groups = session->groups(o.stream);
  if (!groups) return c.fail(groups.error());
  if (c.json) {
    json all = json::array();
    for (const auto& group : *groups) all.push_back(to_json(group));
    std::printf("%s\n", dump(all, true).c_str());
    return 0;
  }
  std::printf("%-16s %-16s %9s %8s %6s %8s %5s %9s  %s\n", "STREAM", "GROUP", "UNCLAIMED",
              "PENDING", "DEAD", "LOST", "CONS.", "OLDEST", "STATE");
  for (const auto& g : *groups)
    std::printf("%-16s %-16s %9llu %8llu %6llu %8llu %5zu %9s  %s\n", g.config.stream.c_str(),
                g.config.name.c_str(), static_cast<unsigned long long>(g.counts.unclaimed),
                static_cast<unsigned long long>(g.counts.pending),
                static_cast<unsigned long long>(g.counts.dead),
                static_cast<unsigned long long>(g.counts.dropped), living(g),
                show_age(g.oldest_age).c_str(),
                g.damaged  ? "DAMAGED"
                : g.paused ? "paused"
                           : "");
  return 0;
}

void print_rules(const bus::group_config& rules) {
  std::string takes, delays;
  for (const auto& pattern : rules.filter) takes += (takes.empty() ? "" : ", ") + pattern;
  if (takes.empty()) takes = "everything";
  std::string headers;
  for (const auto& [key, value] : rules.headers)
    headers += (headers.empty()     ? " with "
                : rules.headers_all ? " and "
                                    : " or ") +
               printable(key) + "=" + printable(value);
  for (const auto delay : rules.backoff)
    delays += (delays.empty() ? "" : ", ") + exact_duration(delay);
  std::printf("takes             %s%s\n", takes.c_str(), headers.c_str());
  std::printf("mode              %s, ack %s, order %s, on_fail %s\n", bus::mode_name(rules.mode),
              bus::ack_name(rules.ack), bus::order_name(rules.order),
              bus::on_fail_name(rules.on_fail));
  std::printf("lease             %s, at most %s\n",
              rules.ack_wait.count() != 0 ? exact_duration(rules.ack_wait).c_str() : "no end",
              exact_duration(rules.max_lease).c_str());
  std::printf("retries           %s, %s (jitter %g)\n",
              rules.max_deliver < 0
                  ? "no limit"
                  : ("up to " + std::to_string(rules.max_deliver) + " failures").c_str(),
              delays.empty() ? "at once" : ("after " + delays).c_str(), rules.jitter);
  std::printf("limits            %u pending, %u delayed, %u parked, %u consumers\n",
              rules.max_ack_pending, rules.max_delayed, rules.max_parked, rules.max_consumers);
  std::printf("idle release      %s\n", exact_duration(rules.idle_release).c_str());
}

void print_counts(const bus::group_info& g) {
  const auto& n = g.counts;
  const auto line = [](const char* what, std::uint64_t count, const char* more = "") {
    std::printf("  %-15s %12llu%s\n", what, static_cast<unsigned long long>(count), more);
  };
  std::string parts;
  for (const auto& [count, what] :
       {std::pair(n.leased, "leased"), std::pair(n.ready, "ready"), std::pair(n.delayed, "delayed"),
        std::pair(n.parked, "parked"), std::pair(n.dying, "dying")})
    if (count != 0) parts += (parts.empty() ? "  " : ", ") + std::to_string(count) + " " + what;
  std::printf("\n%-17s %12llu\n", "messages",
              static_cast<unsigned long long>(n.settled + n.filtered + n.dropped + n.dead +
                                              n.pending + n.unclaimed));
  line("settled", n.settled);
  line("filtered", n.filtered);
  line("dropped", n.dropped, n.dropped != 0 ? "  overwritten before they were claimed" : "");
  line("dead", n.dead);
  line("pending", n.pending, parts.c_str());
  line("unclaimed", n.unclaimed);
  std::printf(
      "\nredelivered %llu, expired %llu, nacked %llu, released %llu, returned after a consumer "
      "died %llu\n",
      static_cast<unsigned long long>(g.redelivered), static_cast<unsigned long long>(g.expired),
      static_cast<unsigned long long>(g.nacked), static_cast<unsigned long long>(g.released),
      static_cast<unsigned long long>(g.returned_by_death));
}

int info(const context& c, const options& o) {
  auto session = c.look("group info", bus::membership::guest_if_full);
  if (!session) return c.fail(session.error());
  auto found = session->group(o.stream, o.group);
  if (!found) return c.fail(found.error());
  const auto& g = *found;
  if (c.json) {
    std::printf("%s\n", dump(to_json(g), true).c_str());
    return 0;
  }
  std::printf("group             %s of stream %s%s\n", g.config.name.c_str(),
              g.config.stream.c_str(), g.paused ? ", paused" : "");
  print_rules(g.config);
  std::printf("dead letters      %s\n",
              g.config.dead_letters ? (std::to_string(g.dead_letters_kept) + " kept").c_str()
                                    : "off: they are dropped");
  std::printf("memory            %s of %s for pending messages\n",
              show_bytes(static_cast<double>(g.hold_used_bytes)).c_str(),
              show_bytes(static_cast<double>(g.config.hold_bytes)).c_str());
  std::printf("oldest message    %s\n", show_age(g.oldest_age).c_str());
  print_counts(g);
  std::printf("\n%-40s %12s %12s\n", "CONSUMER", "CLAIMED", "SETTLED");
  for (const auto& one : g.consumers)
    std::printf("%-40s %12llu %12llu%s%s\n", printable(one.name).c_str(),
                static_cast<unsigned long long>(one.claimed),
                static_cast<unsigned long long>(one.settled), one.alive ? "" : "  dead",
                g.config.mode != bus::group_mode::shared && one.active ? "  active" : "");
  if (!g.why.empty()) std::printf("\nwhy\n");
  print_why(g.why);
  return 0;
}

int why(const context& c, const options& o) {
  auto session = c.look("group why", bus::membership::guest_if_full);
  if (!session) return c.fail(session.error());
  auto found = session->group(o.stream, o.group);
  if (!found) return c.fail(found.error());
  if (c.json) {
    std::printf(
        "%s\n",
        dump({{"stream", o.stream}, {"group", o.group}, {"why", found->why}}, true).c_str());
    return 0;
  }
  std::printf("%s: %llu unclaimed, %llu pending, %zu consumers%s\n", o.name().c_str(),
              static_cast<unsigned long long>(found->counts.unclaimed),
              static_cast<unsigned long long>(found->counts.pending), living(*found),
              found->why.empty() ? "; nothing delays it" : "");
  print_why(found->why);
  return 0;
}

int pending(const context& c, const options& o) {
  auto session = c.look("group pending", bus::membership::guest_if_full);
  if (!session) return c.fail(session.error());
  auto messages = session->pending(o.stream, o.group, o.limit);
  if (!messages) return c.fail(messages.error());
  if (c.json) {
    json all = json::array();
    for (const auto& one : *messages) all.push_back(to_json(one));
    std::printf("%s\n", dump(all, true).c_str());
    return 0;
  }
  std::printf("%10s %4s %-8s %6s %9s %9s  %-27s %s\n", "SEQUENCE", "LANE", "STATE", "FAILED", "AGE",
              "LEFT", "HOLDER", "SUBJECT");
  for (const auto& m : *messages) {
    const bool ends = m.state == "leased" || m.state == "delayed";
    std::string holder = m.holder.empty() ? "-" : printable(m.holder);
    if (m.thread != m.pid) holder += ", thread " + std::to_string(m.thread);
    std::printf("%10llu %4u %-8s %6u %9s %9s  %-27s %s\n",
                static_cast<unsigned long long>(m.sequence), m.lane, m.state.c_str(), m.failed,
                show_duration(m.age).c_str(), ends ? show_duration(m.remaining).c_str() : "-",
                holder.c_str(), printable(m.subject).c_str());
  }
  return 0;
}

int pause(const context& c, const options& o) {
  std::optional<std::chrono::nanoseconds> time;
  if (!o.time.empty()) {
    time = parse_duration(o.time);
    if (!time)
      return c.usage("invalid --for '" + o.time + "'", "it is not a duration such as 30s or 5m");
  }
  auto session = c.look("group pause", bus::membership::guest_if_full);
  if (!session) return c.fail(session.error());
  return c.say(session->pause_group(o.stream, o.group, time),
               o.name() + " is paused " +
                   (time ? "for " + exact_duration(*time) : std::string("until bus group resume")));
}

int resume(const context& c, const options& o) {
  auto session = c.look("group resume", bus::membership::guest_if_full);
  if (!session) return c.fail(session.error());
  return c.say(session->resume_group(o.stream, o.group), o.name() + " is resumed");
}

int remove(const context& c, const options& o) {
  auto session = c.look("group rm", bus::membership::guest_if_full);
  if (!session) return c.fail(session.error());
  if (!o.force) {
    auto found = session->group(o.stream, o.group);
    if (!found && found.error().code != bus::errc::corrupt) return c.fail(found.error());
    std::string why;
    if (found) {
      for (const auto& one : found->consumers)
        if (one.alive && why.empty()) why = one.name + " consumes it";
      if (why.empty() && found->dead_letters_kept != 0)
        why = std::to_string(found->dead_letters_kept) + " dead letters would be removed with it";
    }
    if (!why.empty())
      return c.fail(
          {bus::errc::conflict, 0, "cannot remove the " + o.name(), why,
           "stop the consumer, or export the dead letters (bus dlq export), or use --force"});
  }
  return c.say(session->remove_group(o.stream, o.group), o.name() + " removed");
}

int repair(const context& c, const options& o) {
  auto session = c.open("group repair", false);
  if (!session) return c.fail(session.error());
  auto dropped = session->repair_group(o.stream, o.group);
  if (!dropped) return c.fail(dropped.error());
  if (c.json)
    std::printf("%s\n",
                dump({{"stream", o.stream}, {"group", o.group}, {"dropped", *dropped}}).c_str());
  else
    std::printf("%s repaired; %u invalid entries were dropped\n", o.name().c_str(), *dropped);
  return 0;
}

using action = int (*)(const context&, const options&);

}  // namespace

void add_group(CLI::App& app, context& c) {
  auto o = std::make_shared<options>();
  auto* command = app.add_subcommand(
      "group", "Groups of consumers: add, take messages, inspect, pause and remove");
  command->require_subcommand(1);
  const auto plain = [&](const char* name, const char* text, action act) {
    auto* sub = command->add_subcommand(name, text);
    sub->callback([o, act, &c] { c.run = [o, act, &c] { return act(c, *o); }; });
    return sub;
  };
  const auto named = [&](const char* name, const char* text, action act) {
    auto* sub = plain(name, text, act);
    sub->add_option("stream", o->stream, "Name of the stream")->required();
    sub->add_option("group", o->group, "Name of the group")->required();
    return sub;
  };
  plain("ls", "List the groups of a stream, or of all", list)
      ->add_option("stream", o->stream, "Name of the stream");
  add_group_add(*command, c);
  add_group_next(*command, c);
  named("info", "Show a group: rules, counts, consumers, the oldest message", info);
  named("why", "Show why a group delivers nothing, or what delays it", why);
  auto* listing =
      named("pending",
            "Show which consumer holds which message, and messages that wait for a retry", pending);
  listing->add_option("--limit,-n", o->limit, "At most this many")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  listing->footer("Example:\n  bus group pending orders workers --limit 20");
  auto* pausing = named("pause", "Stop handing out messages; claimed ones stay claimed", pause);
  pausing->add_option("--for", o->time, "For this long (default: until resume)");
  pausing->footer("Example:\n  bus group pause orders workers --for 10m");
  named("resume", "Resume after a pause", resume);
  named("repair", "Rebuild the group's indexes when its state is damaged", repair);
  named("rm", "Remove a group with its dead letters; the stream stays", remove)
      ->add_flag("--force", o->force, "Even if it has consumers or dead letters");
  command->footer(
      "Example:\n  bus stream add orders --subjects 'orders.>'\n  bus group add orders workers\n"
      "  bus pub orders.new 42\n  bus group next orders workers");
}

}  // namespace tools
