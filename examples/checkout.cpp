/// checkout: an order passes the payment gate, then goes to three groups at once, and to analytics,
/// which holds no publisher back.
///
///   orders -- payment --> paid --+-- email       an address does not exist: dead letter at once
///                                +-- inventory   the database is down: retried until it is back
///                                +-- fraud       one score always fails: dead letter after three
///                                +-- analytics   a subscriber that may miss messages
///
/// Each group has one worker process, payment two; each has its own pace and its own dead letters.

#include "example.hpp"

#include <array>
#include <cstdint>
#include <functional>

namespace {

using namespace std::chrono_literals;
using example::expect;
using example::must;
using example::note;

constexpr std::uint64_t orders_total = 2000;

bool is_declined(std::uint64_t order) { return order % 100 == 7; }
bool has_no_address(std::uint64_t order) { return order % 200 == 5; }
bool is_short_of_stock_data(std::uint64_t order) { return order % 50 == 0; }
bool breaks_the_score(std::uint64_t order) { return order % 500 == 1; }

constexpr std::uint64_t declined = orders_total / 100, paid = orders_total - declined;

/// Setup that an operator does once: here, or with `bus stream add` and `bus group add`.
void declare(bus::session& session) {
  bus::stream_config stream;
  stream.overflow = bus::overflow::block;  // no order is lost: the shop waits
  stream.ring_bytes = 64u << 10;
  stream.max_message_bytes = 4u << 10;
  for (const char* name : {"orders", "paid"}) {
    stream.name = name;
    stream.subjects = {stream.name + ".>"};
    must(session.add_stream(stream));
  }
  bus::group_config group;
  group.max_deliver = 3;
  group.backoff = {0ms, 20ms};
  group.stream = "orders";
  group.name = "payment";
  must(session.add_group(group));
  group.stream = "paid";
  for (const char* name : {"email", "inventory", "fraud"}) {
    group.name = name;
    must(session.add_group(group));
  }
}

/// The loop of every worker. A message is acknowledged when `handle` returns without settling it.
void work(const std::string& bus_name, const char* stream, const char* group,
          const std::function<void(bus::session&, bus::lease&, std::uint64_t)>& handle) {
  bus::session session = must(bus::open(bus_name));
  bus::consumer worker = must(session.consume("", {.group = group, .stream = stream}));
  example::stop_on_sigterm(worker);
  worker.run([&](bus::lease& order) {
    handle(session, order, std::strtoull(std::string(order.text()).c_str(), nullptr, 10));
  });
}

void take_payments(const std::string& bus_name) {
  std::optional<bus::publisher> gate;
  work(bus_name, "orders", "payment", [&](bus::session& session, bus::lease& order, auto number) {
    if (is_declined(number)) {
      note(order.reject("card declined"));  // another attempt would not help
      return;
    }
    if (!gate) gate.emplace(must(session.publisher("paid.order")));
    must(gate->publish(order.text()), *gate);  // acknowledged only after this
  });
}
void send_emails(const std::string& bus_name) {
  work(bus_name, "paid", "email", [](auto&, bus::lease& order, auto number) {
    if (has_no_address(number)) note(order.reject("no such address"));
  });
}
void update_inventory(const std::string& bus_name) {
  work(bus_name, "paid", "inventory", [](auto&, bus::lease& order, auto number) {
    if (is_short_of_stock_data(number) && order.failed() == 0)
      note(order.nack({}, "database is down"));
  });
}
void look_for_fraud(const std::string& bus_name) {
  work(bus_name, "paid", "fraud", [](auto&, bus::lease& order, auto number) {
    if (breaks_the_score(number)) note(order.nack({}, "score is not a number"));
  });
}

bool is_done(const bus::session& session, const char* stream, const char* group) {
  const auto counts = must(session.group(stream, group)).counts;
  return counts.settled + counts.dead ==
         (stream == std::string_view("orders") ? orders_total : paid);
}
bool is_everything_done(const bus::session& session) {
  for (const char* group : {"email", "inventory", "fraud"})
    if (!is_done(session, "paid", group)) return false;
  return is_done(session, "orders", "payment");
}

/// Begins to read only when all orders are done, and gets the number of missed messages as gaps.
void analyse(const std::string& bus_name) {
  bus::session session = must(bus::open(bus_name));
  std::uint64_t seen = 0, missed = 0;
  bus::subscriber_options options;
  options.name = "analytics";
  options.start = bus::start::all();
  options.gate = false;  // never holds a publisher back
  options.on_gap = [&](const bus::gap& gap) { missed += gap.count; };
  bus::subscriber orders = must(session.subscribe("paid.>", options));
  example::wait_until([&] { return is_everything_done(session); }, "all orders are done");
  while (orders.poll(256, [&](const bus::message&) { ++seen; }) != 0) {
  }
  expect(seen + missed == paid && missed > 0, "analytics is told what it missed");
  std::printf("analytics %llu paid orders: %llu seen, %llu missed\n",
              static_cast<unsigned long long>(paid), static_cast<unsigned long long>(seen),
              static_cast<unsigned long long>(missed));
}

void report(const bus::session& session, const char* stream, const char* group, std::uint64_t dead,
            const char* reason, const char* error) {
  const auto info = must(session.group(stream, group));
  const auto letters = must(session.dead_letters(stream, group));
  expect(info.counts.dead == dead && letters.size() == dead && info.counts.pending == 0,
         std::string(group) + " has settled or given up every order");
  for (const auto& letter : letters)
    expect(letter.reason == reason && letter.error == error, "a dead letter says why");
  std::printf("%-9s %llu done, %llu dead letters, %llu retries\n", group,
              static_cast<unsigned long long>(info.counts.settled),
              static_cast<unsigned long long>(info.counts.dead),
              static_cast<unsigned long long>(info.redelivered));
}

void checkout() {
  const example::bus_of_this_run bus("checkout");
  bus::session session = must(bus::open(bus.name()));
  declare(session);
  example::process analytics([&] { analyse(bus.name()); });
  example::wait_until([&] { return example::is_subscribed(session, "analytics"); },
                      "analytics subscribes");
  example::process payment([&] { take_payments(bus.name()); });
  example::process more_payment([&] { take_payments(bus.name()); });
  example::process email([&] { send_emails(bus.name()); });
  example::process inventory([&] { update_inventory(bus.name()); });
  example::process fraud([&] { look_for_fraud(bus.name()); });

  bus::publisher shop = must(session.publisher("orders.placed"));
  for (std::uint64_t order = 1; order <= orders_total; ++order)
    must(shop.publish(std::to_string(order)), shop);

  analytics.join("analytics");  // it waits for all groups
  for (auto* worker : {&payment, &more_payment, &email, &inventory, &fraud}) worker->end("worker");
  report(session, "orders", "payment", declined, "rejected", "card declined");
  report(session, "paid", "email", orders_total / 200, "rejected", "no such address");
  report(session, "paid", "inventory", 0, "", "");
  report(session, "paid", "fraud", orders_total / 500, "max_deliver", "score is not a number");
}

}  // namespace

int main() { return example::run(checkout); }
