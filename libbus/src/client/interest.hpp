#pragma once
/// interest: what a subscriber shows in a slot of its own before it looks which streams and lanes
/// there are: which subjects it reads, and up to which generation of the bus it has come to all of
/// them.
///
/// Invariants
///   N2  A lane that may not lose messages is not overwritten before everybody who was interested
///       when it was announced has come to it, or is gone. The interest is shown before the look at
///       what there is; the lane is announced before the look at the interests: one of the two sees
///       the other.
///
/// Threads    that of the object it belongs to

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "client/own_process.hpp"
#include "client/process_table.hpp"
#include "client/stream_handle.hpp"
#include "subject/subject.hpp"

namespace bus::client {

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
  /// All lanes that there were at `generation` have been come to. 0: not all could be looked at.
  void has_come(std::uint64_t generation) noexcept;
  void note_thread(std::uint64_t thread) noexcept;
  void withdraw(own_process& me) noexcept;

 private:
  layout::slot* slot_ = nullptr;
  std::uint32_t index_ = 0;
};

/// Somebody who is interested in a lane and has not come to it.
struct newcomer {
  std::uint32_t process = 0;
  std::uint64_t thread = 0;

  bool operator==(const newcomer&) const = default;
};
/// Of the lane that was announced with `generation`; `but`: not this one.
/// Cost: a look at every process of the bus.
std::optional<newcomer> find_newcomer(process_table& peers, const stream_handle& stream,
                                      std::uint32_t lane, std::uint64_t generation,
                                      const newcomer& but = {});

}  // namespace bus::client
