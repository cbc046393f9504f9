#include "registry/group_pins.hpp"

#include "layout/validate.hpp"
#include "os/files.hpp"
#include "registry/group_files.hpp"
#include "sync/words.hpp"

namespace bus::registry {

result<std::shared_ptr<const group_pins>> group_pins::open(const std::string& stream_directory,
                                                           const std::string& name) {
  const std::string path = group_path(stream_directory, name);
  const auto file = os::open_existing(path, false);
  if (!file) return file.error();
  if (file->bytes < layout::group_members_offset)
    return layout::corrupt(path, "it is too short: truncated");
  auto map = os::mapping::map(file->file.get(), 0, layout::group_members_offset, false, true);
  if (!map) return std::move(map.error());
  auto made = std::make_shared<group_pins>();
  made->map_ = std::move(*map);
  made->name_ = name;
  return std::shared_ptr<const group_pins>(std::move(made));
}

std::uint64_t group_pins::reader_entry() const noexcept {
  const auto* header = reinterpret_cast<const layout::group_header*>(map_.data());
  return layout::pack_reader(layout::group_reader, header->info.ordinal);
}

// A group that was created, or removed and created again, since the last look is no stranger: an
// entry is judged only by what was read after it was seen.
std::shared_ptr<const group_pins> group_finder::find(std::uint64_t entry, bool& surely_dead) {
  surely_dead = false;
  if (const auto known = groups_.find(entry); known != groups_.end()) return known->second;
  groups_.clear();
  const auto names = list_groups(directory_);
  if (!names) return nullptr;
  bool saw_all = true;
  for (const std::string& name : *names) {
    auto opened = group_pins::open(directory_, name);
    if (opened)
      groups_.emplace((*opened)->reader_entry(), std::move(*opened));
    else
      saw_all = saw_all && opened.error().code == errc::not_found;
  }
  const auto found = groups_.find(entry);
  if (found != groups_.end()) return found->second;
  surely_dead = saw_all;
  return nullptr;
}

bool group_pins::seems_idle(const os::tick_clock& clock) const noexcept {
  const auto& header = *reinterpret_cast<const layout::group_header*>(map_.data());
  const std::uint64_t last = sync::load_relaxed(header.last_member_ticks), now = clock.now();
  return header.info.idle_release_ns != 0 && now > last &&
         static_cast<double>(now - last) * clock.ns_per_tick() >
             static_cast<double>(header.info.idle_release_ns);
}

}  // namespace bus::registry
