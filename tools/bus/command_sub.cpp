// bus sub: prints messages as they arrive.

#include <cstdio>
#include <memory>
#include <thread>

#include "commands.hpp"

namespace tools {

namespace {

struct options {
  std::vector<std::string> patterns;
  bool all = false, last = false, raw = false, fail_on_gap = false, no_gate = false, quiet = false;
  std::uint64_t count = 0;
  std::uint64_t from_sequence = 0;
  std::string since, timeout, wait = "adaptive", delay;
};

void print_text(const bus::message& m) {
  std::string line = show_time(m.publish_time()) + "  #" + std::to_string(m.sequence()) + "  " +
                     printable(m.subject());
  for (const auto& h : m.headers())
    line += "  [" + printable(h.key) + ": " + printable(h.value) + "]";
  line += "  " + printable(m.text());
  std::printf("%s\n", line.c_str());
}

int run(const context& c, const options& o) {
  bus::subscriber_options how;
  how.gate = !o.no_gate;
  if (o.all) how.start = bus::start::all();
  if (o.last) how.start = bus::start::last();
  if (o.from_sequence != 0) how.start = bus::start::by_sequence(o.from_sequence);
  if (!o.since.empty()) {
    const auto since = parse_time(o.since);
    if (!since)
      return c.usage("invalid --since '" + o.since + "'",
                     "use 5m (ago), 10:15:00 or 2026-11-22T10:15:00");
    how.start = bus::start::by_time(*since);
  }
  if (o.wait == "spin")
    how.wait = bus::wait_strategy::busy_spin;
  else if (o.wait == "pause")
    how.wait = bus::wait_strategy::spin_pause;
  else if (o.wait == "block")
    how.wait = bus::wait_strategy::block;
  auto idle_limit = std::chrono::nanoseconds(std::chrono::hours(24 * 365));
  if (!o.timeout.empty()) {
    const auto timeout = parse_duration(o.timeout);
    if (!timeout)
      return c.usage("invalid --timeout '" + o.timeout + "'",
                     "it is not a duration such as 500ms or 5s");
    idle_limit = *timeout;
  }
  std::chrono::nanoseconds delay{0};
  if (!o.delay.empty()) {
    const auto parsed = parse_duration(o.delay);
    if (!parsed)
      return c.usage("invalid --delay '" + o.delay + "'", "it is not a duration such as 10ms");
    delay = *parsed;
  }
  bool gap_seen = false;
  how.on_gap = [&](const bus::gap& gap) {
    gap_seen = true;
    if (c.json)
      std::printf("%s\n", dump(to_json(gap)).c_str());
    else if (gap.reason == bus::gap_reason::unsynced && !o.raw && !o.quiet)
      std::printf(
          "-- shared memory was lost here: up to %llu messages of stream %s, from #%llu, none of "
          "them confirmed on disk --\n",
          static_cast<unsigned long long>(gap.count), std::string(gap.stream).c_str(),
          static_cast<unsigned long long>(gap.first));
    else if (!o.raw && !o.quiet)
      std::printf("-- %llu messages of stream %s lost, from #%llu --\n",
                  static_cast<unsigned long long>(gap.count), std::string(gap.stream).c_str(),
                  static_cast<unsigned long long>(gap.first));
    else
      std::fprintf(stderr, "bus: %llu messages of stream %s lost, from #%llu\n",
                   static_cast<unsigned long long>(gap.count), std::string(gap.stream).c_str(),
                   static_cast<unsigned long long>(gap.first));
  };
  auto session = c.open("sub", true);
  if (!session) return c.fail(session.error());
  std::vector<std::string_view> patterns(o.patterns.begin(), o.patterns.end());
  auto subscriber = session->subscribe(patterns, how);
  if (!subscriber) return c.fail(subscriber.error());
  catch_interrupts([&] { subscriber->stop(); });

  std::uint64_t seen = 0;
  bool timed_out = false;
  while (!subscriber->stopped() && (o.count == 0 || seen < o.count) &&
         !(gap_seen && o.fail_on_gap)) {
    const std::size_t budget = o.count == 0 ? 64 : std::min<std::uint64_t>(64, o.count - seen);
    const std::size_t got = subscriber->poll(o.fail_on_gap || delay.count() != 0 ? 1 : budget,
                                             [&](const bus::message& m) {
                                               if (o.fail_on_gap && gap_seen) return;
                                               if (c.json) {
                                                 std::printf("%s\n", dump(to_json(m)).c_str());
                                               } else if (o.raw) {
                                                 std::fwrite(m.text().data(), 1, m.size(), stdout);
                                                 std::fputc('\n', stdout);
                                               } else if (!o.quiet) {
                                                 print_text(m);
                                               }
                                               if (delay.count() != 0)
                                                 std::this_thread::sleep_for(delay);
                                             });
    seen += got;
    if (got != 0) continue;
    if (std::fflush(stdout) != 0) break;  // the output is no longer read
    if (subscriber->failure()) return c.fail(*subscriber->failure());
    if (!subscriber->wait(idle_limit) && !subscriber->stopped()) {
      timed_out = true;
      break;
    }
  }
  std::fflush(stdout);
  if (o.quiet && !c.json)
    std::printf("%llu messages, %llu lost\n", static_cast<unsigned long long>(seen),
                static_cast<unsigned long long>(subscriber->stats().lost));
  if (subscriber->failure()) return c.fail(*subscriber->failure());
  if (gap_seen && o.fail_on_gap) return exit_loss;
  return timed_out && o.count != 0 && seen < o.count ? exit_timeout : 0;
}

}  // namespace

void add_sub(CLI::App& app, context& c) {
  auto o = std::make_shared<options>();
  auto* command = app.add_subcommand("sub", "Subscribe and print messages");
  command
      ->add_option("pattern", o->patterns,
                   "Patterns: a.b.c, * one token, > one or more at the end, # any number anywhere")
      ->required();
  auto* all =
      command->add_flag("--all", o->all, "Start with the oldest message that the rings still hold");
  auto* last = command->add_flag("--last", o->last, "Start with the last message");
  auto* from = command->add_option("--from-sequence", o->from_sequence, "Start with this sequence")
                   ->check(CLI::PositiveNumber);
  auto* since = command->add_option("--since", o->since,
                                    "Start at a time: 5m (ago), 10:15:00, 2026-11-22T10:15:00");
  all->excludes(last)->excludes(from)->excludes(since);
  last->excludes(from)->excludes(since);
  from->excludes(since);
  command->add_option("--count,-n", o->count, "Exit after this many messages")
      ->check(CLI::PositiveNumber);
  command->add_option("--timeout", o->timeout,
                      "Exit after this long without a message; with --count that is exit status 6");
  command->add_flag("--raw", o->raw, "Print payload and newline only");
  command->add_flag("--quiet,-q", o->quiet, "Print only the number of messages, at the end");
  command->add_flag("--fail-on-gap", o->fail_on_gap, "Exit with status 8 if messages were lost");
  command->add_flag("--no-gate", o->no_gate, "Never hold publishers back; lose messages instead");
  command->add_option("--wait", o->wait, "How to wait: adaptive, block, pause, spin")
      ->check(CLI::IsMember({"adaptive", "block", "pause", "spin"}));
  command->add_option("--delay", o->delay, "Be slow: sleep this long after each message");
  command->footer(
      "Examples:\n  bus sub 'md.>'\n  bus sub 'host.cpu.*.user' 'host.mem.#' --json\n  bus sub "
      "orders.new --all --count 10 --timeout 1s --raw");
  command->callback([o, &c] { c.run = [o, &c] { return run(c, *o); }; });
}

}  // namespace tools
