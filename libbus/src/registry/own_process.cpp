#include "registry/own_process.hpp"

#include <algorithm>
#include <cstring>
#include <new>

#include "layout/validate.hpp"
#include "os/clock.hpp"
#include "os/files.hpp"
#include "os/random.hpp"
#include "sync/failpoint.hpp"
#include "sync/life.hpp"
#include "sync/words.hpp"

namespace bus::registry {

namespace {

using layout::first_slots;
using layout::more_slots;

void copy_text(char* to, std::size_t size, std::string_view text) noexcept {
  const std::size_t length = std::min(size - 1, text.size());
  std::memcpy(to, text.data(), length);
  std::memset(to + length, 0, size - length);
}

}  // namespace

result<std::unique_ptr<own_process>> own_process::join(const std::string& processes_directory,
                                                       std::uint32_t id, std::uint64_t bus_id,
                                                       std::string_view name,
                                                       std::uint32_t most_slots) {
  const std::uint32_t slots = std::min(most_slots, first_slots);
  const std::uint64_t bytes = layout::process_file_bytes(slots);
  auto file = os::create_nameless(processes_directory, bytes, 0600);
  if (!file) return std::move(file.error());
  auto map = os::mapping::map(file->get(), 0, bytes, true, true);
  if (!map) return std::move(map.error());

  std::unique_ptr<own_process> made(new own_process);
  made->id_ = id;
  made->who_ = os::self();
  made->path_ = processes_directory + "/" + std::to_string(id);
  made->file_ = os::id_of(file->get());
  made->used_.resize(slots);
  made->first_slots_ = slots;
  made->most_slots_ = most_slots;
  // Never reallocated, because slots are accessed meanwhile.
  made->pieces_.reserve(layout::max_slots / more_slots);
  made->map_ = std::move(*map);

  auto* header = new (made->map_.data()) layout::process_header{};
  header->segment =
      layout::make_header(layout::segment_kind::process, sizeof(layout::process_header), bytes,
                          bus_id, id, os::wall_ns());
  auto& identity = header->identity;
  identity.pid = static_cast<std::uint64_t>(made->who_.pid);
  identity.start_time = made->who_.start_time;
  identity.namespaces = made->who_.namespaces;
  identity.joined_ns = header->segment.created_ns;
  identity.id = id;
  identity.uid = os::user_id();
  identity.slot_count = slots;
  do identity.lock_key = static_cast<std::uint32_t>(os::random_id());
  while (identity.lock_key == 0);
  made->lock_word_ = sync::lock_word_of(id, identity.lock_key);
  copy_text(identity.name, sizeof identity.name, name.empty() ? made->who_.program : name);

  // Life word and mark first, the name last: a process that sees the file can prove our death.
  if (os::exists(made->path_))  // the counter was overwritten; the file is another process's
    return error{errc::conflict, 0, "cannot join the bus as process " + std::to_string(id),
                 "another process has that number", "try again"};
  auto mark = os::make_held(made->path_ + ".held", 0600);
  if (!mark) return std::move(mark.error());
  made->mark_ = std::move(*mark);
  auto held = sync::hold_life(header->life);
  if (!held) {
    os::forget_held(made->path_ + ".held");
    return std::move(held.error());
  }
  // Identifies us to processes that cannot open our file. An old link of the same id is stale.
  os::remove_file(made->path_ + ".who");
  auto named =
      os::make_text_link(made->path_ + ".who", std::to_string(made->who_.pid) + ":" +
                                                   std::to_string(sync::life_thread(header->life)) +
                                                   ":" + std::to_string(made->who_.namespaces));
  sync::reach(sync::failpoint::create_process_built);
  if (named) named = os::give_name(file->get(), made->path_);
  if (!named) {
    if (named.error().code != errc::conflict) {
      os::remove_file(made->path_ + ".held");
      os::remove_file(made->path_ + ".who");
    }
    os::forget_held(made->path_ + ".held");
    sync::release_life(header->life);
    return std::move(named.error());
  }
  made->named_ = true;
  sync::reach(sync::failpoint::create_process_named);
  return made;
}

own_process::~own_process() {
  if (!named_ || !guard_.same_process()) return;
  os::remove_file(path_);
  os::remove_file(path_ + ".held");
  os::remove_file(path_ + ".who");
  os::forget_held(path_ + ".held");
  sync::release_life(reinterpret_cast<layout::process_header*>(map_.data())->life);
}

void own_process::abandon() noexcept {
  if (!std::exchange(named_, false) || !guard_.same_process()) return;
  os::forget_held(path_ + ".held");
  sync::release_life(reinterpret_cast<layout::process_header*>(map_.data())->life);
}

layout::slot& own_process::slot(std::uint32_t index) const noexcept {
  if (index < first_slots_)
    return reinterpret_cast<layout::slot*>(map_.data() + layout::process_slots_offset)[index];
  const std::uint32_t behind = index - first_slots_;
  return reinterpret_cast<layout::slot*>(pieces_[behind / more_slots].data())[behind % more_slots];
}

// Makes the file longer; existing mappings stay where they are.
result<void> own_process::grow() {
  const auto slots = static_cast<std::uint32_t>(used_.size());
  const std::uint32_t more = std::min(more_slots, layout::max_slots - slots);
  const std::uint64_t offset = layout::process_file_bytes(slots);
  const std::uint64_t bytes = layout::process_file_bytes(slots + more) - offset;
  auto found = os::open_existing(path_, true);
  if (!found) return std::move(found.error());
  auto reserved = os::reserve(found->file.get(), offset, bytes, path_);
  if (!reserved) return reserved;
  auto map = os::mapping::map(found->file.get(), offset, bytes, true, true);
  if (!map) return std::move(map.error());
  pieces_.push_back(std::move(*map));
  used_.resize(slots + more);
  auto& identity = reinterpret_cast<layout::process_header*>(map_.data())->identity;
  // release: after the file has grown; pairs with peer::slots_now
  sync::store_release32(identity.slot_count, slots + more);
  return {};
}

ring::pin_words& own_process::pin(std::uint32_t index) const noexcept {
  return *reinterpret_cast<ring::pin_words*>(slot(index).pin);
}

std::string own_process::bell_path(std::uint32_t slot) const {
  return path_ + "." + std::to_string(slot) + ".fifo";
}

result<std::uint32_t> own_process::claim_slot(layout::slot_kind kind, std::uint64_t object_id,
                                              std::uint64_t stream_id, std::uint32_t lane,
                                              std::string_view label, std::string_view stream,
                                              std::uint64_t flags) {
  const std::lock_guard guard(mutex_);
  const bool is_interest = kind == layout::slot_kind::interest;  // not counted
  const error full{errc::no_space, 0, "cannot add a publisher or subscriber",
                   "this process uses all its " + std::to_string(most_slots_) + " slots",
                   most_slots_ < layout::max_slots
                       ? "open the bus with more slots, for example bus:///NAME?slots=" +
                             std::to_string(std::min(2 * most_slots_, layout::max_slots))
                       : "share them among more processes"};
  if (!is_interest && counted_ == most_slots_) return full;
  auto free = std::find(used_.begin(), used_.end(), false);
  if (free == used_.end()) {
    if (used_.size() == layout::max_slots) return full;
    if (auto grown = grow(); !grown) return std::move(grown.error());
    free = std::find(used_.begin(), used_.end(), false);
  }
  const auto index = free - used_.begin();
  counted_ += is_interest ? 0 : 1;
  used_[index] = true;
  auto& s = slot(static_cast<std::uint32_t>(index));
  for (auto* w : {&s.messages, &s.bytes, &s.refused}) sync::store_relaxed(*w, 0);
  for (auto& w : s.pin) sync::store_relaxed(w, 0);
  sync::store_relaxed(s.object_id, object_id);
  sync::store_relaxed(s.stream_id, stream_id);
  sync::store_relaxed(s.lane, lane);
  sync::store_relaxed(s.flags, flags);
  copy_text(s.label, sizeof s.label, label);
  copy_text(s.stream, sizeof s.stream, stream);
  // release: for monitors, the fields before the kind
  sync::store_release(s.kind, static_cast<std::uint64_t>(kind));
  return static_cast<std::uint32_t>(index);
}

void own_process::give_back(std::uint32_t index) noexcept {
  auto& s = slot(index);
  const bool is_interest =
      sync::load_relaxed(s.kind) == static_cast<std::uint64_t>(layout::slot_kind::interest);
  sync::store_release(s.kind, static_cast<std::uint64_t>(layout::slot_kind::free));
  const std::lock_guard guard(mutex_);
  used_[index] = false;
  counted_ -= is_interest ? 0 : 1;
}

}  // namespace bus::registry
