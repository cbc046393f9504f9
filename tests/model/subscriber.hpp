#pragma once
/// subscriber: a simulated process that reads as client/source and client/subscriber_core do,
/// with the same lane code. It compares everything that it receives with the oracle.

#include "world.hpp"

namespace model {

struct subscriber_options {
  bool gating = false;
  bool wants_open = false;
  bool sleeps = false;               // on the armed word
  std::uint32_t visits_more = 0;     // times it leaves, to come back
  std::uint32_t leaves_percent = 5;  // share of its polls
  bool stays = true;                 // comes back after the last of these visits
  bool ponders = false;              // sleeps while it holds records
  bool skims = false;                // does not read payloads
  bool from_all = false;             // enters at the oldest record
};

class subscriber {
 public:
  subscriber(world& w, std::size_t pin_index, subscriber_options options)
      : w_(w), options_(options), pin_index_(pin_index), id_(w.m().self().id) {
    plain_ = w.m().dice().percent(60);
    leaves_left_ = options.visits_more;
  }

  /// What the process does from start to exit.
  void run() {
    access::store(w_.pin(pin_index_).lane_key, world::lane_key, std::memory_order_relaxed,
                  edge::none);
    if (!attach()) return;
    std::uint32_t idle = 0;
    while (!w_.stopping) {
      const bool found = poll();
      if (!found) hand_back();
      if (leaves_left_ != 0 && !open_seen_ && w_.m().dice().percent(options_.leaves_percent)) {
        --leaves_left_;
        check_account(false);
        leave();
        if ((leaves_left_ == 0 && !options_.stays) || !attach()) return;
        continue;
      }
      if (found) {
        idle = 0;
        continue;
      }
      if (options_.sleeps) {
        sleep();
      } else if (++idle >= lane_reader::lap_check_interval + 40) {
        w_.m().sleep(&w_.parked(), 0);
        idle = 0;
      } else {
        w_.m().pause();
      }
    }
    drain();
    check_account(true);
    leave();
  }

 private:
  static constexpr std::size_t take_max = 3;

  struct taken {
    ring::record_view view;
    std::array<std::uint64_t, payload_words_max> payload;
  };
  struct sink {
    subscriber& to;
    ring::verdict take(const ring::record_view& view) {
      if (to.taken_count_ == take_max) return ring::verdict::full;
      taken& slot = to.taken_[to.taken_count_];
      slot.view = view;
      // cannot happen: the lane checks it
      if (view.shape.payload_bytes > sizeof slot.payload) return ring::verdict::skipped;
      if (to.reader_.may_be_lapped() && !to.options_.skims)
        access::copy_out(slot.payload.data(), view.payload(), view.shape.payload_bytes);
      ++to.taken_count_;
      return ring::verdict::taken;
    }
    void undo() { --to.taken_count_; }
  };
  struct plain_sink : sink {
    ring::verdict take_plain(const std::byte* data, std::uint64_t position, std::uint64_t seq,
                             std::uint64_t shape, std::uint64_t origin, std::uint64_t ticks) {
      return take({data, position, seq, layout::record_shape::unpack(shape), origin, ticks, false});
    }
  };

