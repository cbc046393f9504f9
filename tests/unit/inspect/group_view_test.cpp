// Looking at a group: it changes no byte, waits for no lock, and does no consumer's work.

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "client/group_fixture.hpp"
#include "consume/group_control.hpp"
#include "inspect/group_view.hpp"
#include "sync/seeded_fault.hpp"

namespace bus {
namespace {

using namespace std::chrono_literals;

class Looking : public Group {
 protected:
  // Every file of the bus's streams: rings, readers' tables, groups, subjects.
  std::map<std::string, std::string> files() {
    std::map<std::string, std::string> all;
    const std::string streams = std::string(bus_->directory()) + "/streams";
    for (const auto& entry : std::filesystem::recursive_directory_iterator(streams)) {
      if (!entry.is_regular_file()) continue;
      std::ifstream from(entry.path(), std::ios::binary);
      all[entry.path()] = {std::istreambuf_iterator<char>(from), {}};
    }
    return all;
  }
  void look_at_everything(const session& at) {
    EXPECT_TRUE(at.group("orders", "workers"));
    EXPECT_TRUE(at.pending("orders", "workers"));
    EXPECT_TRUE(at.peek("orders", "workers", 10));
    EXPECT_TRUE(at.dead_letters("orders", "workers"));
    EXPECT_TRUE(at.groups());
    EXPECT_TRUE(at.streams());
    EXPECT_TRUE(at.processes());
  }
};

// The group has messages in every state, one dead letter and an expired lease.
TEST_F(Looking, ChangesNoByte) {
  add_stream();
  auto c = join({.max_ack_pending = 100, .ack_wait = 20ms, .max_lease = 1h, .max_deliver = 3});
  publish(0, 20);
  auto dies = c.next(0s);
  ASSERT_TRUE(dies);
  EXPECT_EQ(dies->reject("broken"), settle_result::ok);
  auto settled = c.next(0s);
  ASSERT_TRUE(settled);
  EXPECT_EQ(settled->ack(), settle_result::ok);
  auto held = c.fetch(5, 0s);
  ASSERT_EQ(held.size(), 5u);
  std::this_thread::sleep_for(40ms);  // the leases of `held` end
  auto opened = bus::open(here_.url("t", ""));
  ASSERT_TRUE(opened);
  look_at_everything(*opened);  // maps the files
  const auto before = files();
  ASSERT_GE(before.size(), 4u);
  for (int i = 0; i < 3; ++i) look_at_everything(*opened);
  for (const auto& [name, bytes] : files()) {
    ASSERT_TRUE(before.contains(name)) << name;
    EXPECT_TRUE(before.at(name) == bytes) << name << " changed";
  }
  const auto now = info();
  EXPECT_TRUE(now.is_consistent);
  EXPECT_EQ(now.counts.leased, 5u) << "the next consumer that claims returns them";
  EXPECT_EQ(now.counts.dead, 1u);
  EXPECT_EQ(now.expired, 0u);
  expect_sums(20);
  auto again = c.fetch(5, 0s);
  EXPECT_EQ(info().expired, 5u);
}

// A consumer that is stopped while it has the lock, as SIGSTOP or a debugger does.
TEST_F(Looking, WaitsForNoLock) {
  add_stream();
  auto c = join({});
  publish(0, 10);
  auto held = c.fetch(3, 0s);
  ASSERT_EQ(held.size(), 3u);
  EXPECT_TRUE(info().is_consistent);
  auto other = session_core::open({here_.url("t", ""), "stopped"});
  ASSERT_TRUE(other);
  auto group = consume::open_group(**other, "orders", "workers");
  ASSERT_TRUE(group);
  ASSERT_TRUE((*group)->try_lock());
  const auto now = info();
  EXPECT_FALSE(now.is_consistent) << "its holder may be in the middle of a change";
  EXPECT_EQ(now.counts.leased, 3u);
  EXPECT_EQ(now.counts.unclaimed, 7u);
  const auto pending = bus_->pending("orders", "workers");
  ASSERT_TRUE(pending);
  EXPECT_EQ(pending->size(), 3u);
  EXPECT_TRUE(bus_->peek("orders", "workers", 1));
  EXPECT_TRUE(bus_->dead_letters("orders", "workers"));
  EXPECT_FALSE((*group)->try_lock()) << "nothing took it away";
  (*group)->unlock();
  EXPECT_TRUE(info().is_consistent);
}

// A claim that its consumer did not live to finish has filled slots and has not moved the cursor.
TEST_F(Looking, DoesNotCountAnUnfinishedClaim) {
  add_stream();
  auto c = join({});
  publish(0, 10);
  auto held = c.fetch(4, 0s);
  ASSERT_EQ(held.size(), 4u);
  auto other = session_core::open({here_.url("t", ""), "other"});
  ASSERT_TRUE(other);
  auto group = consume::open_group(**other, "orders", "workers");
  ASSERT_TRUE(group);
  // The cursor as it was before the claim.
  auto& core = (*group)->core();
  auto before = core.cursor_of(0);
  const auto after = before;
  before = {0, 1, 0, 0};
  core.store_cursor(0, before);
  EXPECT_EQ(info().counts.leased, 0u);
  EXPECT_EQ(info().counts.unclaimed, 10u);
  core.store_cursor(0, after);
  EXPECT_EQ(info().counts.leased, 4u);
  EXPECT_EQ(info().counts.unclaimed, 6u);
}

// The group's file is mapped for reading only: a store would end this process.
TEST_F(Looking, CannotWriteToTheGroup) {
  add_stream();
  auto c = join({});
  auto other = session_core::open({here_.url("t", ""), "other"});
  ASSERT_TRUE(other);
  auto stream = (*other)->stream("orders");
  ASSERT_TRUE(stream);
  auto map = registry::group_map::open((*stream)->directory(), (*stream)->facts(), "workers",
                                       (*other)->directory->clock(), false);
  ASSERT_TRUE(map);
  EXPECT_DEATH(sync::store_release((*map)->header().bell, 1), "");
}

// A lane that no consumer has met yet is read from its beginning.
TEST_F(Looking, CountsALaneThatNoConsumerHasMet) {
  ASSERT_TRUE(bus_->add_stream({.name = "orders",
                                .subjects = {"orders.>"},
                                .mode = lane_mode::per_publisher,
                                .lanes = 4,
                                .ring_bytes = 64 << 10,
                                .max_message_bytes = 4096}));
  auto c = join({});
  auto first = bus_->publisher("orders.new"), second = bus_->publisher("orders.new");
  ASSERT_TRUE(first);
  ASSERT_TRUE(second);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(first->publish("x"));
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(second->publish("x"));
  EXPECT_EQ(info().counts.unclaimed, 7u);
  const auto next = bus_->peek("orders", "workers", 10);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->size(), 7u);
}

}  // namespace
}  // namespace bus
