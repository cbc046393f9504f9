/// market_data: quotes as typed structs, an early subscriber, and a late joiner that misses
/// nothing.
///
/// Three processes. The publisher sends quotes of five symbols. The early subscriber reads from the
/// first quote on. The late joiner starts when half of them are published. It reads the newest
/// quote of one symbol at once (start::last), then the history that the ring still has
/// (start::all), which continues with the live quotes without a gap: a message is written once, and
/// history and live quotes are two positions in one ring.

#include "example.hpp"

#include <array>
#include <chrono>
#include <cstdint>
#include <random>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using example::is_subscribed;
using example::must;
using example::wait_until;

/// The message type: trivially copyable, no pointers. The id and the layout are checked: a
/// subscriber compiled with another struct gets type_mismatch instead of garbage.
struct quote {
  static constexpr std::string_view bus_type = "quote/1";
  static constexpr std::string_view bus_layout =
      "bid:f64 ask:f64 bid_size:u32 ask_size:u32 number:u64";
  double bid;
  double ask;
  std::uint32_t bid_size;
  std::uint32_t ask_size;
  std::uint64_t number;
};

constexpr std::array symbols = {"AAPL", "AMZN", "GOOG", "MSFT", "NVDA"};
constexpr std::uint64_t quotes_total = 20'000;
constexpr std::uint64_t quotes_per_burst = 50;

void declare_stream(bus::session& session) {
  bus::stream_config config;
  config.name = "md";
  config.subjects = {"md.>"};
  // subscribers hold the publisher back rather than miss a quote
  config.overflow = bus::overflow::block;
  config.ring_bytes = 8u << 20;      // holds all quotes of this example, for the late joiner
  must(session.add_stream(config));  // declaring the same stream twice is fine
}

void publish_quotes(const std::string& bus_name) {
  bus::session session = must(bus::open(bus_name));
  declare_stream(session);
  std::vector<bus::typed_publisher<quote>> feeds;
  for (const char* symbol : symbols)
    feeds.push_back(
        must(bus::typed_publisher<quote>::open(session, std::string("md.eq.") + symbol)));

  wait_until([&] { return is_subscribed(session, "early"); }, "the early subscriber subscribes");
  std::minstd_rand random(1);
  double price = 100;
  for (std::uint64_t number = 1; number <= quotes_total; ++number) {
    price += (static_cast<int>(random() % 21) - 10) * 0.01;
    auto& feed = feeds[random() % feeds.size()];
    must(feed.publish({price - 0.01, price + 0.01, 100, 200, number}), feed.untyped());
    if (number % quotes_per_burst == 0) std::this_thread::sleep_for(1ms);
  }
}

/// Reads up to the last quote. The numbers are consecutive: no quote is missed, repeated or out of
/// order.
std::uint64_t follow(bus::typed_subscriber<quote>& quotes) {
  std::uint64_t number = 0, received = 0;
  while (number < quotes_total) {
    const std::size_t got = quotes.poll(256, [&](const quote& q, const bus::message&) {
      if (q.number != number + 1)
        throw std::runtime_error("a quote is missing before " + std::to_string(q.number));
      number = q.number;
      ++received;
    });
    if (quotes.untyped().failure()) throw std::runtime_error(quotes.untyped().failure()->message());
    if (got == 0 && !quotes.untyped().wait(10s))
      throw std::runtime_error("no quote for 10 seconds");
  }
  return received;
}

void follow_from_the_first(const std::string& bus_name) {
  bus::session session = must(bus::open(bus_name));
  bus::subscriber_options options;
  options.name = "early";
  auto quotes = must(bus::typed_subscriber<quote>::open(session, "md.eq.*", options));
  const std::uint64_t received = follow(quotes);
  std::printf("early subscriber: %llu quotes, no gap\n", static_cast<unsigned long long>(received));
}

void join_late(const std::string& bus_name) {
  bus::session session = must(bus::open(bus_name));
  declare_stream(session);
  wait_until([&] { return must(session.stream("md")).messages() >= quotes_total / 2; },
             "half of the quotes are published");

  // The newest quote of one symbol, at once.
  bus::subscriber_options newest;
  newest.start = bus::start::last();
  auto apple = must(bus::typed_subscriber<quote>::open(session, "md.eq.AAPL", newest));
  const auto now = apple.next(10s);
  if (!now) throw std::runtime_error("no quote of AAPL");
  std::printf("late joiner: AAPL stands at %.2f / %.2f (quote %llu)\n", now->bid, now->ask,
              static_cast<unsigned long long>(now->number));

  // The history, then the live quotes.
  bus::subscriber_options history;
  history.start = bus::start::all();
  auto quotes = must(bus::typed_subscriber<quote>::open(session, "md.eq.*", history));
  const std::uint64_t before = must(session.stream("md")).messages();
  const std::uint64_t received = follow(quotes);
  std::printf("late joiner: %llu quotes, no gap: about %llu from the ring, the rest live\n",
              static_cast<unsigned long long>(received), static_cast<unsigned long long>(before));
}

void market_data() {
  const example::bus_of_this_run bus("market_data");
  example::process publisher([&] { publish_quotes(bus.name()); });
  example::process early([&] { follow_from_the_first(bus.name()); });
  example::process late([&] { join_late(bus.name()); });
  publisher.join("publisher");
  early.join("early subscriber");
  late.join("late joiner");
}

}  // namespace

int main() { return example::run(market_data); }
