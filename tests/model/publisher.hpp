#pragma once
/// publisher: a simulated process that publishes as client/lane_port and client/writer_gate do,
/// with the same lane code.

#include "world.hpp"

namespace model {

/// Like client/writer_gate: announced readers that are not known yet hold back all publishing.
class gate {
 public:
  explicit gate(world& w) : w_(w) {}

  std::uint64_t lowest_pin(std::uint64_t tail) {
    using enum std::memory_order;
    const std::uint64_t capacity = w_.lane.capacity_bytes;
    std::uint64_t lowest = tail;
    unresolved_ = false;
    slowest_ = nullptr;
    const std::uint64_t count = access::load(w_.high_water(), acquire, edge::announce);
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t entry = access::load(w_.entry(i), acquire, edge::announce);
      if (entry == 0) continue;
      if (known_[i] != entry) {
        unresolved_ = true;
        lowest = std::min(lowest, tail > capacity ? tail - capacity : 0);
        continue;
      }
      const auto& pin = w_.pin(entry & 0xff);
      const std::uint64_t held = ring::held_position<access>(pin, world::lane_key, tail, capacity);
      if (held < lowest) {
        lowest = held;
        slowest_ = &pin;
        slowest_process_ = static_cast<std::uint32_t>(entry >> 32);
      }
    }
    return lowest;
  }
  bool has_unresolved() const { return unresolved_; }
  const ring::pin_words* slowest() const { return slowest_; }
  std::uint32_t slowest_process() const { return slowest_process_; }

  void resolve() {
    const std::uint64_t count =
        access::load(w_.high_water(), std::memory_order_acquire, edge::announce);
    for (std::uint64_t i = 0; i < count; ++i)
      known_[i] = access::load(w_.entry(i), std::memory_order_acquire, edge::announce);
    unresolved_ = false;
  }
  bool forget_dead() {
    bool any = false;
    for (std::size_t i = 0; i < reader_entries; ++i) {
      if (known_[i] == 0 || !w_.m().killed(static_cast<std::uint32_t>(known_[i] >> 32))) continue;
      std::uint64_t expected = known_[i];
      access::compare_exchange(w_.entry(i), expected, 0, std::memory_order_acq_rel, edge::announce);
      known_[i] = 0;
      any = true;
    }
    return any;
  }

 private:
  world& w_;
  std::array<std::uint64_t, reader_entries> known_{};
  const ring::pin_words* slowest_ = nullptr;
  std::uint32_t slowest_process_ = 0;
  bool unresolved_ = false;
};

struct publisher_options {
  bool exclusive = true;
  bool open_records = false;
  bool sleeps_when_full = false;
  bool small_records = false;
  bool large_records = false;
  std::uint32_t payload_bytes = 0;  // of every large record; 0: random
};

class publisher {
 public:
  publisher(world& w, publisher_options options)
      : w_(w), options_(options), gate_(w), writer_(w.lane) {
    id_ = w.m().self().id;
  }

  /// What the process does from start to exit.
  void run() {
    gate_.resolve();
    if (options_.exclusive) take_lease();
    while (w_.turns_left != 0) {
      --w_.turns_left;
      turn();
    }
    if (options_.exclusive) give_lease_back();
  }

 private:
  auto& turn_words() { return w_.lane.header->turn; }

  void lock() {
    using enum std::memory_order;
    auto& lock = turn_words().lock;
    while (!bus::sync::try_lock<access>(lock, id_)) {
      const std::uint64_t seen = access::load(lock, relaxed, edge::none);
      const auto owner = static_cast<std::uint32_t>(seen & bus::sync::lock_owner_mask);
      if (owner != 0 && w_.m().killed(owner)) {
        w_.m().adopt_dead(owner);
        if (!bus::sync::take_over<access>(lock, seen, id_)) continue;
        // With a lease the turn belongs to the lease's owner, alive or dead: take_over_lease
        // decides.
        if (access::load(turn_words().lease, relaxed, edge::none) == 0) repair();
        return;
      }
      w_.m().pause();
    }
  }
  void unlock() { bus::sync::unlock_word<access>(turn_words().lock); }

  void repair() {
    if (w_.m().bug.omits == omission::repair) return writer_.load_turn();
    w_.m().self().repairing = true;
    writer_.repair();
    w_.m().self().repairing = false;
    w_.check_turn(writer_, "after a repair");
  }

