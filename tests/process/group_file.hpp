#pragma once
/// group_file: a group's file in memory, for tests that check what no interface shows.

#include <string>

#include "layout/group.hpp"
#include "scratch.hpp"

namespace test {

class group_file {
 public:
  group_file(const scratch& place, const std::string& stream, const std::string& group);
  ~group_file();
  group_file(const group_file&) = delete;
  group_file& operator=(const group_file&) = delete;

  bus::layout::group_header& header() const noexcept {
    return *static_cast<bus::layout::group_header*>(at_);
  }
  const bus::layout::group_slot& slot(std::uint32_t index) const noexcept;
  bus::layout::group_settled& settled_by(std::uint32_t member) const noexcept;
  std::uint64_t not_collected() const noexcept;
  /// Slots, blocks, keys and timers that are neither free nor of any message. Empty: none.
  /// REQUIRES: nothing is pending, and no process works on the group.
  std::string leftovers() const;
  /// For people: the lengths of the lists, and the slots in use.
  std::string facts() const;

 private:
  bus::layout::group_geometry geometry() const noexcept;

  void* at_;
  std::size_t bytes_;
};

}  // namespace test
