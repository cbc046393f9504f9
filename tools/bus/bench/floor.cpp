#include "floor.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>

#include <cerrno>

namespace bench {

double ticks_per_ns() {
  static const double measured = [] {
    using clock = std::chrono::steady_clock;
    const auto begin = clock::now();
    const std::uint64_t first = ticks();
    while (clock::now() - begin < std::chrono::milliseconds(30)) {
    }
    return static_cast<double>(ticks() - first) /
           std::chrono::duration<double, std::nano>(clock::now() - begin).count();
  }();
  return measured;
}

namespace {

struct line_pair {
  alignas(128) std::atomic<std::uint64_t> ping{0};
  alignas(128) std::atomic<std::uint64_t> pong{0};
};

struct futex_pair {
  alignas(128) std::atomic<std::uint32_t> ping{0};
  alignas(128) std::atomic<std::uint32_t> pong{0};
};

void signal(std::atomic<std::uint32_t>& word, std::uint32_t value) {
  word.store(value, std::memory_order_release);
  syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

void await(std::atomic<std::uint32_t>& word, std::uint32_t value) {
  for (std::uint32_t seen; (seen = word.load(std::memory_order_acquire)) != value;)
    syscall(SYS_futex, &word, FUTEX_WAIT, seen, nullptr, nullptr, 0);
}

std::uint64_t record_bytes(std::uint32_t payload) {
  return (sizeof(minimal_record) + payload + 63) & ~std::uint64_t{63};
}

constexpr std::uint64_t zero_ahead = 512;

}  // namespace

samples line_round_trip(int near_core, int far_core, std::uint64_t trips) {
  shared_value<line_pair> lines;
  samples measured;
  measured.reserve(trips);
  const pid_t far = spawn(far_core, [&] {
    for (std::uint64_t i = 1; i <= trips; ++i) {
      while (lines->ping.load(std::memory_order_acquire) != i) {
      }
      lines->pong.store(i, std::memory_order_release);
    }
    return 0;
  });
  pin_to(near_core);
  for (std::uint64_t i = 1; i <= trips; ++i) {
    const std::uint64_t begin = ticks();
    lines->ping.store(i, std::memory_order_release);
    while (lines->pong.load(std::memory_order_acquire) != i) {
    }
    measured.add(ticks() - begin);
  }
  join(far);
  return measured;
}

samples futex_round_trip(int near_core, int far_core, std::uint64_t trips) {
  shared_value<futex_pair> words;
  samples measured;
  measured.reserve(trips);
  const pid_t far = spawn(far_core, [&] {
    for (std::uint32_t i = 1; i <= trips; ++i) {
      await(words->ping, i);
      signal(words->pong, i);
    }
    return 0;
  });
  pin_to(near_core);
  for (std::uint32_t i = 1; i <= trips; ++i) {
    const std::uint64_t begin = ticks();
    signal(words->ping, i);
    await(words->pong, i);
    measured.add(ticks() - begin);
  }
  join(far);
  return measured;
}

minimal_ring::minimal_ring(std::uint64_t bytes) : capacity(bytes) {
  const int file = memfd_create("floor", 0);
  if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0) std::abort();
  data =
      static_cast<char*>(mmap(nullptr, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (int half = 0; half < 2; ++half)
    mmap(data + static_cast<std::uint64_t>(half) * bytes, bytes, PROT_READ | PROT_WRITE,
         MAP_SHARED | MAP_FIXED | MAP_POPULATE, file, 0);
  close(file);
  void* page =
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  cursor = new (page) std::atomic<std::uint64_t>(0);
}

minimal_ring::~minimal_ring() {
  munmap(data, 2 * capacity);
  munmap(cursor, 4096);
}

std::uint64_t minimal_ring::capacity_for(std::uint32_t bytes) {
  std::uint64_t capacity = 1 << 20;
  while (capacity < 4 * record_bytes(bytes)) capacity *= 2;
  return capacity;
}

void minimal_writer::publish(const char* payload, std::uint32_t bytes) {
  const std::uint64_t total = record_bytes(bytes);
  while (tail_ + total + zero_ahead + 64 > limit_)
    limit_ = ring_.cursor->load(std::memory_order_acquire) + ring_.capacity;
  char* at = ring_.data + (tail_ & (ring_.capacity - 1));
  auto* record = reinterpret_cast<minimal_record*>(at);
  std::memcpy(at + sizeof(minimal_record), payload, bytes);
  record->bytes = bytes;
  if (tail_ + total >= zeroed_) {
    word(tail_ + total).store(0, std::memory_order_relaxed);
    zeroed_ = tail_ + total + 64;
  }
  record->commit.store(seq_++, std::memory_order_release);
  tail_ += total;
  if (total < zero_ahead)
    for (; zeroed_ + 64 <= tail_ + zero_ahead; zeroed_ += 64)
      word(zeroed_).store(0, std::memory_order_relaxed);
}

bool minimal_reader::poll() {
  const char* at = ring_.data + (position_ & (ring_.capacity - 1));
  const auto* record = reinterpret_cast<const minimal_record*>(at);
  if (record->commit.load(std::memory_order_acquire) != seq_) return false;
  sum_ += sum_of(at + sizeof(minimal_record), record->bytes);
  position_ += record_bytes(record->bytes);
  ++seq_;
  return true;
}

samples minimal_ring_round_trip(int near_core, int far_core, std::uint32_t bytes,
                                std::uint64_t trips) {
  minimal_ring out(minimal_ring::capacity_for(bytes)), back(minimal_ring::capacity_for(bytes));
  std::vector<char> payload(bytes);
  volatile std::uint64_t sink = 0;
  samples measured;
  measured.reserve(trips);
  const pid_t far = spawn(far_core, [&] {
    minimal_reader reader(out);
    minimal_writer writer(back);
    for (std::uint64_t i = 0; i < trips; ++i) {
      while (!reader.poll()) {
      }
      reader.release();
      writer.publish(payload.data(), bytes);
    }
    sink = reader.sum();
    return 0;
  });
  pin_to(near_core);
  minimal_writer writer(out);
  minimal_reader reader(back);
  for (std::uint64_t i = 0; i < trips; ++i) {
    const std::uint64_t begin = ticks();
    std::memset(payload.data(), static_cast<int>(i), bytes);
    writer.publish(payload.data(), bytes);
    while (!reader.poll()) {
    }
    reader.release();
    measured.add(ticks() - begin);
  }
  sink = reader.sum();
  join(far);
  return measured;
}

double minimal_ring_stream(int writer_core, int reader_core, std::uint32_t bytes, double seconds) {
  minimal_ring ring(minimal_ring::capacity_for(bytes));
  struct outcome {
    std::atomic<std::uint64_t> end{0};
    double rate = 0;
  };
  shared_value<outcome> result;
  std::vector<char> payload(bytes);
  volatile std::uint64_t sink = 0;
  const pid_t far = spawn(reader_core, [&] {
    minimal_reader reader(ring);
    std::uint64_t begin = 0;
    for (;;) {
      int got = 0;
      while (got < 256 && reader.poll()) ++got;
      if (got != 0) {
        if (begin == 0) begin = ticks();
        reader.release();
      } else if (result->end.load(std::memory_order_acquire) == reader.next_sequence()) {
        break;
      }
    }
    result->rate = static_cast<double>(reader.next_sequence() - 1) /
                   (static_cast<double>(ticks() - begin) / ticks_per_ns()) * 1e9;
    sink = reader.sum();
    return 0;
  });
  pin_to(writer_core);
  minimal_writer writer(ring);
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < end)
    for (int i = 0; i < 1024; ++i) writer.publish(payload.data(), bytes);
  result->end.store(writer.next_sequence(), std::memory_order_release);
  join(far);
  return result->rate;
}

}  // namespace bench
