// bus group next: takes messages of a group one at a time, and prints them or runs a command for
// each.

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "commands.hpp"
#include "worker_command.hpp"

namespace tools {

namespace {

constexpr int retry_status = 75;  // EX_TEMPFAIL of sysexits.h
// Exit status of the shell: the command cannot be executed, or was not found.
constexpr bool was_not_run(int status) { return status == 126 || status == 127; }

struct options {
  std::string stream, group, command, timeout;
  std::uint64_t count = 1;
  std::uint32_t batch = 1;
  bool follow = false, raw = false, fail_on_gap = false;
};

// 1 for the first attempt; a release does not count as one.
std::uint32_t attempt_of(const bus::lease& one) { return one.failed() + 1; }

// While a stopped process holds the group's lock: tries again until interrupted.
template <class Settle>
bus::settle_result settle(Settle&& once) {
  auto outcome = once();
  while (outcome == bus::settle_result::busy && !interrupted()) outcome = once();
  return outcome;
}

int check(const context& c, const bus::lease& one, bus::settle_result outcome) {
  if (outcome == bus::settle_result::ok) return 0;
  return c.fail(
      {outcome == bus::settle_result::busy ? bus::errc::busy : bus::errc::conflict, 0,
       "cannot settle message " + std::to_string(one.sequence()),
       outcome == bus::settle_result::busy
           ? "a stopped process holds the group's lock; the message will be delivered again"
       : outcome == bus::settle_result::closed
           ? "the group, its stream or the bus was removed"
           : "its lease ended, and another consumer holds the message: it is processed twice",
       outcome == bus::settle_result::closed
           ? "bus group ls"
           : "see bus group pending; use a longer --ack-wait or --max-lease"});
}

bool write_out(const context& c, const options& o, const bus::lease& one) {
  std::string text;
  if (c.json) {
    json object = to_json(one.message());
    object["group"] = o.group;
    object["attempt"] = attempt_of(one);
    text = dump(object) + "\n";
  } else {
    text = std::string(one.text()) + (o.raw ? "" : "\n");
  }
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
         std::fflush(stdout) == 0;
}

int print(const context& c, const options& o, bus::lease& one) {
  if (write_out(c, o, one)) return check(c, one, settle([&] { return one.ack(); }));
  const int code = errno;
  (void)settle([&] { return one.release(); });
  return c.fail({bus::errc::system, code, "cannot print message " + std::to_string(one.sequence()),
                 std::strerror(code), "it was returned to the group"});
}

// HEADER "trace-id" is BUS_HEADER_TRACE_ID.
std::string variable_of(std::string_view key) {
  std::string name = "BUS_HEADER_";
  for (const char c : key)
    name += c >= 'a' && c <= 'z'                               ? static_cast<char>(c - 'a' + 'A')
            : (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c
                                                               : '_';
  return name;
}

command_run command_of(const context& c, const options& o, const bus::lease& one) {
  command_run what{o.command, one.text(), {}, c.json};
  auto& set = what.environment;
  set["BUS_SUBJECT"] = one.subject();
  set["BUS_SEQUENCE"] = std::to_string(one.sequence());
  set["BUS_LANE"] = std::to_string(one.message().lane());
  set["BUS_ATTEMPT"] = std::to_string(attempt_of(one));
  set["BUS_STREAM"] = o.stream;
  set["BUS_GROUP"] = o.group;
  if (!c.url.empty()) set["BUS_URL"] = c.url;
  for (const auto& header : one.message().headers())
    set.emplace(variable_of(header.key), std::string(header.value));
  return what;
}

struct verdict {
  const char* word;
  bus::settle_result settled;
};

verdict judge(bus::lease& one, const command_outcome& outcome) {
  if (outcome.interrupted) return {"released", settle([&] { return one.release(); })};
  const std::string said = outcome.last_error.empty() ? "" : ": " + outcome.last_error;
  if (outcome.signal != 0) {
    const std::string why = "killed by signal " + std::to_string(outcome.signal) + " (" +
                            ::strsignal(outcome.signal) + ")" + said;
    return {"nacked", settle([&] { return one.nack({}, why); })};
  }
  if (outcome.status == 0) return {"acked", settle([&] { return one.ack(); })};
  const std::string why = "exit status " + std::to_string(outcome.status) + said;
  if (outcome.status == retry_status || was_not_run(outcome.status))
    return {"nacked", settle([&] { return one.nack({}, why); })};
  return {"rejected", settle([&] { return one.reject(why); })};
}

int work(const context& c, const options& o, bus::lease& one) {
  std::fflush(stdout);
  auto outcome = run_command(command_of(c, o, one));
  if (!outcome) {
    (void)settle([&] { return one.release(); });
    return c.fail(outcome.error());
  }
  const auto done = judge(one, *outcome);
  if (c.json)
    std::printf("%s\n",
                dump({{"sequence", one.sequence()},
                      {"subject", one.subject()},
                      {"lane", one.message().lane()},
                      {"attempt", attempt_of(one)},
                      {"exit_status", outcome->signal != 0 ? json() : json(outcome->status)},
                      {"signal", outcome->signal != 0 ? json(outcome->signal) : json()},
                      {"outcome", done.word},
                      {"result", bus::settle_result_name(done.settled)}})
                    .c_str());
  if (outcome->signal == 0 && was_not_run(outcome->status)) {
    // The command is wrong, not the message: the next messages would fail as well.
    return c.fail({bus::errc::invalid_argument, 0, "cannot run '" + o.command + "'",
                   "exit status " + std::to_string(outcome->status) +
                       (outcome->last_error.empty() ? "" : ": " + outcome->last_error),
                   "fix the command; the message is delivered again after the group's back-off"});
  }
  return check(c, one, done.settled);
}

int nothing_came(const context& c, const options& o, const bus::session& session) {
  if (interrupted())
    return c.fail({bus::errc::system, 0, "no message was taken", "interrupted", ""});
  std::string why;
  if (auto info = session.group(o.stream, o.group))
    for (const auto& one : info->why) why += (why.empty() ? "" : "; ") + one;
  return c.fail(
      {bus::errc::timed_out, 0, "no message of group '" + o.group + "' arrived within " + o.timeout,
       why.empty() ? "none was waiting" : why, "bus group why " + o.stream + " " + o.group});
}

int run(const context& c, const options& o) {
  std::chrono::nanoseconds patience = std::chrono::hours(24 * 365);
  if (!o.timeout.empty()) {
    const auto timeout = parse_duration(o.timeout);
    if (!timeout)
      return c.usage("invalid --timeout '" + o.timeout + "'",
                     "it is not a duration such as 500ms or 5s");
    patience = *timeout;
  }
  auto session = c.open("group next", false);
  if (!session) return c.fail(session.error());
  auto info = session->group(o.stream, o.group);  // a consumer would create the group
  if (!info) return c.fail(info.error());
  bus::consumer_options how;
  how.stream = o.stream;
  how.group = o.group;
  how.keep_alive = true;
  how.wait = bus::wait_strategy::block;
  bool gap_seen = false;
  how.on_gap = [&](const bus::gap& gap) {
    gap_seen = true;
    if (c.json)
      std::printf("%s\n", dump(to_json(gap)).c_str());
    else
      std::fprintf(stderr, "bus: %llu messages of stream %s lost, from #%llu\n",
                   static_cast<unsigned long long>(gap.count), std::string(gap.stream).c_str(),
                   static_cast<unsigned long long>(gap.first));
  };
  if (info->config.ack != bus::ack_policy::none)
    how.prefetch =
        o.follow ? o.batch : static_cast<std::uint32_t>(std::min<std::uint64_t>(o.batch, o.count));
  auto consumer = session->consume("", how);
  if (!consumer) return c.fail(consumer.error());
  catch_interrupts([&] { consumer->stop(); });

  std::uint64_t taken = 0;
  int status = 0;
  while (status == 0 && (o.follow || taken < o.count)) {
    auto one = consumer->next(patience);
    if (gap_seen && o.fail_on_gap) {
      if (one) (void)settle([&] { return one->release(); });
      return exit_loss;
    }
    if (!one) break;
    ++taken;
    status = o.command.empty() ? print(c, o, *one) : work(c, o, *one);
    // Stale or settled: continues with the next message.
    if (o.follow && status == bus::exit_status(bus::errc::conflict)) status = 0;
  }
  if (status != 0) return status;
  if (consumer->failure()) return c.fail(*consumer->failure());
  return o.follow || taken == o.count ? 0 : nothing_came(c, o, *session);
}

}  // namespace

void add_group_next(CLI::App& group, context& c) {
  auto o = std::make_shared<options>();
  auto* command =
      group.add_subcommand("next", "Take messages: print them, or run a command for each");
  command->add_option("stream", o->stream, "Name of the stream")->required();
  command->add_option("group", o->group, "Name of the group")->required();
  command->add_option("--exec,-e", o->command,
                      "Command for /bin/sh, with the payload on its standard input");
  command->add_option("--timeout", o->timeout,
                      "Exit after this long without a message: status 6, with --follow status 0");
  auto* count = command->add_option("--count,-n", o->count, "How many messages")
                    ->capture_default_str()
                    ->check(CLI::PositiveNumber);
  command->add_flag("--follow,-f", o->follow, "Continue until interrupted")->excludes(count);
  command->add_option("--batch", o->batch, "Messages to claim at a time, 1 to 1000")
      ->capture_default_str()
      ->check(CLI::Range(1u, 1000u));
  command->add_flag("--raw", o->raw, "Print the payload only, without a newline");
  command->add_flag("--fail-on-gap", o->fail_on_gap,
                    "Exit with status 8 if messages were lost before a consumer claimed them");
  command->footer(
      "The command's exit status settles the message: 0: done; 75: retried after the back-off; "
      "any\n"
      "other: a dead letter, with the last line of its standard error; killed by a signal: "
      "retried.\n"
      "126 and 127 (the command cannot be run): retried, and bus group next exits with an error.\n"
      "Its environment has BUS_SUBJECT, BUS_SEQUENCE, BUS_ATTEMPT (from 1), BUS_STREAM, "
      "BUS_GROUP,\n"
      "BUS_LANE and BUS_HEADER_KEY of each header. The lease is extended while it runs. On SIGINT\n"
      "or SIGTERM it has 5 seconds to finish; then it is terminated, and the message returns to "
      "the\n"
      "group.\n\n"
      "Examples:\n"
      "  bus group next orders workers\n"
      "  bus group next orders workers --follow --exec ./worker.sh\n"
      "  bus group next orders workers -f -e 'curl -sf --data-binary @- http://localhost/in || "
      "exit 75'");
  command->callback([o, &c] { c.run = [o, &c] { return run(c, *o); }; });
}

}  // namespace tools