  bool attach() {
    const bool announces_late = w_.m().bug.omits == omission::late_announcement;
    if (!announces_late && !announce()) return false;
    reader_ = lane_reader(w_.lane, &w_.pin(pin_index_), options_.gating);
    reader_.wants_open(options_.wants_open);
    attached_ = true;
    for (int attempt = 0;; ++attempt) {
      w_.m().mem.newcomer(w_.m().self().knows);
      if (enter()) break;
      // At rest there is always a position to enter at.
      if (w_.stopping && attempt > 3) {
        w_.m().fail("a reader cannot enter a lane at rest");
        return false;
      }
      if (attempt % 4 == 3 && !w_.stopping) w_.m().sleep(&w_.parked(), 0);
      w_.m().pause();
    }
    if (announces_late) {
      w_.m().pause();
      if (!announce()) return reader_.leave(), false;
    }
    entered_seq_ = expected_ = reader_.next_seq();
    lost_ = delivered_ = 0;
    open_seen_ = 0;
    note_expected();
    check_waypoint({reader_.position(), reader_.next_seq(), 0});
    // Checks the newest value, not only the one that this reader can see.
    const auto& reserved_end = w_.lane.header->limits.reserved_end;
    if (options_.gating &&
        w_.m().mem.newest(&reserved_end) > reader_.position() + w_.lane.capacity_bytes)
      w_.m().fail("a gated reader entered at a position that is overwritten");
    reader_.release();
    return true;
  }
  // Like source::enter for its kinds of start.
  bool enter() {
    auto& dice = w_.m().dice();
    const std::uint32_t kind = options_.from_all ? 0 : dice.below(3);
    const std::uint64_t wanted = dice.below(w_.journal.size() + 2);
    return reader_.enter([&](std::uint64_t lowest) {
      if (kind == 0) return ring::oldest_waypoint<access>(w_.lane, lowest);
      if (kind == 1) return ring::newest_waypoint<access>(w_.lane);
      return ring::last_waypoint_before<access>(w_.lane, lowest, [&](const auto& entry) {
        check_waypoint(entry);
        return entry.seq <= wanted;
      });
    });
  }
  void check_waypoint(const ring::entry_point& entry) {
    if (!w_.is_waypoint(entry))
      w_.m().fail("a waypoint says sequence " + std::to_string(entry.seq) + " at position " +
                  std::to_string(entry.position) + ", which was never there");
  }

  bool announce() {
    using enum std::memory_order;
    const std::uint64_t mine = entry_value();
    for (int pass = 0; pass < 2; ++pass) {
      for (std::size_t i = 0; i < reader_entries; ++i) {
        std::uint64_t seen = access::load(w_.entry(i), relaxed, edge::none);
        if (seen != 0 && (pass == 0 || !w_.m().killed(static_cast<std::uint32_t>(seen >> 32))))
          continue;
        if (!access::compare_exchange(w_.entry(i), seen, mine, acq_rel, edge::announce)) continue;
        entry_ = i;
        std::uint64_t high = access::load(w_.high_water(), acquire, edge::announce);
        while (high < i + 1 &&
               !access::compare_exchange(w_.high_water(), high, i + 1, acq_rel, edge::announce)) {
        }
        return true;
      }
    }
    return false;  // all in use: as a subscribe that is refused
  }
  std::uint64_t entry_value() const { return std::uint64_t{id_} << 32 | pin_index_; }

  void leave() {
    attached_ = false;
    has_ticked_ = false;
    reader_.leave();
    auto& tick = w_.pin(pin_index_).tick;
    // [W2] release: a publisher that goes to sleep on this value has seen that this reader left.
    access::store(tick, access::load(tick, std::memory_order_relaxed, edge::none) + 1,
                  std::memory_order_release, edge::waiting);
    if (w_.m().dice().percent(30)) w_.m().pause();
    w_.m().wake_all(&tick);
    std::uint64_t expected = entry_value();
    access::compare_exchange(w_.entry(entry_), expected, 0, std::memory_order_acq_rel,
                             edge::announce);
  }

  /// True: there was something to read.
  bool poll() {
    taken_count_ = 0;
    const std::size_t budget = w_.m().dice().between(1, take_max);
    plain_sink to{{*this}};
    const bool one = plain_ && w_.m().dice().percent(40) && reader_.take_one([&](auto... record) {
      return to.take_plain(record...) == ring::verdict::taken;
    });
    const ring::poll_outcome outcome = one      ? ring::poll_outcome::more
                                       : plain_ ? reader_.poll(budget, to)
                                                : reader_.poll(budget, static_cast<sink&>(to));
    if (open_seen_ != 0 && reader_.next_seq() > open_seen_) closed();
    if (taken_count_ != 0) {
      read_taken();
      note_expected();
      return true;
    }
    switch (outcome) {
      case ring::poll_outcome::empty: return false;
      case ring::poll_outcome::more: return true;
      case ring::poll_outcome::aborted:
        if (open_seen_ == 0)
          return w_.m().fail("aborted is reported for a record that was not handed out"), false;
        open_seen_ = 0;
        return true;
      case ring::poll_outcome::lapped:
        if (options_.gating)
          return w_.m().fail("a gated reader was lapped at sequence " + std::to_string(expected_)),
                 false;
        resume();
        return true;
      case ring::poll_outcome::corrupt:
        return w_.m().fail("corrupt at sequence " + std::to_string(expected_)), false;
      default: return w_.m().fail("unsupported at sequence " + std::to_string(expected_)), false;
    }
  }

