#pragma once
/// observer: sees the lane code's operations on memory. It is the oracle, which knows what was
/// committed, and it implements the seeded omissions.

#include <atomic>
#include <cstdint>

#include "sync/access.hpp"

namespace model {

class observer {
 public:
  virtual ~observer() = default;
  virtual void commit_word_stored(const void* word, std::uint64_t value) = 0;
  virtual bool drops_store(const void* word, std::uint64_t value, bus::sync::edge edge) = 0;
  virtual bool hides_from_reader(const void* word, bus::sync::edge edge) = 0;
};

}  // namespace model
