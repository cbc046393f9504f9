// bus bench queuedeath: measures groups, next to their floor.

#include <cstdio>
#include <memory>

#include "commands.hpp"
#include "group_scenarios.hpp"

namespace tools {

namespace {

double ratio(double value, double floor) { return floor > 0 ? value / floor : 0; }

int run_queue(const context& c, const bench::queue_options& o) {
  auto report = bench::run_queue(o);
  if (!report) return c.fail(report.error());
  const auto& r = *report;
  if (c.json) {
    std::printf("%s\n", dump({{"consumers", o.consumers},
                              {"batch", o.batch},
                              {"waiting", o.waiting},
                              {"delayed", o.delayed},
                              {"keys", o.keys},
                              {"messages_per_s", r.messages_per_s},
                              {"settle_p50_ns", r.settle_p50_ns},
                              {"settle_p99_ns", r.settle_p99_ns},
                              {"one_way_p50_ns", r.one_way_p50_ns},
                              {"ratio_settle", ratio(r.settle_p50_ns, r.one_way_p50_ns)}})
                            .c_str());
    return 0;
  }
  std::printf("%u consumers, %u messages per fetch, %llu waiting, %u delayed, %u keys held\n",
              o.consumers, o.batch, static_cast<unsigned long long>(o.waiting), o.delayed, o.keys);
  std::printf("  claimed and settled  %12s msg/s\n", show_count(r.messages_per_s).c_str());
  std::printf("  publish to settled   p50 %9.0f ns   p99 %9.0f ns\n", r.settle_p50_ns,
              r.settle_p99_ns);
  std::printf("  floor: to subscriber p50 %9.0f ns   ratio %.2f\n", r.one_way_p50_ns,
              ratio(r.settle_p50_ns, r.one_way_p50_ns));
  return 0;
}

int run_death(const context& c, const bench::death_options& o) {
  auto report = bench::run_death(o);
  if (!report) return c.fail(report.error());
  const auto& r = *report;
  if (c.json) {
    std::printf("%s\n", dump({{"mib", o.mib},
                              {"kills", o.kills},
                              {"redelivery_p50_ms", r.redelivery_p50_ms},
                              {"redelivery_p99_ms", r.redelivery_p99_ms},
                              {"redelivery_max_ms", r.redelivery_max_ms},
                              {"floor_p50_ms", r.floor_p50_ms},
                              {"floor_p99_ms", r.floor_p99_ms}})
                            .c_str());
    return 0;
  }
  std::printf("kill -9 of a holder that has touched %u MiB, %u times\n", o.mib, o.kills);
  std::printf("  another consumer has its message after  p50 %7.2f ms   p99 %7.2f ms\n",
              r.redelivery_p50_ms, r.redelivery_p99_ms);
  std::printf("  floor: the kernel reports it after      p50 %7.2f ms   p99 %7.2f ms\n",
              r.floor_p50_ms, r.floor_p99_ms);
  return 0;
}

}  // namespace

void add_bench_group(CLI::App& command, context& c) {
  auto queue_options = std::make_shared<bench::queue_options>();
  auto* queue = command.add_subcommand("queue", "Groups: claim and settle waiting messages");
  queue->add_option("--consumers", queue_options->consumers, "Consumer processes")
      ->capture_default_str()
      ->check(CLI::Range(1u, 64u));
  queue->add_option("--batch", queue_options->batch, "Messages per fetch")
      ->capture_default_str()
      ->check(CLI::Range(1u, 1000u));
  queue->add_option("--waiting", queue_options->waiting, "Messages waiting at the start")
      ->capture_default_str()
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{100'000'000}));
  queue
      ->add_option("--delayed", queue_options->delayed, "Additional messages that wait for a retry")
      ->capture_default_str()
      ->check(CLI::Range(0u, 1'000'000u));
  queue
      ->add_option("--keys", queue_options->keys,
                   "Additional messages whose keys are held; each message has its own key")
      ->capture_default_str()
      ->check(CLI::Range(0u, 900'000u));
  queue->add_option("--seconds", queue_options->seconds, "How long, in each of three rounds")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  queue->callback([queue_options, &c] {
    c.run = [queue_options, &c] { return run_queue(c, *queue_options); };
  });

  auto death_options = std::make_shared<bench::death_options>();
  auto* death = command.add_subcommand(
      "death", "Groups: how soon another consumer gets a killed consumer's message");
  death->add_option("--mib", death_options->mib, "Memory that the victim has touched, in MiB")
      ->capture_default_str()
      ->check(CLI::Range(0u, 65536u));
  death->add_option("--kills", death_options->kills, "Number of kills")
      ->capture_default_str()
      ->check(CLI::Range(1u, 100'000u));
  death->callback([death_options, &c] {
    c.run = [death_options, &c] { return run_death(c, *death_options); };
  });
}

}  // namespace tools
