// A word in shared memory that blocks all publishers: a lock or a lease in the name of a live
// process that does not have it, or a lane marked as removed. Publishers take over the first two
// by themselves. `bus doctor` reports the third, and `bus stream repair` repairs it.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "layout/lane.hpp"
#include "raw_words.hpp"
#include "robust.hpp"

namespace {

using namespace std::chrono_literals;
namespace layout = bus::layout;

class HostileWords : public testing::Test {
 protected:
  HostileWords() {
    config_.name = "orders";
    config_.subjects = {"orders.>"};
    config_.overflow = bus::overflow::block;
    config_.ring_bytes = 64 << 10;
    config_.max_message_bytes = 4096;
    EXPECT_TRUE(victim_.add_stream(config_));
  }

  static bus::session open(const test::scratch& place) {
    auto opened = bus::open(place.url());
    if (!opened) throw std::runtime_error(opened.error().message());
    return std::move(*opened);
  }
  // Id of the process that does nothing.
  std::uint64_t innocent_id() {
    auto quiet = innocent_.publisher("quiet");
    const auto all = victim_.processes();
    for (const auto& process : *all)
      if (!process.publishers.empty() && process.publishers.front().subject == "quiet")
        return process.id;
    return 0;
  }
  void write(std::uint64_t offset, std::uint64_t value) {
    const robust::raw_words words(std::string(victim_.directory()) + "/streams/orders/lane-0",
                                  offset, offset + 8);
    words[0].store(value);
  }
  bool finds(const std::string& text) {
    const auto all = victim_.troubles();
    return std::any_of(all.begin(), all.end(), [&](const bus::error& one) {
      return one.message().find(text) != std::string::npos && one.fix == "bus stream repair orders";
    });
  }

  static constexpr std::uint64_t lock_at =
      offsetof(layout::lane_header, turn) + offsetof(layout::lane_turn, lock);
  static constexpr std::uint64_t lease_at =
      offsetof(layout::lane_header, turn) + offsetof(layout::lane_turn, lease);
  static constexpr std::uint64_t closed_at =
      offsetof(layout::lane_header, counters) + offsetof(layout::lane_counters, closed);

  test::scratch place_;
  bus::session victim_ = open(place_), innocent_ = open(place_);
  bus::stream_config config_;
};

TEST_F(HostileWords, ALockInTheNameOfAnInnocentProcessIsTakenOver) {
  auto in = victim_.subscribe("orders.>");
  auto out = victim_.publisher("orders.x");
  ASSERT_TRUE(out);
  const std::uint64_t id = innocent_id();
  ASSERT_NE(id, 0u);
  constexpr std::uint64_t contended = 1u << 31, other_key = 0x1234567800000000;
  for (const std::uint64_t word : {id, id | contended, id | other_key, contended}) {
    write(lock_at, word);
    if (word == id) {
      EXPECT_TRUE(finds("is locked, but by no process"));
    }
    const auto begin = std::chrono::steady_clock::now();
    const auto done = out->publish("x");
    EXPECT_TRUE(done) << word << ' ' << out->last_error().message();
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
  }
  std::size_t received = 0;
  while (in->poll(100, [&](const bus::message&) { ++received; }) != 0) {
  }
  EXPECT_EQ(received, 4u);
}

TEST_F(HostileWords, ALeaseThatItsOwnerDoesNotClaimIsTakenOver) {
  const std::uint64_t id = innocent_id();
  auto shared = victim_.publisher("orders.x");
  ASSERT_TRUE(shared && shared->publish("1"));
  write(lease_at, id << 32 | 1);
  EXPECT_TRUE(finds("does not claim it"));
  EXPECT_TRUE(shared->publish("2")) << shared->last_error().message();
  write(lease_at, id << 32 | 1);
  bus::publisher_options options;
  options.mode = bus::publish_mode::exclusive;
  auto alone = victim_.publisher("orders.x", options);
  ASSERT_TRUE(alone) << alone.error().message();
  EXPECT_TRUE(alone->publish("3"));
}

// The lease of a publisher that has it must not be taken over.
TEST_F(HostileWords, ALeaseThatIsClaimedIsNot) {
  bus::publisher_options options;
  options.mode = bus::publish_mode::exclusive;
  auto alone = innocent_.publisher("orders.x", options);
  ASSERT_TRUE(alone && alone->publish("1"));
  for (int attempt = 0; attempt < 20; ++attempt) {
    EXPECT_EQ(victim_.publisher("orders.x", options).error().code, bus::errc::conflict);
    std::this_thread::sleep_for(2ms);
  }
  EXPECT_TRUE(victim_.troubles().empty());
  EXPECT_TRUE(alone->publish("2"));
}

TEST_F(HostileWords, ALaneThatSaysItWasRemovedIsSeenAndRepaired) {
  auto out = victim_.publisher("orders.x");
  ASSERT_TRUE(out && out->publish("1"));
  EXPECT_TRUE(victim_.troubles().empty());
  for (const bool lease_too : {false, true}) {
    write(closed_at, 1);
    if (lease_too) write(lease_at, layout::lease_closed);
    EXPECT_TRUE(finds("is marked as removed"));
    const auto mended = victim_.repair_stream("orders");
    ASSERT_TRUE(mended) << mended.error().message();
    EXPECT_EQ(*mended, 1u);
    EXPECT_TRUE(victim_.troubles().empty());
    EXPECT_TRUE(out->publish("2")) << out->last_error().message();
  }
  EXPECT_EQ(*victim_.repair_stream("orders"), 0u);
  EXPECT_EQ(victim_.repair_stream("none").error().code, bus::errc::not_found);
}

TEST_F(HostileWords, AProcessFileThatMakesNoSenseIsSeen) {
  const std::uint64_t id = innocent_id();
  {
    const robust::raw_words words(
        std::string(victim_.directory()) + "/processes/" + std::to_string(id), 0, 8);
    words[0].store(~words[0].load());
  }
  auto looking = open(place_);  // it has not read the file before
  const auto all = looking.troubles();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_NE(all.front().message().find("cannot be read"), std::string::npos)
      << all.front().message();
  EXPECT_NE(all.front().fix.find("kill"), std::string::npos) << all.front().fix;
}

}  // namespace
