/// webhook: deliveries to sinks that are flaky, down or gone. Messages that wait for a retry do not
/// use the ring: the source is never held back, and deliveries to other sinks continue.

#include "example.hpp"

#include <algorithm>
#include <cstdint>
#include <map>

namespace {

using namespace std::chrono_literals;
using example::expect;
using example::must;
using example::note;

constexpr int rounds = 10, good_each = 40, flaky_each = 10, down_each = 9, gone_each = 1;
constexpr int attempts_max = 4;

void declare(bus::session& session) {
  bus::stream_config stream;
  stream.name = "hooks";
  stream.subjects = {"hooks.>"};
  stream.overflow = bus::overflow::reject;  // a full ring makes the source fail at once
  stream.ring_bytes = 64u << 10;            // space for some rounds, not for all
  stream.max_message_bytes = 4u << 10;
  must(session.add_stream(stream));
  bus::group_config group;
  group.name = "senders";
  group.stream = "hooks";
  group.max_deliver = attempts_max;
  group.backoff = {30ms, 60ms, 120ms};  // in production: seconds and minutes
  must(session.add_group(group));
}

/// Simulates the sink's HTTP status for a POST.
int post(std::string_view sink, std::uint32_t failed_before) {
  if (sink == "hooks.flaky") return failed_before < 2 ? 429 : 200;
  return sink == "hooks.down" ? 503 : sink == "hooks.gone" ? 410 : 200;
}

void send_hooks(const std::string& bus_name) {
  bus::session session = must(bus::open(bus_name));
  bus::publisher delivered = must(session.publisher("delivered.x"));
  bus::consumer worker = must(session.consume("", {.group = "senders", .stream = "hooks"}));
  example::stop_on_sigterm(worker);
  worker.run([&](bus::lease& hook) {
    const int status = post(hook.subject(), hook.failed());
    if (status == 200) must(delivered.publish(hook.subject()), delivered);
    // the sink gave the delay
    else if (status == 429)
      note(hook.nack(5ms, "429 too many requests"));
    else if (status == 410)
      note(hook.reject("410 gone"));
    // retried after the back-off
    else
      note(hook.nack({}, "503 unavailable"));
  });
}

void webhook() {
  const example::bus_of_this_run bus("webhook");
  bus::session session = must(bus::open(bus.name()));
  declare(session);
  bus::stream_config log;
  log.name = "delivered";
  log.subjects = {"delivered.>"};
  must(session.add_stream(log));
  bus::subscriber deliveries = must(session.subscribe("delivered.>"));
  example::process one([&] { send_hooks(bus.name()); });
  example::process other([&] { send_hooks(bus.name()); });

  bus::publisher source = must(session.publisher("hooks.x"));
  const std::string body(200, 'x');
  std::map<std::string, int> delivered;
  std::uint64_t waiting_max = 0;
  const auto take = [&] {
    deliveries.poll(256, [&](const bus::message& m) { ++delivered[std::string(m.text())]; });
  };
  for (int round = 1; round <= rounds; ++round) {
    const std::pair<const char*, int> parts[] = {{"hooks.down", down_each},
                                                 {"hooks.gone", gone_each},
                                                 {"hooks.flaky", flaky_each},
                                                 {"hooks.good", good_each}};
    for (const auto& [sink, count] : parts)
      for (int i = 0; i < count; ++i) must(source.publish_to(sink, body), source);
    const auto good_came = [&] { return take(), delivered["hooks.good"] == round * good_each; };
    example::wait_until(good_came, "deliveries to good sinks flow");
    waiting_max = std::max(waiting_max, must(session.group("hooks", "senders")).counts.delayed);
  }
  const auto counts = [&] { return must(session.group("hooks", "senders")).counts; };
  example::wait_until([&] { return counts().pending + counts().unclaimed == 0; },
                      "every hook is delivered or given up");
  take();
  one.end("sender");
  other.end("sender");

  int down = 0, gone = 0;
  for (const auto& letter : must(session.dead_letters("hooks", "senders"))) {
    if (letter.reason == "max_deliver" && letter.attempts == attempts_max) ++down;
    if (letter.reason == "rejected" && letter.attempts == 1) ++gone;
  }
  expect(down == rounds * down_each && gone == rounds * gone_each, "dead letters say why");
  expect(delivered["hooks.flaky"] == rounds * flaky_each, "a flaky sink gets all in the end");
  std::printf(
      "%d hooks: %d delivered at once, %d after two retries, %d given up after %d attempts, "
      "%d at once\n",
      rounds * (good_each + flaky_each + down_each + gone_each), delivered["hooks.good"],
      delivered["hooks.flaky"], down, attempts_max, gone);
  std::printf("the source was never held back; up to %llu hooks waited for a retry\n",
              static_cast<unsigned long long>(waiting_max));
}

}  // namespace

int main() { return example::run(webhook); }
