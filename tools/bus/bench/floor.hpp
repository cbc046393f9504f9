#pragma once
/// floor: the best that this machine can do, measured in the same run as the product. Uses nothing
/// of libbus.
///
///   line_round_trip   one cache line between two processes, busy polling
///   futex_round_trip  two processes that sleep and wake each other
///   minimal_ring      the simplest ring that could carry the records: 32-byte header with a commit
///                     word, packed to 64 bytes, one writer, one reader, every byte written and
///                     read; no subject, no stamp, no recovery

#include <atomic>
#include <cstdint>
#include <memory>

#include "samples.hpp"

namespace bench {

/// Each runs the near side in this process on core `near_core` and the far side in a child on
/// `far_core`.
samples line_round_trip(int near_core, int far_core, std::uint64_t trips);
samples futex_round_trip(int near_core, int far_core, std::uint64_t trips);
samples minimal_ring_round_trip(int near_core, int far_core, std::uint32_t bytes,
                                std::uint64_t trips);
/// Messages per second, one way.
double minimal_ring_stream(int writer_core, int reader_core, std::uint32_t bytes, double seconds);

/// The minimal ring; bench/peers uses it, too.
class minimal_ring {
 public:
  explicit minimal_ring(std::uint64_t capacity);
  ~minimal_ring();
  minimal_ring(const minimal_ring&) = delete;
  minimal_ring& operator=(const minimal_ring&) = delete;

  static std::uint64_t capacity_for(std::uint32_t bytes);

  char* data;
  std::uint64_t capacity;
  std::atomic<std::uint64_t>* cursor;
};

struct minimal_record {
  std::atomic<std::uint64_t> commit;
  std::uint32_t bytes;
  std::uint32_t unused[5];
};
static_assert(sizeof(minimal_record) == 32);

class minimal_writer {
 public:
  explicit minimal_writer(minimal_ring& ring) : ring_(ring), limit_(ring.capacity) {}
  void publish(const char* payload, std::uint32_t bytes);
  std::uint64_t next_sequence() const { return seq_; }

 private:
  std::atomic<std::uint64_t>& word(std::uint64_t position) {
    return reinterpret_cast<minimal_record*>(ring_.data + (position & (ring_.capacity - 1)))
        ->commit;
  }
  minimal_ring& ring_;
  std::uint64_t tail_ = 0, seq_ = 1, limit_, zeroed_ = 0;
};

class minimal_reader {
 public:
  explicit minimal_reader(minimal_ring& ring) : ring_(ring) {}
  bool poll();
  void release() { ring_.cursor->store(position_, std::memory_order_release); }
  std::uint64_t sum() const { return sum_; }
  std::uint64_t next_sequence() const { return seq_; }

 private:
  minimal_ring& ring_;
  std::uint64_t position_ = 0, seq_ = 1, sum_ = 0;
};

}  // namespace bench
