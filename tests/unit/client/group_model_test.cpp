// Random operations on a group, compared with the simplest model that can be right: a list of
// messages and the state of each. rapidcheck shrinks a failing program and prints its seed.

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <deque>
#include <map>
#include <set>

#include "support/buses.hpp"

namespace bus {
namespace {

using namespace std::chrono_literals;

enum class fate { unclaimed, out, back, delayed, settled, dead };

struct message_model {
  int key = 0;
  fate is = fate::unclaimed;
  std::uint32_t acquired = 0, failed = 0;
};

struct rules {
  group_order order = group_order::none;
  on_fail fails = on_fail::block;
  std::uint32_t window = 1000;
  std::int32_t max_deliver = 3;
};

/// The model: what the rules allow to be handed out now.
class reference {
 public:
  explicit reference(const rules& r) : rules_(r) {}

  std::vector<message_model> all;

  /// Whether the message may be handed out. Of a key only the first unsettled message may, and
  /// only while none of the key is out.
  bool may_be_out(std::size_t index) const {
    const auto& m = all[index];
    if (m.is != fate::unclaimed && m.is != fate::back) return false;
    if (rules_.order == group_order::none) return true;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i == index || all[i].key != m.key || m.key == 0) continue;
      if (all[i].is == fate::out) return false;
      const bool blocks = rules_.fails == on_fail::block && all[i].is == fate::delayed;
      if (blocks || (i < index && all[i].is == fate::unclaimed)) return false;
      // The rules leave open which of several returned messages goes first, but they all precede
      // new ones.
      if (all[i].is == fate::back && m.is == fate::unclaimed) return false;
    }
    return true;
  }
  /// How many messages a fetch must return when it requests all.
  std::size_t available() const {
    std::size_t count = 0;
    std::set<int> keys;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (!may_be_out(i)) continue;
      if (rules_.order == group_order::none || all[i].key == 0)
        ++count;
      else
        keys.insert(all[i].key);
    }
    return count + keys.size();
  }
  std::size_t count(fate is) const {
    return static_cast<std::size_t>(
        std::count_if(all.begin(), all.end(), [&](const auto& m) { return m.is == is; }));
  }

 private:
  const rules rules_;
};

/// The group and the model, side by side.
class run {
 public:
  explicit run(const rules& r) : rules_(r), model_(r) {
    bus_.emplace(std::move(*bus::open(here_.url("t", ""))));
    stream_config stream;
    stream.name = "s";
    stream.subjects = {"s"};
    stream.ring_bytes = 256 << 10;
    stream.max_message_bytes = 4096;
    stream.overflow = overflow::reject;
    RC_ASSERT(bus_->add_stream(stream).has_value());
    group_config group;
    group.name = "g";
    group.stream = "s";
    group.order = r.order;
    group.on_fail = r.fails;
    group.max_ack_pending = r.window;
    group.max_parked = 8;  // small, so that keys are passed over
    group.max_deliver = r.max_deliver;
    group.backoff = {0s};
    RC_ASSERT(bus_->add_group(group).has_value());
    out_.emplace(std::move(*bus_->publisher("s")));
    for (auto& c : consumers_) join(c);
  }

  void step(std::uint8_t what, std::uint8_t with) {
    switch (what % 12) {
      case 0:
      case 1:
      case 2: publish(with % 5); break;
      case 3:
      case 4: fetch(with % 2, 1 + with % 7); break;
      case 5:
      case 6: settle(with, fate::settled); break;
      case 7: settle(with, fate::back); break;
      case 8: nack(with); break;
      case 9: settle(with, fate::dead); break;
      case 10: delay(with); break;
      case 11: with % 3 == 0 ? replace(with % 2) : repair(); break;
    }
    compare();
  }
  void finish() {
    do {
      while (!held_.empty()) settle(0, fate::settled);
      fetch(0, 50);
    } while (!held_.empty());
    RC_ASSERT(model_.available() == 0u || rules_.order == group_order::total);
    compare();
    RC_ASSERT(model_.count(fate::out) == 0u);
    const auto info = *bus_->group("s", "g");
    RC_ASSERT(info.counts.unclaimed == 0u || model_.count(fate::delayed) != 0);
  }

 private:
  struct holding {
    lease of;
    std::size_t index;
    std::size_t consumer;
  };