  // REQUIRES: locked. Like lane_port::take_over_lease: afterwards no other process has the lease.
  void take_over_lease() {
    using enum std::memory_order;
    const std::uint64_t lease = access::load(turn_words().lease, relaxed, edge::none);
    const auto owner = static_cast<std::uint32_t>(lease >> 32);
    if (owner == 0 || owner == id_) return;
    if (!w_.m().killed(owner))
      return w_.m().fail("a lease is held by a live process that should be gone");
    w_.m().adopt_dead(owner);
    repair();
    access::store(turn_words().lease, 0, relaxed, edge::none);
  }
  void take_lease() {
    using enum std::memory_order;
    lock();
    take_over_lease();
    const std::uint64_t generation = access::load(turn_words().generation, relaxed, edge::none) + 1;
    access::store(turn_words().generation, generation, relaxed, edge::none);
    access::store(turn_words().lease, std::uint64_t{id_} << 32 | generation, relaxed, edge::none);
    writer_.load_turn();
    w_.check_turn(writer_, "with the lease");
    unlock();
  }
  void give_lease_back() {
    lock();
    writer_.store_turn();
    access::store(turn_words().lease, 0, std::memory_order_relaxed, edge::none);
    unlock();
  }

  // Like lane_port::put_plain_shared. False: not possible now.
  bool plain_turn() {
    if (mine().count != 1 || !w_.m().dice().percent(60)) return false;
    if (!bus::sync::try_lock<access>(turn_words().lock, id_)) return false;
    bool plain = access::load(turn_words().lease, std::memory_order_relaxed, edge::none) == 0;
    if (plain) {
      writer_.load_turn();
      w_.check_turn(writer_, "with the lock");
      plain = writer_.is_plain(mine().total_bytes);
    }
    if (plain) {
      publish_plain();
      writer_.store_plain_turn();
    }
    unlock();
    if (plain) wake_readers();
    return plain;
  }
  void publish_plain() {
    const sent& message = mine().messages[0];
    writer_.publish_plain(
        message.shape.payload_bytes, mine().total_bytes, layout::pack_origin(1, id_),
        [&](std::byte* to) {
          access::copy_in(to, payload_of(message), message.shape.payload_bytes);
        },
        [&] { return message.ticks; });
    if (writer_.is_preparation_due()) writer_.prepare_plain();
  }

  void turn() {
    make_messages();
    if (!options_.exclusive) {
      if (plain_turn()) return;
      for (;;) {
        lock();
        take_over_lease();
        writer_.load_turn();
        w_.check_turn(writer_, "with the lock");
        if (has_room()) break;
        const std::uint64_t tail = writer_.tail();
        writer_.store_turn();
        unlock();
        wait_for_space(tail);
      }
      write();
      writer_.store_turn();
      unlock();
      wake_readers();
      return;
    }
    if (!opens_ && mine().count == 1 && writer_.is_plain(mine().total_bytes) &&
        w_.m().dice().percent(80)) {
      publish_plain();
      return wake_readers();
    }
    while (!has_room()) wait_for_space(writer_.tail());
    if (opens_)
      write_open();
    else
      write();
    wake_readers();
  }

  bool has_room() {
    const std::uint64_t total = mine().total_bytes;
    return writer_.has_room(total) ||
           writer_.reserve(total, [this](std::uint64_t tail) { return gate_.lowest_pin(tail); });
  }

  // REQUIRES: the lock is not held.
  void wait_for_space(std::uint64_t tail) {
    using enum std::memory_order;
    if (gate_.has_unresolved()) return gate_.resolve();
    if (gate_.forget_dead()) return;
    if (!options_.sleeps_when_full) {
      w_.m().wake_all(&w_.parked());
      return w_.m().pause();
    }
    // A publisher may spin for a while before it sleeps.
    for (std::uint32_t spins = w_.m().dice().pick({0, 0, 3, 12}); spins != 0; --spins)
      w_.m().pause();
    auto& waiting = w_.lane.header->counters.waiting;
    access::store(waiting, 1, relaxed, edge::none);
    if (const auto* pin = gate_.slowest(); pin != nullptr) {
      const std::uint64_t seen = access::load(pin->tick, relaxed, edge::none);
      access::fence(seq_cst, edge::waiting);  // [W2]
      const bool looks = w_.m().bug.omits != omission::second_scan;
      const std::uint64_t need = tail + mine().total_bytes + layout::record_align;
      const bool full = !looks || gate_.lowest_pin(tail) + w_.lane.capacity_bytes < need;
      if (full && !gate_.has_unresolved() && gate_.slowest() == pin) {
        if (w_.m().dice().percent(40)) w_.m().pause();
        w_.m().sleep(&pin->tick, seen, gate_.slowest_process());
      }
    }
    access::store(waiting, 0, relaxed, edge::none);
  }

