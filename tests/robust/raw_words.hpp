#pragma once
/// raw_words: shared memory as a hostile process sees it, and what it would write there.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

namespace robust {

inline std::uint32_t new_seed() {
  const char* given = std::getenv("BUS_TEST_SEED");
  const std::uint32_t seed = given != nullptr
                                 ? static_cast<std::uint32_t>(std::strtoul(given, nullptr, 10))
                                 : std::random_device{}();
  std::printf("seed %u (BUS_TEST_SEED)\n", seed);
  return seed;
}

/// The words of a mapped file, as any process that may write it could map it.
class raw_words {
 public:
  raw_words(const std::string& path, std::uint64_t from, std::uint64_t to) {
    const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    struct stat facts {};
    if (file < 0 || ::fstat(file, &facts) != 0) std::abort();
    size_ = static_cast<std::size_t>(facts.st_size);
    base_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ::close(file);
    if (base_ == MAP_FAILED) std::abort();
    words_ = static_cast<std::atomic<std::uint64_t>*>(base_) + from / 8;
    count_ = (std::min<std::uint64_t>(to, size_) - from) / 8;
  }
  ~raw_words() { ::munmap(base_, size_); }
  raw_words(const raw_words&) = delete;
  raw_words& operator=(const raw_words&) = delete;

  std::size_t count() const { return count_; }
  std::atomic<std::uint64_t>& operator[](std::size_t index) const { return words_[index]; }

 private:
  void* base_ = nullptr;
  std::size_t size_ = 0;
  std::atomic<std::uint64_t>* words_ = nullptr;
  std::size_t count_ = 0;
};

/// Values that do more harm than noise: small numbers, powers of two, the old value with one bit
/// changed.
inline std::uint64_t nasty(std::mt19937_64& random, std::uint64_t old) {
  switch (random() % 8) {
    case 0: return 0;
    case 1: return ~0ull;
    case 2: return random() % 1024;
    case 3: return 1ull << (random() % 64);
    case 4: return old ^ 1ull << (random() % 64);
    // looks like an entry of the readers table
    case 5: return (random() % 16) << 32 | (random() % 600);
    case 6: return old + 1;
    default: return random();
  }
}

}  // namespace robust
