#pragma once
/// world: one lane on the model of memory, the tables around it, and the oracle.
///
/// The oracle sees every store of a commit word, so that it always knows which records are
/// committed and where the tail is. It reports a sequence that is used twice or skipped, a record
/// at the wrong position, and a repair that lost something.

#include <array>
#include <string>
#include <vector>

#include "access.hpp"
#include "ring/gate.hpp"
#include "ring/lane_reader.hpp"
#include "ring/lane_writer.hpp"
#include "ring/new_lane.hpp"
#include "sync/owner_lock.hpp"

namespace model {

namespace layout = bus::layout;
namespace ring = bus::ring;
using bus::sync::edge;
using bus::sync::word;
using lane_writer = ring::lane_writer<access>;
using lane_reader = ring::lane_reader<access>;

inline constexpr std::size_t reader_entries = 8;
inline constexpr std::size_t pin_max = 12;
inline constexpr std::size_t batch_max = 4;
inline constexpr std::uint64_t armed_bit = 1;
inline constexpr std::uint64_t armed_count = 4;  // rises with each wake-up
inline constexpr std::size_t payload_words_max = 2048 / 8;

/// One message. Its payload can be recomputed from `tag` and `bait`.
struct sent {
  std::uint64_t tag = 0;
  // a sequence that a reader expects: the payload imitates that record
  std::uint64_t bait = 0;
  std::uint64_t position = 0;
  layout::record_shape shape{};
  std::uint32_t publisher = 0;
  std::uint64_t ticks = 0;

  /// Words at places where a record could start look like the start of one.
  std::uint64_t payload_word(std::size_t i) const {
    const std::uint64_t noise = mix(tag * 0x10001 + i);
    const std::size_t in_line = (i + (layout::record_header_bytes + shape.header_bytes) / 8) % 8;
    if (in_line == 0 && noise % 8 != 0) {
      const std::uint64_t sequence = bait + (noise >> 8) % 3;
      return noise % 8 == 1   ? sequence | layout::commit_aborted
             : noise % 8 == 2 ? sequence | layout::commit_open
                              : sequence;
    }
    if (in_line == 1 && noise % 4 != 0)
      return layout::record_shape{static_cast<std::uint32_t>(8 + noise % 64), 0, 0}.pack();
    return noise | 1;
  }
};

class world final : public observer {
 public:
  struct options {
    std::uint64_t capacity_bytes = 4096;
    bool overwriting = true;
  };
  /// The messages that a publisher is about to commit.
  struct intent {
    std::array<sent, batch_max> messages;
    std::size_t count = 0;
    std::uint64_t total_bytes = 0;
  };

  explicit world(machine& m) : m_(m) {}

  void begin(const options& chosen) {
    lane = {};
    lane.header = reinterpret_cast<layout::lane_header*>(m_.mem.header());
    lane.data = m_.mem.data();
    lane.capacity_bytes = chosen.capacity_bytes;
    lane.max_message_bytes = chosen.capacity_bytes / 4;
    lane.overwriting = chosen.overwriting;
    ring::describe_new_lane(*lane.header, lane.capacity_bytes, 1,
                            [this](word& to, std::uint64_t value) { m_.mem.preset(&to, value); });
    journal.clear();
    end_position = 0;
    open_by = 0;
    aborted = 0;
    pins_used = 0;
    ticks = 0;
    tags = 0;
    turns_left = 0;
    stopping = false;
    expected_by_reader.fill(1);
    intents.assign(80, {});
  }

  machine& m() { return m_; }
  word& armed() { return m_.mem.extra(0); }
  word& parked() { return m_.mem.extra(4); }
  word& high_water() { return m_.mem.extra(8); }
  word& entry(std::size_t i) { return m_.mem.extra(16 + i); }
  ring::pin_words& pin(std::size_t i) {
    return *reinterpret_cast<ring::pin_words*>(&m_.mem.extra(64 + 8 * i));
  }
  static constexpr std::uint64_t lane_key = 0x1a9e;

  void commit_word_stored(const void* at, std::uint64_t value) override {
    const auto& self = m_.self();
    const std::uint64_t seq = value & layout::sequence_mask;
    if (m_.mem.data_offset(at) != (end_position & (lane.capacity_bytes - 1)))
      return m_.fail("a commit word is not stored at the tail: position " +
                     std::to_string(end_position));
    if (seq != journal.size() + 1)
      return m_.fail("sequence " + std::to_string(seq) + " is committed after " +
                     std::to_string(journal.size()));
    if ((value & layout::commit_aborted) != 0) {
      if (open_by == 0 || !m_.killed(open_by))
        return m_.fail("a record is aborted that no dead publisher left open");
      end_position += open_bytes();
      open_by = 0;
      ++aborted;
      return;
    }
    if ((value & layout::commit_open) != 0) {
      open_by = self.id;
      return;
    }
    if (open_by != 0 && open_by != self.id)
      return m_.fail("a record is committed over a dead publisher's open one");
    open_by = 0;
    const intent& now = intents[self.id];
    std::uint64_t position = end_position;
    for (std::size_t i = 0; i < now.count; ++i) {
      journal.push_back(now.messages[i]);
      journal.back().position = position;
      position += now.messages[i].shape.total_bytes();
    }
    end_position = position;
  }
  const intent& open_intent() const { return intents[open_by]; }
  std::uint64_t open_bytes() const { return open_intent().messages[0].shape.total_bytes(); }

