#include "group_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace test {

using bus::layout::slot_state;
using bus::layout::slot_status;

group_file::group_file(const scratch& place, const std::string& stream, const std::string& group) {
  const int file = ::open((place.stream(stream) + "/groups/" + group).c_str(), O_RDWR | O_CLOEXEC);
  struct stat facts {};
  if (file < 0 || ::fstat(file, &facts) != 0) std::abort();
  bytes_ = static_cast<std::size_t>(facts.st_size);
  at_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ::close(file);
  if (at_ == MAP_FAILED) std::abort();
}
group_file::~group_file() { ::munmap(at_, bytes_); }

bus::layout::group_geometry group_file::geometry() const noexcept {
  const auto& info = header().info;
  return bus::layout::group_geometry::of(info.member_count, info.slot_count, info.key_capacity,
                                         info.block_count);
}

bus::layout::group_settled& group_file::settled_by(std::uint32_t member) const noexcept {
  return reinterpret_cast<bus::layout::group_settled*>(static_cast<std::byte*>(at_) +
                                                       geometry().settled)[member];
}

const bus::layout::group_slot& group_file::slot(std::uint32_t index) const noexcept {
  return reinterpret_cast<const bus::layout::group_slot*>(static_cast<const std::byte*>(at_) +
                                                          geometry().slots)[index];
}

std::uint64_t group_file::not_collected() const noexcept {
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < header().members_used.load(); ++i)
    sum += settled_by(i).tail.load() - settled_by(i).head.load();
  return sum;
}

std::string group_file::leftovers() const {
  const auto& l = header().lists;
  std::string found;
  const auto must_be = [&](const char* name, std::uint64_t is, std::uint64_t should) {
    if (is != should)
      found += std::string(" ") + name + " " + std::to_string(is) + " instead of " +
               std::to_string(should) + ";";
  };
  must_be("free slots", l.free_count, l.slots_used);
  must_be("free blocks", l.block_free, header().blocks_reserved.load());
  must_be("keys", l.key_count, 0);
  must_be("timers", l.timer_count, 0);
  must_be("leases", l.lease_count, 0);
  must_be("ready", l.ready_count, 0);
  must_be("delayed", l.delayed_count, 0);
  must_be("parked", l.parked_count, 0);
  must_be("dying", l.dying_count, 0);
  must_be("keys to look at again", l.rescan_first, 0);
  must_be("unlisted", header().unlisted.load(), 0);
  must_be("settled and not collected", not_collected(), 0);
  must_be("damaged", header().damaged.load(), 0);
  std::uint32_t steps = 0;
  for (std::uint32_t at = l.free_first; steps < l.free_count && at < header().info.slot_count;
       ++steps)
    at = slot(at).next;
  must_be("length of the free list", steps, l.free_count);
  return found;
}

std::string group_file::facts() const {
  const auto& l = header().lists;
  std::string text =
      "lists: free " + std::to_string(l.free_count) + " of " + std::to_string(l.slots_used) +
      ", ready " + std::to_string(l.ready_count) + ", leases " + std::to_string(l.lease_count) +
      ", timers " + std::to_string(l.timer_count) + ", delayed " + std::to_string(l.delayed_count) +
      ", parked " + std::to_string(l.parked_count) + ", dying " + std::to_string(l.dying_count) +
      ", rescan " + std::to_string(l.rescan_first) + ", keys " + std::to_string(l.key_count) +
      ", not collected " + std::to_string(not_collected()) + ", damaged " +
      std::to_string(header().damaged.load()) + "; slots";
  for (std::uint32_t i = 0, shown = 0; i < header().info.slot_count && shown < 12; ++i) {
    const auto t = slot_status::unpack(slot(i).status.load());
    if (t.state == slot_state::free) continue;
    ++shown;
    text += " " + std::to_string(i) + ":state " + std::to_string(static_cast<int>(t.state)) +
            " owner " + std::to_string(t.owner) + " seq " +
            std::to_string(bus::layout::seq_of_origin(slot(i).origin.load()));
  }
  return text;
}

}  // namespace test
