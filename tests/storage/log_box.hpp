#pragma once
/// log_box: records whose contents depend on their sequence, written through a lane_log and read
/// back.

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "log/history.hpp"
#include "storage/lane_log.hpp"

namespace bus::test {

/// Of any size, different for every sequence, and compressible to about half.
inline std::vector<std::byte> payload_of(std::uint64_t seq, std::size_t bytes) {
  std::vector<std::byte> made(bytes);
  std::uint64_t state = seq * 0x9e3779b97f4a7c15u + bytes;
  for (std::size_t i = 0; i < bytes; ++i) {
    if (i % 8 == 0) state = state * 6364136223846793005u + 1442695040888963407u;
    made[i] = static_cast<std::byte>(state >> (8 * (i % 8)) & 0x0f);
  }
  return made;
}

constexpr std::uint64_t time_of(std::uint64_t seq) noexcept {
  return 1'700'000'000'000'000'000u + seq * 1000;
}

inline void add_record(log::frame_builder& frame, std::size_t bytes) {
  const std::uint64_t seq = frame.next_seq();
  const auto payload = payload_of(seq, bytes);
  frame.add({static_cast<std::uint32_t>(bytes), 0, 0},
            layout::pack_origin(static_cast<std::uint32_t>(seq % 7), 1), time_of(seq),
            [&](std::byte* to) {
              if (bytes != 0) std::memcpy(to, payload.data(), bytes);
            });
}

inline bool is_intact(const log::logged_record& record) {
  const auto payload = payload_of(record.seq, record.shape.payload_bytes);
  return record.time_ns == time_of(record.seq) &&
         (payload.empty() || std::memcmp(record.payload(), payload.data(), payload.size()) == 0);
}

/// Writes `count` records as one frame and syncs. Returns 0 or the failure.
inline int commit(storage::lane_log& log, log::disk& disk, const storage::frame_memory& memory,
                  std::uint32_t count, std::size_t bytes, bool sync = true) {
  log::frame_builder frame(memory.bytes(), log.log_id(), log.align());
  frame.begin(log.next_seq());
  for (std::uint32_t i = 0; i < count; ++i) add_record(frame, bytes);
  auto begun = log.begin(frame, sync, 1, -1);
  if (!begun) return begun.error().os_errno != 0 ? -begun.error().os_errno : -1;
  log::disk_completion done;
  while (disk.reap({&done, 1}, 1'000'000'000) == 0) {
  }
  return log.finished(done.failure);
}

struct read_back {
  std::vector<std::uint64_t> seqs;
  std::vector<log::log_loss> losses;
  bool all_intact = true;
  int failure = 0;
};

inline read_back read_all_records(log::disk& disk, const std::string& directory,
                                  std::uint64_t from = 1, std::uint64_t limit = ~0ull) {
  read_back back;
  log::history history(disk, directory);
  back.failure = history.open();
  if (back.failure != 0) return back;
  history.seek(from);
  for (log::logged_record record;;) {
    const auto outcome = history.next(record, limit);
    if (outcome == log::walk_outcome::record) {
      back.seqs.push_back(record.seq);
      back.all_intact = back.all_intact && is_intact(record);
    } else if (outcome == log::walk_outcome::gap) {
      back.losses.push_back(history.loss());
    } else {
      if (outcome == log::walk_outcome::failure) back.failure = history.failure();
      return back;
    }
  }
}

}  // namespace bus::test