  bool drops_store(const void* at, std::uint64_t value, edge e) override {
    switch (m_.bug.omits) {
      case omission::zero: return value == 0 && m_.mem.is_data(at);
      case omission::reserved_end: return at == &lane.header->limits.reserved_end;
      case omission::candidate: return at == &lane.header->limits.gate_limit && e == edge::none;
      case omission::repaired_zero_end:
        return at == &lane.header->turn.zero_end && m_.self().repairing;
      default: return false;
    }
  }
  bool hides_from_reader(const void* at, edge e) override {
    if (m_.self().plays != role::reader) return false;
    const auto& limits = lane.header->limits;
    switch (m_.bug.omits) {
      case omission::lap_check: return at == &limits.reserved_end;
      case omission::confirmation: return at == &limits.gate_limit && e == edge::gate;
      default: return false;
    }
  }

  /// Whether such a waypoint was ever written. The first record of a new lane may have been
  /// aborted since.
  bool is_waypoint(const ring::entry_point& entry) const {
    if (entry.position == 0 && entry.seq == 1) return true;
    return entry.seq != 0 && entry.seq <= journal.size() &&
           journal[entry.seq - 1].position == entry.position;
  }

  /// REQUIRES: the lock or the lease. Fails unless the publisher's tail and sequence are right.
  void check_turn(const lane_writer& writer, const char* when) {
    if (writer.tail() != end_position || writer.next_seq() != journal.size() + 1)
      m_.fail(std::string(when) + ": tail " + std::to_string(writer.tail()) + " sequence " +
              std::to_string(writer.next_seq()) + ", but the records end at " +
              std::to_string(end_position) + " and the next sequence is " +
              std::to_string(journal.size() + 1));
  }

  /// The position up to which readers leave space. No process runs meanwhile.
  std::uint64_t room_end() {
    std::uint64_t lowest = end_position;
    for (std::size_t i = 0; i < reader_entries; ++i) {
      const std::uint64_t reader = m_.mem.newest(&entry(i));
      if (reader == 0) continue;
      const ring::pin_words& of = pin(reader & 0xff);
      if (m_.mem.newest(&of.state) == ring::pin_gating)
        lowest = std::min(lowest, m_.mem.newest(&of.cursor));
    }
    return lowest + lane.capacity_bytes;
  }

  /// Checks that each block where readers may enter has the waypoint of the first record that
  /// starts in it. No process runs any more. Empty: none is missing.
  std::string missing_waypoint() {
    const std::uint64_t block = lane.block_bytes();
    const std::uint64_t end = m_.mem.newest(&lane.header->limits.reserved_end);
    const std::uint64_t lowest = end > lane.capacity_bytes ? end - lane.capacity_bytes : 0;
    std::uint64_t last_block = ~0ull;
    for (std::size_t i = 0; i < journal.size(); ++i) {
      const std::uint64_t position = journal[i].position;
      if (position / block == last_block) continue;
      const bool member = i != 0 && journal[i].tag == journal[i - 1].tag + 1 &&
                          journal[i].ticks == journal[i - 1].ticks;
      if (member) continue;  // a batch has one waypoint, for its first record
      last_block = position / block;
      if (position < lowest) continue;
      // A repair may have written it for an earlier record of a batch.
      const auto& point = lane.waypoint_of(position);
      const std::uint64_t found = m_.mem.newest(&point.position);
      const std::uint64_t seq = m_.mem.newest(&point.seq);
      if (found / block == position / block && found <= position && seq != 0 && seq <= i + 1 &&
          journal[seq - 1].position == found)
        continue;
      // The first waypoint of a new lane; its record may have been aborted since.
      if (position < block && found == 0 && seq == 1) continue;
      return "the block of sequence " + std::to_string(i + 1) + " at " + std::to_string(position) +
             " has no waypoint";
    }
    return {};
  }

  ring::lane_memory lane;
  std::vector<sent> journal;  // [sequence - 1]
  std::uint64_t end_position = 0;
  std::uint32_t open_by = 0;  // process whose record is open, 0: none
  std::uint64_t aborted = 0;
  std::vector<intent> intents;  // by process
  std::array<std::uint64_t, pin_max> expected_by_reader{};
  std::size_t pins_used = 0;
  std::uint64_t ticks = 0;
  std::uint64_t tags = 0;
  std::uint32_t turns_left = 0;  // turns left for the publishers
  bool stopping = false;         // readers read up to the tail and leave

 private:
  machine& m_;
};

}  // namespace model