  void resume() {
    std::uint64_t first = 0;
    if (!reader_.resume(first)) return w_.m().pause();
    if (first != expected_)
      return w_.m().fail("a gap starts at " + std::to_string(first) + " instead of " +
                         std::to_string(expected_));
    if (reader_.next_seq() < expected_) return w_.m().fail("a reader went back");
    check_waypoint({reader_.position(), reader_.next_seq(), 0});
    lost_ += reader_.next_seq() - first;
    expected_ = reader_.next_seq();
    note_expected();
  }

  void read_taken() {
    for (std::size_t i = 0; i < taken_count_; ++i) {
      taken& one = taken_[i];
      if (one.view.open)
        read_open(one, i);
      else if (!reader_.may_be_lapped() && !options_.skims)  // in place
        access::copy_out(one.payload.data(), one.view.payload(), one.view.shape.payload_bytes);
    }
    if (reader_.held_bytes() >= reader_.share_bytes())
      hand_back();
    else if (w_.m().dice().percent(60))
      give_back();
    for (std::uint32_t pauses = w_.m().dice().pick({0, 0, 1, 4}); pauses != 0; --pauses)
      w_.m().pause();
    if (options_.ponders && !w_.stopping && w_.m().dice().percent(15))
      w_.m().sleep(&w_.parked(), 0);
    w_.m().mem.finish_late(w_.m().self().knows);  // completes the delayed reads
    for (std::size_t i = 0; i < taken_count_; ++i)
      if (!taken_[i].view.open) check(taken_[i]);
  }

  void check(const taken& one) {
    const ring::record_view& view = one.view;
    const std::string name = "sequence " + std::to_string(view.seq);
    if (view.seq > w_.journal.size())
      return w_.m().fail(name + " is delivered but was not committed");
    if (view.seq != expected_)
      return w_.m().fail(name + " is delivered, expected was " + std::to_string(expected_));
    const sent& was = w_.journal[view.seq - 1];
    if (view.position != was.position)
      return w_.m().fail(name + " is delivered from a wrong position");
    if (view.shape.pack() != was.shape.pack() || view.publisher_id() != was.publisher ||
        view.ticks != was.ticks)
      return w_.m().fail(name + " has another header than was committed");
    if (!options_.skims && !same_payload(was, one, was.shape.payload_bytes))
      return w_.m().fail(name + " has another payload than was committed");
    ++delivered_;
    ++expected_;
  }
  static bool same_payload(const sent& was, const taken& one, std::size_t bytes) {
    for (std::size_t done = 0; done < bytes; done += 8) {
      const std::uint64_t expected = was.payload_word(done / 8);
      if (std::memcmp(&expected, &one.payload[done / 8], std::min<std::size_t>(8, bytes - done)) !=
          0)
        return false;
    }
    return true;
  }

  // The open record was committed: its payload is complete and readable until it is given back.
  void closed() {
    open_seen_ = 0;
    const ring::record_view& view = open_.view;
    access::copy_out(open_.payload.data(), view.payload(), view.shape.payload_bytes);
    w_.m().mem.finish_late(w_.m().self().knows);
    check(open_);
  }

