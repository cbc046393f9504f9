#include "registry/process_table.hpp"

#include <algorithm>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <iterator>

#include "layout/validate.hpp"
#include "os/files.hpp"
#include "sync/words.hpp"

namespace bus::registry {

result<std::shared_ptr<const peer>> peer::open(const std::string& path) {
  auto found = os::open_existing(path, false);
  if (!found) return std::move(found.error());
  if (found->bytes < layout::process_file_bytes(1))
    return layout::corrupt(path, "it is too short: truncated");
  auto map = os::mapping::map(found->file.get(), 0, found->bytes, false, false);
  if (!map) return std::move(map.error());
  auto made = std::make_shared<peer>();
  made->map_ = std::move(*map);
  const auto& header = *reinterpret_cast<const layout::process_header*>(made->map_.data());
  // The file grows; the header has its first size.
  auto checked =
      layout::check_header(header.segment, layout::segment_kind::process,
                           std::min<std::uint64_t>(found->bytes, header.segment.total_bytes), path);
  if (!checked) return std::move(checked.error());
  std::memcpy(&made->identity_, &header.identity, sizeof made->identity_);
  made->identity_.name[sizeof made->identity_.name - 1] = '\0';
  // The file grows before slot_count does.
  const std::uint32_t slots = made->identity_.slot_count;
  if (slots > layout::max_slots ||
      (found->bytes != layout::process_file_bytes(slots) &&
       found->bytes !=
           layout::process_file_bytes(std::min(slots + layout::more_slots, layout::max_slots))))
    return layout::corrupt(path, "its number of slots is invalid");
  return std::shared_ptr<const peer>(std::move(made));
}

const layout::life_cell& peer::life() const noexcept {
  return reinterpret_cast<const layout::process_header*>(map_.data())->life;
}

const layout::slot* peer::slot(std::uint32_t index) const noexcept {
  if (index >= identity_.slot_count) return nullptr;
  return reinterpret_cast<const layout::slot*>(map_.data() + layout::process_slots_offset) + index;
}

std::uint32_t peer::slots_now() const noexcept {
  const auto& identity = reinterpret_cast<const layout::process_header*>(map_.data())->identity;
  // acquire: the file has the slots; pairs with own_process::grow
  return sync::load_acquire32(identity.slot_count);
}

bool peer::claims_lane(std::uint64_t stream_id, std::uint32_t lane) const noexcept {
  // An older library does not store its claims; or there are slots that are not mapped here.
  if (identity_.lock_key == 0 || slots_now() > identity_.slot_count) return true;
  for (std::uint32_t at = 0; at < identity_.slot_count; ++at) {
    const layout::slot& one = *slot(at);
    if (static_cast<layout::slot_kind>(sync::load_acquire(one.kind)) ==
            layout::slot_kind::publisher &&
        (sync::load_relaxed(one.flags) & layout::slot_leasing) != 0 &&
        sync::load_relaxed(one.stream_id) == stream_id && sync::load_relaxed(one.lane) == lane)
      return true;
  }
  return false;
}

void process_table::retire(std::map<std::uint32_t, std::shared_ptr<const peer>>::iterator entry) {
  constexpr std::size_t retired_max = 256;
  retired_.push_back(std::move(entry->second));
  if (retired_.size() > retired_max) retired_.pop_front();
  known_.erase(entry);
}

std::shared_ptr<const peer> process_table::find(std::uint32_t id) {
  const std::lock_guard guard(mutex_);
  if (const auto known = known_.find(id); known != known_.end()) {
    if (sync::read_life(known->second->life()) == sync::life_state::alive) {
      if (known->second->slots_now() <= known->second->identity().slot_count) return known->second;
      auto grown = peer::open(path_of(id));
      if (!grown || (*grown)->identity().id != id) return known->second;  // with its mapped slots
      retire(known);
      known_.emplace(id, *grown);
      return *grown;
    }
    // Its file may be removed by now: the process no longer matters.
    if (has_left(id)) {
      retire(known);
      return nullptr;
    }
    // Dead, or the id belongs to another process now.
    if (auto again = peer::open(path_of(id));
        again && sync::read_life((*again)->life()) == sync::life_state::alive) {
      retire(known);
      known_.emplace(id, *again);
      return *again;
    }
    return known->second;
  }
  auto opened = peer::open(path_of(id));
  if (!opened || (*opened)->identity().id != id) return nullptr;
  // A new process: a good moment to drop those that have left.
  for (auto at = known_.begin(); at != known_.end();) {
    const auto next = std::next(at);
    if (sync::read_life(at->second->life()) != sync::life_state::alive && has_left(at->first))
      retire(at);
    at = next;
  }
  known_.emplace(id, *opened);
  return *opened;
}

bool process_table::has_left(std::uint32_t id) const noexcept {
  return os::surely_missing(path_of(id));
}

std::optional<process_table::said> process_table::who_of(std::uint32_t id) const noexcept {
  const std::string text = os::link_target(who_path_of(id));
  said found;
  std::uint64_t namespaces = 0;
  if (std::sscanf(text.c_str(), "%" SCNd64 ":%" SCNd64 ":%" SCNu64, &found.pid, &found.life_thread,
                  &namespaces) != 3 ||
      namespaces != self_.namespaces || found.pid <= 0 || found.life_thread <= 0)
    return std::nullopt;
  return found;
}

sync::life_state process_table::state(std::uint32_t id) {
  if (const auto p = find(id)) return sync::read_life(p->life());
  if (has_left(id)) return sync::life_state::left;
  const auto w = who_of(id);
  return w && os::thread_has_ended(w->pid, w->life_thread) ? sync::life_state::dead
                                                           : sync::life_state::alive;
}

const layout::life_cell* process_table::life_of(std::uint32_t id) noexcept {
  const auto p = find(id);
  return p ? &p->life() : nullptr;  // stays mapped: known_ holds it
}

bool process_table::proven_dead(std::uint32_t id) noexcept {
  const auto p = find(id);
  if (!p) {
    // Its file may have been deleted while it is alive: then the mark beside it decides, while that
    // exists.
    if (has_left(id)) return os::is_held(mark_of(id)) == os::certainty::no;
    const auto w = who_of(id);
    return w && os::thread_has_ended(w->pid, w->life_thread) && os::has_no_memory(w->pid);
  }
  if (sync::read_life(p->life()) == sync::life_state::alive) return false;
  const auto& who = p->identity();
  const bool unmarked = os::is_held(mark_of(id)) == os::certainty::no;
  if (who.namespaces != self_.namespaces) return unmarked;
  const auto pid = static_cast<std::int64_t>(who.pid);
  // An exec leaves the pid alive with one thread and other memory; the mark was released with the
  // old memory.
  return os::all_threads_exiting(pid, who.start_time) || (unmarked && os::has_one_thread(pid)) ||
         os::has_no_memory(pid);
}

bool process_table::uses_key(std::uint32_t id, std::uint32_t key) noexcept {
  const auto p = find(id);
  return !p || p->identity().lock_key == key;
}

std::string process_table::why_unseen(std::uint32_t id) {
  if (find(id)) return {};
  const auto opened = peer::open(path_of(id));
  return opened ? "its file names another process" : opened.error().why;
}

std::string process_table::how_to_end(std::uint32_t id) const {
  const auto w = who_of(id);
  return w ? "end it (kill " + std::to_string(w->pid) + "): what it left is then removed"
           : "find out which process has " + path_of(id) + " open (fuser), and end it";
}

std::string process_table::describe(std::uint32_t id) {
  const auto p = find(id);
  if (!p) return "process " + std::to_string(id) + " of this bus";
  const auto& who = p->identity();
  const bool foreign = who.namespaces != self_.namespaces;
  const bool stopped =
      !foreign && os::is_stopped(static_cast<std::int64_t>(who.pid), who.start_time);
  return std::string(who.name) + " (pid " + std::to_string(who.pid) +
         (foreign ? " of another namespace" : "") + (stopped ? ", stopped)" : ")");
}

std::vector<std::uint32_t> process_table::ids() const {
  std::vector<std::uint32_t> found;
  auto names = os::list_directory(directory_);
  if (!names && listing_) {
    const std::lock_guard guard(listing_mutex_);
    names = os::list_open_directory(listing_.get());
  }
  if (!names) return found;
  for (const std::string& name : *names) {
    std::uint32_t id = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), id);
    if (parsed.ec == std::errc() && parsed.ptr == name.data() + name.size()) found.push_back(id);
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<std::uint32_t> process_table::gone() {
  auto found = ids();
  std::erase_if(found, [&](std::uint32_t id) {
    return id == self_id_ || state(id) == sync::life_state::alive || !proven_dead(id);
  });
  return found;
}

void process_table::reap_process(std::span<const std::uint32_t> gone) {
  for (const std::uint32_t id : gone) {
    os::remove_file(path_of(id));
    os::remove_file(mark_of(id));
    os::remove_file(who_path_of(id));
    const std::lock_guard guard(mutex_);
    if (const auto known = known_.find(id); known != known_.end()) retire(known);
  }
  // Only a crash leaves a doorbell.
  if (const auto names = os::list_directory(directory_)) {
    for (const std::string& name : *names) {
      const std::string path = directory_ + "/" + name;
      if (!os::surely_missing(directory_ + "/" + name.substr(0, name.find('.')))) continue;
      // A mark is made before its process file: one that may be held belongs to a process that is
      // joining.
      const std::string mark = directory_ + "/" + name.substr(0, name.find('.')) + ".held";
      if (name.ends_with(".fifo") || ((name.ends_with(".held") || name.ends_with(".who")) &&
                                      os::is_held(mark) == os::certainty::no))
        os::remove_file(path);
    }
  }
}

}  // namespace bus::registry
