#include <algorithm>
#include <vector>

#include "checksums.hpp"
#include "memory_disk.hpp"
#include "target.hpp"
#include "log/history.hpp"

namespace bus::fuzz {

namespace {

// Input: a byte of modes, then both copies and the bound without the gaps between them (raw: the
// whole file).
enum mode : std::uint8_t { mend_checksums = 1, raw = 2 };

}  // namespace

void log_state(input bytes) {
  reader in(bytes);
  const std::uint8_t modes = in.byte();
  memory_disk disk;
  auto& file = disk.files["log/state"];
  if ((modes & raw) != 0) {
    disk.put("log/state", in.rest());
  } else {
    file.resize(layout::log_state_file_bytes);
    for (std::uint64_t copy = 0; copy < 3; ++copy) {
      const input part = in.take(sizeof(layout::log_state));
      if (!part.empty())
        std::memcpy(file.data() + copy * layout::log_state_stride, part.data(), part.size());
    }
  }
  if ((modes & mend_checksums) != 0)
    for (std::uint64_t copy = 0; copy < 3 && file.size() > copy * layout::log_state_stride; ++copy)
      mend_state(std::span(file).subspan(copy * layout::log_state_stride));

  int failure = 1;
  log::state_damage damaged;
  const auto state = log::read_state(disk, "log", failure, &damaged);
  if (!state) {
    require(failure == -EBADMSG, "no state: damaged");
    require(damaged.copies, "no state: it says so");
  } else {
    require(failure == 0, "a state is no failure");
    require(state->magic == layout::log_state_magic, "a state is whole");
    // No newer copy is ignored.
    for (std::uint64_t copy = 0; copy < 2; ++copy) {
      layout::log_state other{};
      if (file.size() < copy * layout::log_state_stride + sizeof other) continue;
      std::memcpy(&other, file.data() + copy * layout::log_state_stride, sizeof other);
      const bool whole = other.magic == layout::log_state_magic &&
                         other.crc == log::state_crc(other) && other.generation % 2 == copy;
      require(!whole || other.generation <= state->generation, "the newest copy counts");
      require(whole || damaged.copies || (copy == 1 && state->generation == 0),
              "a copy that is not whole is damage");
    }
  }
  log::history history(disk, "log");
  const int opened = history.open();
  require(state ? (state->log_id == 0 || opened == 0) : opened != 0,
          "a log opens when its state is there");
  require(history.open({~0ull, 77}) != 0 || !state ||
              (state->stream_id == ~0ull && state->lane_index == 77),
          "another lane's log is refused");
  if (opened == 0) require(history.first_seq() != 0, "sequences begin at 1");
}

}  // namespace bus::fuzz