  // Like message::available and the bytes that it promises.
  void read_open(taken& one, std::size_t index) {
    const ring::record_view& view = one.view;
    if (!options_.wants_open)
      return w_.m().fail("an open record is delivered to a reader that did not ask for it");
    if (view.seq != expected_ + index)
      return w_.m().fail("an open record is delivered out of order");
    // The oracle may be ahead: by now the record is committed or aborted, or it is still open.
    const bool committed =
        view.seq <= w_.journal.size() && w_.journal[view.seq - 1].position == view.position;
    const bool open = w_.open_by != 0 && view.position == w_.end_position;
    open_seen_ = view.seq;
    open_.view = view;
    if (!committed && !open) return;  // aborted meanwhile
    const sent was = committed ? w_.journal[view.seq - 1] : w_.open_intent().messages[0];
    const auto& progress = *reinterpret_cast<const word*>(view.header() + 8);
    // [O1]
    const std::uint64_t available =
        access::load(progress, std::memory_order_acquire, edge::progress);
    if (available > was.shape.payload_bytes) return w_.m().fail("progress says more than there is");
    access::copy_out(one.payload.data(), view.payload(), available);
    w_.m().mem.finish_late(w_.m().self().knows);
    if (!same_payload(was, one, available))
      return w_.m().fail("an open record's progress word promises bytes that are not there");
  }

  // Like subscriber_core::release_all.
  void give_back() {
    if (reader_.held_bytes() == 0) return;
    reader_.release();
    if (reader_.unticked_bytes() >= reader_.share_bytes() / 2) tick();
  }
  // Like source::tick.
  void tick() {
    if (!reader_.has_unticked_release()) return;
    if (reader_.tick()) w_.m().wake_all(&w_.pin(pin_index_).tick);
    has_ticked_ = true;
  }
  // For a reader that is idle or has held its share.
  void hand_back() {
    give_back();
    tick();
  }

  // Like client/sleeper: arms, checks once more, sleeps.
  void sleep() {
    using enum std::memory_order;
    // [W1] fetch_or
    std::uint64_t seen = access::load(w_.armed(), relaxed, edge::none);
    while (!access::compare_exchange(w_.armed(), seen, seen | armed_bit, acq_rel, edge::armed)) {
    }
    const bool looks = w_.m().bug.omits != omission::second_look;
    const bool ready =
        looks && (access::load(w_.lane.word_at(reader_.position()), acquire, edge::commit) != 0 ||
                  reader_.lapped());
    if (!ready && !w_.stopping) w_.m().sleep(&w_.armed(), seen | armed_bit);
  }

  // No process publishes any more: a bounded number of polls reaches the tail.
  void drain() {
    std::uint32_t looks = 0;
    while (reader_.position() != w_.end_position) {
      if (!poll()) hand_back();
      if (++looks > 2000)
        return w_.m().fail("a reader does not reach the tail: it stays at sequence " +
                           std::to_string(expected_));
    }
  }
  void check_account(bool at_tail) {
    if (entered_seq_ + delivered_ + lost_ != expected_)
      w_.m().fail("delivered and lost do not add up");
    if (at_tail && expected_ != w_.journal.size() + 1)
      w_.m().fail("a reader at the tail expects another sequence");
    if (options_.gating && lost_ != 0) w_.m().fail("a gated reader lost messages");
  }
  void note_expected() { w_.expected_by_reader[pin_index_] = reader_.next_seq(); }

  world& w_;
  subscriber_options options_;
  std::size_t pin_index_;
  std::uint32_t id_;
  lane_reader reader_;
  bool plain_ = false;
  std::uint32_t leaves_left_ = 0;
  bool attached_ = false;
  std::size_t entry_ = 0;
  bool has_ticked_ = false;
  std::uint64_t entered_seq_ = 1, expected_ = 1, delivered_ = 0, lost_ = 0;
  std::uint64_t open_seen_ = 0;  // sequence of the open record that was handed out
  std::size_t taken_count_ = 0;
  std::array<taken, take_max> taken_;
  taken open_;  // the open record that was handed out

 public:
  // For the oracle, when every process sleeps.
  bool has_ticked() const { return has_ticked_; }  // since it entered
  const void* tick_word() const { return &w_.pin(pin_index_).tick; }
  bool at_tail() const { return reader_.position() == w_.end_position; }
  bool holds_nothing() const { return reader_.held_bytes() == 0; }
};

}  // namespace model