  void write() {
    const auto& now = mine();
    std::uint64_t offset = 0;
    for (std::size_t i = 0; i < now.count; ++i) {
      writer_.write(offset, head_of(now.messages[i]), now.messages[i].ticks,
                    payload_of(now.messages[i]));
      if (i != 0) writer_.mark_member(offset, i);
      offset += now.messages[i].shape.total_bytes();
    }
    writer_.commit(offset, now.count, now.messages[0].ticks);
  }

  void write_open() {
    const sent& message = mine().messages[0];
    const ring::record_head head = head_of(message);
    std::byte* to = writer_.write_head(0, head, message.ticks);
    writer_.show_open(message.shape.total_bytes());
    wake_readers();
    const std::size_t step_bytes = 8u << w_.m().dice().below(5);
    const auto* from = static_cast<const std::byte*>(payload_of(message));
    for (std::size_t done = 0; done < message.shape.payload_bytes;) {
      const std::size_t step =
          std::min<std::size_t>(step_bytes, message.shape.payload_bytes - done);
      access::copy_in(to + done, from + done, step);
      done += step;
      writer_.show_progress(layout::record_header_bytes + 8, done);
    }
    writer_.commit(message.shape.total_bytes(), 1, message.ticks);
  }

  void wake_readers() {
    using enum std::memory_order;
    // [W1] Clears the bit and keeps the count, as fetch_and would. A reader that loaded the word
    // earlier and sleeps later finds another value.
    std::uint64_t seen = access::load(w_.armed(), relaxed, edge::none);
    while (!access::compare_exchange(w_.armed(), seen, seen & ~armed_bit, acq_rel, edge::armed)) {
    }
    if ((seen & armed_bit) == 0) return;
    if (w_.m().bug.omits != omission::armed_count)
      access::add(w_.armed(), armed_count, relaxed, edge::armed);
    w_.m().wake_all(&w_.armed());
  }

  world::intent& mine() { return w_.intents[id_]; }

  void make_messages() {
    auto& dice = w_.m().dice();
    auto& now = mine();
    const std::uint64_t largest = w_.lane.largest_bytes();
    opens_ = options_.open_records && dice.percent(60);
    now.count = 0;
    now.total_bytes = 0;
    const std::size_t wanted =
        !opens_ && !options_.large_records && dice.percent(25) ? dice.between(2, batch_max) : 1;
    const std::uint64_t ticks = ++w_.ticks;
    w_.tags += 2;  // tags in a batch differ by one, others by more
    const bool large = !options_.small_records && dice.percent(15);
    while (now.count < wanted) {
      sent message;
      message.tag = ++w_.tags;
      message.ticks = ticks;
      message.publisher = id_;
      const std::uint32_t spread = large                    ? static_cast<std::uint32_t>(largest)
                                   : options_.small_records ? 40
                                                            : 300;
      message.shape.payload_bytes = dice.below(spread);
      if (options_.large_records)
        message.shape.payload_bytes =
            options_.payload_bytes != 0
                ? options_.payload_bytes
                : static_cast<std::uint32_t>(largest / 4) + dice.below(largest * 3 / 4);
      if (dice.percent(70)) message.shape.payload_bytes &= ~7u;
      if (opens_) {
        message.shape.header_bytes = 32;
        message.shape.flags = layout::flag_progress | layout::flag_extension;
      }
      while (message.shape.total_bytes() > largest) message.shape.payload_bytes -= 64;
      if (now.total_bytes + message.shape.total_bytes() > largest) break;
      const std::size_t pins = std::max<std::size_t>(w_.pins_used, 1);
      message.bait = dice.percent(50) ? w_.expected_by_reader[dice.below(pins)]
                                      : w_.journal.size() + dice.below(3);
      now.total_bytes += message.shape.total_bytes();
      now.messages[now.count++] = message;
    }
  }
  ring::record_head head_of(const sent& message) {
    extension_ = {layout::ext_progress, 0, 0, 0};
    return {message.shape, 1, message.publisher,
            reinterpret_cast<const std::byte*>(extension_.data())};
  }
  const void* payload_of(const sent& message) {
    for (std::size_t i = 0; i * 8 < message.shape.payload_bytes; ++i)
      payload_[i] = message.payload_word(i);
    return payload_.data();
  }

  world& w_;
  publisher_options options_;
  gate gate_;
  lane_writer writer_;
  std::uint32_t id_ = 0;
  bool opens_ = false;
  std::array<std::uint64_t, 4> extension_{};
  std::array<std::uint64_t, payload_words_max> payload_{};
};

}  // namespace model