  void join(std::optional<consumer>& c) {
    auto made = bus_->consume("", {.group = "g", .stream = "s"});
    RC_ASSERT(made.has_value());
    c.emplace(std::move(*made));
  }
  void publish(int key) {
    const std::string text = std::to_string(model_.all.size()), name = std::to_string(key);
    const header headers[] = {{"key", name}};
    const auto done = key == 0 ? out_->publish(text) : out_->publish(text, headers);
    if (done) model_.all.push_back({key, fate::unclaimed, 0, 0});
  }
  void fetch(std::size_t who, std::size_t max) {
    const std::size_t out = model_.count(fate::out);
    const std::size_t room = rules_.order == group_order::total
                                 ? (out + model_.count(fate::delayed) == 0 ? 1 : 0)
                                 : rules_.window - std::min<std::size_t>(out, rules_.window);
    const std::size_t expected = std::min({max, room, model_.available()});
    std::size_t got = 0;
    // A fetch may return fewer messages than there are; an empty one means that there are none.
    while (got < max) {
      auto batch = consumers_[who]->fetch(max - got, 0s);
      if (batch.empty()) break;
      for (std::size_t i = 0; i < batch.size(); ++i) {
        const std::size_t index = std::stoul(std::string(batch[i].text()));
        RC_ASSERT(index < model_.all.size());
        RC_ASSERT(model_.may_be_out(index));
        auto& m = model_.all[index];
        m.is = fate::out;
        ++m.acquired;
        RC_ASSERT(batch[i].acquired() == m.acquired);
        RC_ASSERT(batch[i].failed() == m.failed);
        RC_ASSERT(batch[i].start() == settle_result::ok);
        held_.push_back({std::move(batch[i]), index, who});
        ++got;
      }
    }
    RC_ASSERT(got == expected);
  }
  holding take(std::size_t with) {
    holding one = std::move(held_[with % held_.size()]);
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(with % held_.size()));
    return one;
  }
  void settle(std::size_t with, fate to) {
    if (held_.empty()) return;
    holding one = take(with);
    const settle_result outcome = to == fate::settled ? one.of.ack()
                                  : to == fate::back  ? one.of.release()
                                                      : one.of.reject("no");
    RC_ASSERT(outcome == settle_result::ok);
    RC_ASSERT(one.of.ack() == settle_result::already_settled);
    model_.all[one.index].is = to;
    if (to == fate::dead) ++model_.all[one.index].failed;
  }
  void failed(std::size_t index, fate otherwise) {
    auto& m = model_.all[index];
    ++m.failed;
    m.is = static_cast<std::int32_t>(m.failed) >= rules_.max_deliver ? fate::dead : otherwise;
  }
  void nack(std::size_t with) {
    if (held_.empty()) return;
    holding one = take(with);
    RC_ASSERT(one.of.nack(0s) == settle_result::ok);
    failed(one.index, fate::back);
  }
  void delay(std::size_t with) {
    if (held_.empty()) return;
    holding one = take(with);
    RC_ASSERT(one.of.nack(1h) == settle_result::ok);
    failed(one.index, fate::delayed);
  }
  // A consumer leaves. The messages that it holds were started, so they count as failed. Another
  // consumer joins.
  void replace(std::size_t who) {
    consumers_[who].reset();
    for (auto& h : held_)
      if (h.consumer == who) failed(h.index, fate::back);
    std::erase_if(held_, [&](const holding& h) { return h.consumer == who; });
    join(consumers_[who]);
  }
  void repair() {
    const auto done = bus_->repair_group("s", "g");
    RC_ASSERT(done.has_value());
    RC_ASSERT(*done == 0u);
  }
  void compare() {
    const auto info = bus_->group("s", "g");
    RC_ASSERT(info.has_value());
    const auto& c = info->counts;
    RC_ASSERT(c.settled == model_.count(fate::settled));
    RC_ASSERT(c.dead == model_.count(fate::dead));
    RC_ASSERT(c.leased == model_.count(fate::out));
    RC_ASSERT(c.delayed == model_.count(fate::delayed));
    const std::size_t begun =
        model_.count(fate::out) + model_.count(fate::delayed) + model_.count(fate::back);
    RC_ASSERT(c.pending + c.unclaimed == begun + model_.count(fate::unclaimed));
    RC_ASSERT(info->dead_letters_kept == c.dead);
  }

  const rules rules_;
  reference model_;
  ::test::scratch here_;
  std::optional<session> bus_;
  std::optional<publisher> out_;
  std::optional<consumer> consumers_[2];
  std::deque<holding> held_;
};

void check(const char* what, const rules& r) {
  const bool holds =
      rc::check(what, [&](const std::vector<std::pair<std::uint8_t, std::uint8_t>>& program) {
        run both(r);
        for (const auto& [op, with] : program) both.step(op, with);
        both.finish();
      });
  EXPECT_TRUE(holds);
}

TEST(GroupModel, WithoutOrder) { check("order none", {}); }
TEST(GroupModel, WithASmallWindow) { check("a small window", {.window = 3}); }
TEST(GroupModel, ByKey) { check("order key", {.order = group_order::key}); }
TEST(GroupModel, ByKeySkippingWhatFailed) {
  check("order key, skip", {.order = group_order::key, .fails = on_fail::skip});
}
TEST(GroupModel, InTotalOrder) { check("order total", {.order = group_order::total}); }

}  // namespace
}  // namespace bus
