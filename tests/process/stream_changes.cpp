// Streams are created, removed and changed while other processes publish and read. Each process
// reads only what the journal of changes names, and must come to the same result as if it had
// read everything. Two tests also seed the mistake that they must catch.

#include <bus/bus.hpp>

#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>

#include "failpoint_plan.hpp"
#include "open_bus.hpp"
#include "sync/seeded_fault.hpp"

namespace {

using namespace std::chrono_literals;
using bus::sync::fault;
using test::open_bus;

bus::stream_config config_of(const std::string& name, const std::string& subjects) {
  bus::stream_config config;
  config.name = name;
  config.subjects = {subjects};
  config.overflow = bus::overflow::drop_oldest;
  config.ring_bytes = 64 << 10;
  config.max_message_bytes = 4096;
  config.max_subjects = 16;
  config.max_readers = 16;
  return config;
}

class StreamChanges : public ::testing::Test {
 protected:
  void SetUp() override { ::alarm(150); }
  void TearDown() override {
    ::alarm(0);
    bus::sync::seeded = fault::none;
  }
};

// Subjects s0.x to s5.x; each belongs to the stream that captures it now, or to the default
// stream. Returns how many messages were misrouted.
std::size_t errors_of_a_run(std::uint32_t seed, int steps,
                            const test::scratch& place = test::scratch()) {
  constexpr int subjects = 6;
  auto changer = open_bus(place), writer = open_bus(place), reader = open_bus(place);
  std::vector<bus::publisher> out;
  for (int i = 0; i < subjects; ++i)
    out.push_back(std::move(*writer.publisher("s" + std::to_string(i) + ".x")));
  auto in = reader.subscribe(">");
  if (!in) throw std::runtime_error(in.error().message());
  std::mt19937 random(seed);
  std::map<int, std::string> owners;  // subject: name of its stream
  std::size_t errors = 0;
  int number = 0;
  const auto change = [&](int i) {
    if (const auto there = owners.find(i); there != owners.end()) {
      if (!changer.remove_stream(there->second)) ++errors;
      owners.erase(there);
      if (random() % 2 != 0) return;
    }
    // Often a name that the stream had before.
    const std::string name =
        "n" + std::to_string(i) + (random() % 2 != 0 ? "" : std::to_string(++number));
    if (!changer.add_stream(config_of(name, "s" + std::to_string(i) + ".>"))) ++errors;
    owners[i] = name;
    // A stream that would capture the same subject is refused.
    if (changer.add_stream(config_of("other", "*.x"))) ++errors;
  };
  for (int step = 0; step < steps; ++step) {
    // Sometimes more changes than the journal holds.
    const int changes = random() % 16 == 0 ? 150 : static_cast<int>(random() % 4);
    for (int i = 0; i < changes; ++i) change(static_cast<int>(random() % subjects));
    std::map<std::string, int> sent, got;
    for (int i = 0; i < subjects; ++i) {
      auto& p = out[static_cast<std::size_t>(i)];
      const std::string text = std::to_string(step) + "." + std::to_string(i);
      if (!p.publish(text)) ++errors;
      ++sent[text];
      const auto owner = owners.find(i);
      if (p.stream() != (owner == owners.end() ? "default" : owner->second)) ++errors;
    }
    while (in->poll(100, [&](const bus::message& m) { ++got[std::string(m.text())]; }) != 0) {
    }
    errors += sent != got;
  }
  return errors;
}

TEST_F(StreamChanges, AreFollowedAsByALookAtEverything) {
  for (std::uint32_t seed = 1; seed <= 4; ++seed) EXPECT_EQ(errors_of_a_run(seed, 60), 0u) << seed;
  bus::sync::seeded = fault::changes_misnamed;
  EXPECT_GT(errors_of_a_run(1, 20), 0u) << "the test does not notice";
}

// The bus of an older library has no journal.
TEST_F(StreamChanges, AreFollowedWithoutAJournal) {
  constexpr std::uint64_t old_bytes = 4096;
  constexpr std::streamoff total_bytes_at = 24;
  const test::scratch place;
  { auto made = open_bus(place); }
  const std::string control = place.directory() + "/control";
  std::filesystem::resize_file(control, old_bytes);
  {
    std::fstream file(control, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(total_bytes_at);
    file.write(reinterpret_cast<const char*>(&old_bytes), sizeof old_bytes);
  }
  EXPECT_EQ(errors_of_a_run(7, 40, place), 0u);
  EXPECT_EQ(std::filesystem::file_size(control), old_bytes);
}

// A remover has renamed a stream and not announced it yet. What was published to it still belongs
// to its subscribers, even to slow ones.
TEST_F(StreamChanges, ARemovalThatIsUnderWayHidesNothing) {
  for (const bool is_known : {false, true}) {
    const test::scratch place;
    auto session = open_bus(place), other = open_bus(place);
    auto in = session.subscribe(">");
    ASSERT_TRUE(in);
    auto config = config_of("orders", "orders.>");
    config.overflow = bus::overflow::block;
    ASSERT_TRUE(other.add_stream(config));
    ASSERT_TRUE(other.publisher("orders.x")->publish("1"));
    if (is_known) {  // by the session, not by the subscriber
      ASSERT_TRUE(session.stream("orders"));
    }
    test::shared_value<test::failpoint_plan> plan;
    plan->hold_at = test::failpoint::remove_stream_renamed;
    test::child remover([&] {
      test::follow(&*plan);
      return open_bus(place).remove_stream("orders") ? 0 : 1;
    });
    ASSERT_TRUE(test::eventually([&] { return plan->held.load(); }));
    std::string got;
    const auto read = [&] {
      while (in->poll(10, [&](const bus::message& m) { got += m.text(); }) != 0) {
      }
    };
    read();
    EXPECT_EQ(got, "1");
    plan->hold_at = test::failpoint::count;
    EXPECT_EQ(WEXITSTATUS(remover.wait()), 0);
  }
}

// The creator of a stream dies before it announces it.
TEST_F(StreamChanges, OfOneThatDiedAreNotOverlooked) {
  for (const fault seeded : {fault::none, fault::dead_change_unmarked}) {
    const test::scratch place;
    auto session = open_bus(place);
    auto old = session.publisher("other.x");  // knows all streams
    ASSERT_TRUE(old && old->publish("1"));
    ASSERT_TRUE(session.add_stream(config_of("first", "first.>")));  // and their subjects
    test::shared_value<test::failpoint_plan> plan;
    plan->kill_at = test::failpoint::create_stream_named;
    const pid_t child = ::fork();
    if (child == 0) {
      bus::sync::seeded = seeded;
      test::follow(&*plan);
      auto mine = open_bus(place);
      (void)mine.add_stream(config_of("orders", "orders.>"));
      ::_exit(1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    auto made = session.publisher("orders.x");
    ASSERT_TRUE(made) << made.error().message();
    const auto again = session.add_stream(config_of("again", "orders.*"));
    if (seeded == fault::none) {
      EXPECT_EQ(made->stream(), "orders");
      ASSERT_FALSE(again);
      EXPECT_EQ(again.error().code, bus::errc::conflict);
    } else {
      EXPECT_TRUE(made->stream() != "orders" || again) << "the test does not notice";
    }
  }
}

}  // namespace
