// bus bench rttpub|fan: measures this machine, next to its floor.

#include <cstdio>
#include <memory>

#include "commands.hpp"
#include "scenarios.hpp"

namespace tools {

namespace {

struct options {
  bench::rtt_options rtt;
  bench::stream_options stream;
  std::string wait = "spin", overflow = "block", readers_wait = "pause", ring;
  bench::durable_options durable;
  bench::replay_options replay;
  bench::beside_options beside;
  bool is_beside = false;
  std::string pace;
  std::string confirm = "disk", storage = "durable";
};

double ratio(double value, double floor) { return floor > 0 ? value / floor : 0; }

int run_rtt(const context& c, options& o) {
  o.rtt.block = o.wait == "block";
  auto report = bench::run_rtt(o.rtt);
  if (!report) return c.fail(report.error());
  const auto& r = *report;
  if (c.json) {
    std::printf("%s\n", dump({{"size", o.rtt.bytes},
                              {"wait", o.wait},
                              {"same_core", o.rtt.same_core},
                              {"trips", r.trips},
                              {"p50_ns", r.p50_ns},
                              {"p99_ns", r.p99_ns},
                              {"p999_ns", r.p999_ns},
                              {"max_ns", r.max_ns},
                              {"floor_p50_ns", r.floor_p50_ns},
                              {"floor_p99_ns", r.floor_p99_ns},
                              {"ratio_p50", ratio(r.p50_ns, r.floor_p50_ns)},
                              {"ratio_p99", ratio(r.p99_ns, r.floor_p99_ns)},
                              {"ring_p50_ns", r.ring_p50_ns},
                              {"ratio_ring_p50", ratio(r.p50_ns, r.ring_p50_ns)}})
                            .c_str());
    return 0;
  }
  std::printf("round trip of %u bytes between two processes (%s), %llu trips\n", o.rtt.bytes,
              o.rtt.block ? "sleeping" : "busy polling", static_cast<unsigned long long>(r.trips));
  std::printf("  %-22s p50 %9.0f ns   p99 %9.0f ns   p99.9 %9.0f ns   max %.0f ns\n", "libbus",
              r.p50_ns, r.p99_ns, r.p999_ns, r.max_ns);
  std::printf("  %-22s p50 %9.0f ns   p99 %9.0f ns\n",
              o.rtt.block ? "floor: raw futex" : "floor: cache line", r.floor_p50_ns,
              r.floor_p99_ns);
  if (r.ring_p50_ns > 0)
    std::printf("  %-22s p50 %9.0f ns\n", "floor: minimal ring", r.ring_p50_ns);
  std::printf("  ratio to the floor: %.2f (p50), %.2f (p99)\n", ratio(r.p50_ns, r.floor_p50_ns),
              ratio(r.p99_ns, r.floor_p99_ns));
  return 0;
}

int run_stream(const context& c, options& o, bool fan) {
  auto overflow = bus::parse_overflow(o.overflow);
  if (!overflow) return c.fail(overflow.error());
  o.stream.overflow = *overflow;
  o.stream.wait = o.readers_wait == "block"      ? bus::wait_strategy::block
                  : o.readers_wait == "spin"     ? bus::wait_strategy::busy_spin
                  : o.readers_wait == "adaptive" ? bus::wait_strategy::adaptive
                                                 : bus::wait_strategy::spin_pause;
  if (!o.ring.empty()) {
    const auto bytes = parse_bytes(o.ring);
    if (!bytes)
      return c.usage("invalid --ring-bytes '" + o.ring + "'", "it is not a size such as 1MiB");
    o.stream.ring_bytes = *bytes;
  }
  if (fan) {
    o.stream.in_process = o.stream.subscribers;
    o.stream.subscribers = 1;
  }
  auto report = bench::run_stream(o.stream);
  if (!report) return c.fail(report.error());
  const auto& r = *report;
  if (c.json) {
    std::printf("%s\n",
                dump({{"size", o.stream.bytes},
                      {"publishers", o.stream.publishers},
                      {"subscribers", o.stream.subscribers * o.stream.in_process},
                      {"batch", o.stream.batch},
                      {"subjects", o.stream.subjects},
                      {"messages_per_s", r.messages_per_s},
                      {"bytes_per_s", r.bytes_per_s},
                      {"deliveries_per_s", r.deliveries_per_s},
                      {"lost", r.lost},
                      {"floor_messages_per_s", r.floor_messages_per_s},
                      {"ratio", ratio(r.messages_per_s, r.floor_messages_per_s)},
                      {"ratio_deliveries", ratio(r.deliveries_per_s, r.floor_messages_per_s)},
                      {"age_p50_ns", r.age_p50_ns},
                      {"age_p99_ns", r.age_p99_ns},
                      {"age_p999_ns", r.age_p999_ns},
                      {"publish_mean_ns", r.publish_mean_ns}})
                    .c_str());
    return 0;
  }
  std::printf("%u publishers, %u subscribers, %u bytes, batch %u\n", o.stream.publishers,
              o.stream.subscribers * o.stream.in_process, o.stream.bytes, o.stream.batch);
  std::printf("  libbus               %12s msg/s   %10s/s   %12s deliveries/s   %llu lost\n",
              show_count(r.messages_per_s).c_str(), show_bytes(r.bytes_per_s).c_str(),
              show_count(r.deliveries_per_s).c_str(), static_cast<unsigned long long>(r.lost));
  std::printf("  floor: minimal ring  %12s msg/s   ratio %.2f (messages), %.2f (deliveries)\n",
              show_count(r.floor_messages_per_s).c_str(),
              ratio(r.messages_per_s, r.floor_messages_per_s),
              ratio(r.deliveries_per_s, r.floor_messages_per_s));
  std::printf(
      "  age at delivery      p50 %s   p99 %s   p99.9 %s\n",
      show_duration(std::chrono::nanoseconds(static_cast<std::int64_t>(r.age_p50_ns))).c_str(),
      show_duration(std::chrono::nanoseconds(static_cast<std::int64_t>(r.age_p99_ns))).c_str(),
      show_duration(std::chrono::nanoseconds(static_cast<std::int64_t>(r.age_p999_ns))).c_str());
  if (r.publish_mean_ns != 0)
    std::printf("  a publish call       %.1f ns on average\n", r.publish_mean_ns);
  return 0;
}

int run_durable(const context& c, options& o) {
  auto storage = bus::parse_storage(o.storage);
  if (!storage) return c.fail(storage.error());
  if (*storage == bus::storage_class::memory)
    return c.usage("--storage memory has no log", "use durable or spill; see bus bench pub");
  o.durable.storage = *storage;
  o.durable.disk = o.confirm == "disk" && *storage == bus::storage_class::durable;
  auto report = bench::run_durable(o.durable);
  if (!report) return c.fail(report.error());
  const auto& r = *report;
  if (c.json) {
    std::printf("%s\n", dump({{"size", o.durable.bytes},
                              {"storage", o.storage},
                              {"confirm", o.durable.disk ? "disk" : "memory"},
                              {"disk", r.disk},
                              {"messages_per_s", r.messages_per_s},
                              {"bytes_per_s", r.bytes_per_s},
                              {"confirm_p50_us", r.confirm_p50_us},
                              {"confirm_p99_us", r.confirm_p99_us},
                              {"floor_p50_us", r.floor_p50_us},
                              {"floor_p99_us", r.floor_p99_us},
                              {"ratio_p50", ratio(r.confirm_p50_us, r.floor_p50_us)},
                              {"floor_bytes_per_s", r.floor_bytes_per_s},
                              {"ratio_bytes", ratio(r.bytes_per_s, r.floor_bytes_per_s)},
                              {"bytes_written", r.bytes_written}})
                            .c_str());
    return 0;
  }
  std::printf("%u bytes, storage %s, confirm %s, %s\n", o.durable.bytes, o.storage.c_str(),
              o.durable.disk ? "disk" : "memory", r.disk.c_str());
  std::printf("  one at a time        p50 %9.1f us   p99 %9.1f us\n", r.confirm_p50_us,
              r.confirm_p99_us);
  std::printf("  floor: 4 KiB + sync  p50 %9.1f us   p99 %9.1f us   ratio %.2f\n", r.floor_p50_us,
              r.floor_p99_us, ratio(r.confirm_p50_us, r.floor_p50_us));
  std::printf("  under load           %12s msg/s   %10s/s\n", show_count(r.messages_per_s).c_str(),
              show_bytes(r.bytes_per_s).c_str());
  std::printf("  floor: 1 MiB + sync  %18s   %10s/s   ratio %.2f\n", "",
              show_bytes(r.floor_bytes_per_s).c_str(), ratio(r.bytes_per_s, r.floor_bytes_per_s));
  return 0;
}

int run_replay(const context& c, options& o) {
  auto report = bench::run_replay(o.replay);
  if (!report) return c.fail(report.error());
  const auto& r = *report;
  if (c.json) {
    std::printf("%s\n", dump({{"size", o.replay.bytes},
                              {"readers", o.replay.readers},
                              {"messages_per_s", r.messages_per_s},
                              {"bytes_per_s", r.bytes_per_s},
                              {"floor_bytes_per_s", r.floor_bytes_per_s},
                              {"ratio_bytes", ratio(r.bytes_per_s, r.floor_bytes_per_s)}})
                            .c_str());
    return 0;
  }
  std::printf("replay of %u bytes, %u readers, from the page cache\n", o.replay.bytes,
              o.replay.readers);
  std::printf("  each reader    %12s msg/s   %10s/s\n", show_count(r.messages_per_s).c_str(),
              show_bytes(r.bytes_per_s).c_str());
  std::printf("  floor: pread   %18s   %10s/s   ratio %.2f\n", "",
              show_bytes(r.floor_bytes_per_s).c_str(), ratio(r.bytes_per_s, r.floor_bytes_per_s));
  return 0;
}

int run_beside(const context& c, options& o) {
  o.beside.bytes = o.replay.bytes;
  o.beside.messages = o.replay.messages;
  o.beside.directory = o.replay.directory;
  if (!o.pace.empty()) {
    const auto bytes = parse_bytes(o.pace);
    if (!bytes || *bytes == 0)
      return c.usage("invalid --pace '" + o.pace + "'", "it is not a size such as 256MiB");
    o.beside.pace_bytes_per_s = static_cast<double>(*bytes);
  }
  auto report = bench::run_beside(o.beside);
  if (!report) return c.fail(report.error());
  const auto& r = *report;
  if (c.json) {
    std::printf("%s\n", dump({{"size", o.beside.bytes},
                              {"pace_bytes_per_s", o.beside.pace_bytes_per_s},
                              {"rounds", r.rounds},
                              {"alone_messages_per_s", r.alone_messages_per_s},
                              {"beside_readers_messages_per_s", r.readers.messages_per_s},
                              {"beside_preads_messages_per_s", r.preads.messages_per_s},
                              {"reader_start_bytes_per_s", r.readers.bytes_per_s[0]},
                              {"reader_middle_bytes_per_s", r.readers.bytes_per_s[1]},
                              {"pread_start_bytes_per_s", r.preads.bytes_per_s[0]},
                              {"pread_middle_bytes_per_s", r.preads.bytes_per_s[1]},
                              {"readers_processor_share", r.readers.processor_share},
                              {"preads_processor_share", r.preads.processor_share},
                              {"ratio_readers_alone", r.readers.ratio_to_alone},
                              {"ratio_preads_alone", r.preads.ratio_to_alone},
                              {"ratio_readers_preads", r.ratio}})
                            .c_str());
    return 0;
  }
  std::printf("a publisher of %u bytes to disk, and two readers of its log; %d rounds\n",
              o.beside.bytes, r.rounds);
  std::printf("  alone             %12s msg/s\n", show_count(r.alone_messages_per_s).c_str());
  const auto line = [&](const char* what, const bench::beside_report::company& one) {
    std::printf("  %-17s %12s msg/s   ratio %.2f   they read %10s/s and %10s/s, %.2f processors\n",
                what, show_count(one.messages_per_s).c_str(), one.ratio_to_alone,
                show_bytes(one.bytes_per_s[0]).c_str(), show_bytes(one.bytes_per_s[1]).c_str(),
                one.processor_share);
  };
  line("beside readers", r.readers);
  line("beside preads", r.preads);
  std::printf("  readers to preads: %.2f\n", r.ratio);
  return 0;
}

}  // namespace

void add_bench(CLI::App& app, context& c) {
  auto o = std::make_shared<options>();
  auto* command = app.add_subcommand("bench", "Measure this machine against its floor");
  command->require_subcommand(1);

  auto* rtt = command->add_subcommand("rtt", "Round trip between two processes");
  rtt->add_option("--size", o->rtt.bytes, "Bytes of payload")
      ->capture_default_str()
      ->check(CLI::Range(0u, 64u << 20));
  rtt->add_option("--wait", o->wait, "spin (busy polling) or block (sleep)")
      ->capture_default_str()
      ->check(CLI::IsMember({"spin", "block"}));
  rtt->add_flag("--same-core", o->rtt.same_core, "Both processes on one core (with --wait block)");
  rtt->add_flag("--early", o->rtt.early, "Read large messages while they are written");
  rtt->add_option("--seconds", o->rtt.seconds, "Duration")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  rtt->callback([o, &c] {
    c.run = [o, &c] {
      if (o->rtt.same_core && o->wait != "block")
        return c.usage("--same-core needs --wait block",
                       "two spinning processes on one core only wait for each other");
      return run_rtt(c, *o);
    };
  });

  const auto stream_options = [o](CLI::App* sub) {
    sub->add_option("--size", o->stream.bytes, "Bytes of payload")
        ->capture_default_str()
        ->check(CLI::Range(0u, 64u << 20));
    sub->add_option("--subscribers", o->stream.subscribers, "Subscribers")
        ->capture_default_str()
        ->check(CLI::Range(1u, 4096u));
    sub->add_option("--batch", o->stream.batch, "Messages per publish call")
        ->capture_default_str()
        ->check(CLI::Range(1u, 1000u));
    sub->add_option("--subjects", o->stream.subjects,
                    "Subjects, taken in turn (default: the publisher's own)")
        ->check(CLI::Range(1u, 10'000'000u));
    sub->add_option("--overflow", o->overflow, "Overflow policy of the stream")
        ->capture_default_str();
    sub->add_option("--wait", o->readers_wait, "Subscribers: pause, spin, adaptive or block")
        ->capture_default_str()
        ->check(CLI::IsMember({"pause", "spin", "adaptive", "block"}));
    sub->add_option("--ring-bytes", o->ring, "Size of the ring (default: as the minimal ring)");
    sub->add_option(
           "--rate", o->stream.rate,
           "Messages per second of each publisher; also times its calls (default: unlimited)")
        ->check(CLI::PositiveNumber);
    sub->add_option("--seconds", o->stream.seconds, "Duration")
        ->capture_default_str()
        ->check(CLI::PositiveNumber);
  };
  auto* pub = command->add_subcommand(
      "pub", "Throughput: publishers on core 0, subscriber processes on core 1");
  stream_options(pub);
  pub->add_option("--publishers", o->stream.publishers, "Publisher processes")
      ->capture_default_str()
      ->check(CLI::Range(1u, 60u));
  pub->add_option("--lanes", o->stream.lanes, "Rings of the stream")
      ->capture_default_str()
      ->check(CLI::Range(1u, 64u));
  pub->add_flag("--lanes-per-publisher", o->stream.per_publisher, "A ring for each publisher");
  pub->add_flag("--shared", o->stream.shared, "Use a shared publisher even if there is only one");
  pub->add_flag("--float", o->stream.floating, "Leave the processes to the scheduler");
  pub->callback([o, &c] { c.run = [o, &c] { return run_stream(c, *o, false); }; });

  auto* fan = command->add_subcommand(
      "fan", "Fan-out: one publisher, all subscribers polled by one process");
  stream_options(fan);
  fan->callback([o, &c] { c.run = [o, &c] { return run_stream(c, *o, true); }; });
  auto* durable =
      command->add_subcommand("durable", "Messages to disk: latency of a confirm, throughput");
  durable->add_option("--size", o->durable.bytes, "Bytes of payload")
      ->capture_default_str()
      ->check(CLI::Range(0u, 1u << 20));
  durable->add_option("--confirm", o->confirm, "disk or memory")
      ->capture_default_str()
      ->check(CLI::IsMember({"disk", "memory"}));
  durable->add_option("--storage", o->storage, "durable or spill")->capture_default_str();
  durable->add_option("--dir", o->durable.directory, "Directory on the measured disk")
      ->capture_default_str();
  durable->add_option("--seconds", o->durable.seconds, "Duration")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  durable->callback([o, &c] { c.run = [o, &c] { return run_durable(c, *o); }; });
  auto* replay = command->add_subcommand("replay", "Messages from a log in the page cache");
  replay->add_option("--size", o->replay.bytes, "Bytes of payload")
      ->capture_default_str()
      ->check(CLI::Range(0u, 1u << 20));
  replay->add_option("--messages", o->replay.messages, "How many")->capture_default_str();
  auto* readers = replay->add_option("--readers", o->replay.readers, "Reader processes at once")
                      ->capture_default_str()
                      ->check(CLI::Range(1u, 64u));
  replay->add_option("--dir", o->replay.directory, "Where the log is")->capture_default_str();
  auto* beside =
      replay
          ->add_flag("--beside", o->is_beside,
                     "What two readers, one at the start and one in the middle, cost a running "
                     "publisher, compared with two processes that only pread as much")
          ->excludes(readers);
  replay->add_option("--pace", o->pace, "With --beside: bytes per second of each reader")
      ->needs(beside);
  replay->add_option("--seconds", o->beside.seconds, "With --beside: duration")
      ->capture_default_str()
      ->check(CLI::PositiveNumber)
      ->needs(beside);
  replay->callback([o, &c] {
    c.run = [o, &c] { return o->is_beside ? run_beside(c, *o) : run_replay(c, *o); };
  });
  add_bench_group(*command, c);
  command->footer(
      "Every figure is a median of interleaved rounds, the floor is measured in the same "
      "run.\nExample:\n  bus bench rtt --size 64 --seconds 5");
}

}  // namespace tools
