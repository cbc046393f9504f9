#pragma once
/// interest: what a subscriber shows in a slot of its own before it lists the streams and lanes:
/// the subjects that it reads, and the generation of the bus up to which it has come to all their
/// lanes.
///
/// Invariants
///   N2  A lane that may not lose messages is not overwritten before each subscriber that was
///       interested when it was announced has come to it or has exited. The interest is shown
///       before the streams are listed; the lane is announced before the interests are read. So one
///       of the two sees the other.
///
/// Threads    that of the object it belongs to

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "registry/own_process.hpp"
#include "registry/process_table.hpp"
#include "registry/stream_handle.hpp"
#include "subject/subject.hpp"

namespace bus::registry {

class interest {
 public:
  struct wish {
    std::span<const subject::pattern> patterns;
    std::string_view stream;            // only of this one; empty: of all
    std::optional<std::uint32_t> lane;  // only this one
    std::uint32_t subscriber = 0;
  };
  /// Errors: no_space (all slots used)
  static result<interest> show(own_process& me, const wish& wanted);

  interest() = default;
  /// The subscriber has come to all lanes that existed at `generation`. 0: not all could be
  /// checked.
  void has_come(std::uint64_t generation) noexcept;
  void note_thread(std::uint64_t thread) noexcept;
  void withdraw(own_process& me) noexcept;

 private:
  layout::slot* slot_ = nullptr;
  std::uint32_t index_ = 0;
};

/// A thread of a process that is interested in a lane and has not come to it.
struct newcomer {
  std::uint32_t process = 0;
  std::uint64_t thread = 0;

  bool operator==(const newcomer&) const = default;
};
/// Of the lane that was announced with `generation`. Ignores `but`.
/// Cost: reads the slots of every process of the bus.
std::optional<newcomer> find_newcomer(process_table& peers, const stream_handle& stream,
                                      std::uint32_t lane, std::uint64_t generation,
                                      const newcomer& but = {});

}  // namespace bus::registry
