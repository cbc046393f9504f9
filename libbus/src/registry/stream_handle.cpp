#include "registry/stream_handle.hpp"

#include <algorithm>

#include "base/hash.hpp"
#include "os/files.hpp"
#include "registry/bus_directory.hpp"
#include "registry/group_files.hpp"
#include "sync/words.hpp"

namespace bus::registry {

std::shared_ptr<stream_handle> stream_handle::make(const std::string& directory,
                                                   const stream_facts& facts,
                                                   const std::shared_ptr<stream_handle>& before) {
  auto made = std::make_shared<stream_handle>();
  made->facts_ = facts;
  made->directory_ = directory;
  made->stream_path_ = directory + "/stream";
  made->subjects_path_ = directory + "/subjects";
  // Only limits or the seal changed: the rings are the same.
  if (before != nullptr && before->facts_.stream_id == facts.stream_id) {
    const std::lock_guard guard(before->mutex_);
    made->readable_lanes_ = before->readable_lanes_;
    made->writable_lanes_ = before->writable_lanes_;
    made->groups_ = before->groups_;
    made->lost_.store(before->lost_.load());
  }
  for (const std::string& text : made->facts_.config.subjects)
    made->patterns_.push_back(*subject::pattern::parse(text));
  return made;
}

bool stream_handle::captures(std::string_view subject) const noexcept {
  return std::any_of(patterns_.begin(), patterns_.end(),
                     [&](const auto& pattern) { return pattern.matches(subject); });
}

bool stream_handle::may_match(const subject::pattern& wanted) const noexcept {
  return std::any_of(patterns_.begin(), patterns_.end(),
                     [&](const auto& pattern) { return pattern.overlaps(wanted); });
}

std::uint32_t stream_handle::lane_count() const {
  if (facts_.config.mode == lane_mode::fixed) return facts_.config.lanes;
  std::uint32_t count = 1;
  while (count < facts_.config.lanes && os::exists(lane_path(directory_, count))) ++count;
  return count;
}

result<std::shared_ptr<lane_map>> stream_handle::lane(std::uint32_t index, bool writable) {
  if (lost_.load()) return lost_error();
  const std::lock_guard guard(mutex_);
  auto& lanes = writable ? writable_lanes_ : readable_lanes_;
  if (index >= lanes.size()) lanes.resize(index + 1);
  if (!lanes[index]) {
    auto opened = lane_map::open(directory_, facts_, index, writable);
    if (!opened) return opened;
    lanes[index] = std::move(*opened);
  }
  return lanes[index];
}

// Separate tables, so that a process that only reads needs no write permission.
result<void> stream_handle::open_table(bool writable) {
  auto& table = writable ? writable_table_ : readable_table_;
  if (table) return {};
  auto opened = subject::subject_table::open(directory_ + "/subjects", writable);
  if (!opened) return std::move(opened.error());
  table.emplace(std::move(*opened));
  return {};
}

result<std::optional<subject::interned>> stream_handle::intern(std::string_view subject,
                                                               std::uint64_t self,
                                                               sync::peers& others) {
  const std::lock_guard guard(mutex_);
  auto opened = open_table(true);
  if (!opened) return std::move(opened.error());
  return writable_table_->intern(subject, base::hash_bytes(subject), self, others);
}

result<std::string_view> stream_handle::subject_text(std::uint32_t id) {
  const std::lock_guard guard(mutex_);
  auto opened = open_table(false);
  if (!opened) return std::move(opened.error());
  if (id >= readable_table_->size()) {
    auto read = readable_table_->refresh();
    if (!read) return std::move(read.error());
  }
  return readable_table_->text(id);
}

std::uint64_t stream_handle::subject_type(std::uint32_t id) {
  const std::lock_guard guard(mutex_);
  return open_table(false) ? readable_table_->type(id) : 0;
}

std::uint64_t stream_handle::claim_type(std::uint32_t id, std::uint64_t type) {
  const std::lock_guard guard(mutex_);
  return open_table(true) ? writable_table_->claim_type(id, type) : type;
}

// A closed lane was removed in order, and so is a lane of a stream that is being removed.
bool stream_handle::look_for_files(const bus_directory& bus, std::size_t& looked) noexcept {
  if (lost_.load()) return false;
  const std::lock_guard guard(mutex_);
  bool in_use = false, lost = false, group_lost = false;
  const auto is_open = [](const lane_map& lane) {
    return sync::load_acquire(lane.header().counters.closed) == 0;
  };
  for (const auto* lanes : {&writable_lanes_, &readable_lanes_})
    for (const auto& lane : *lanes) {
      if (lane == nullptr || !is_open(*lane)) continue;
      in_use = true;
      looked += 2;
      lost = lost || !lane->has_files();
    }
  if (in_use) {
    looked += 2;
    lost = lost || os::surely_missing(stream_path_) || os::surely_missing(subjects_path_);
  }
  std::erase_if(groups_, [](const auto& group) { return group.expired(); });
  for (const auto& one : groups_) {
    const auto group = one.lock();
    if (group == nullptr || group->is_lost()) continue;
    ++looked;
    if (group->has_file()) continue;
    group->note_lost();
    group_lost = true;
  }
  if (lost && !bus.is_being_removed(facts_.stream_id)) {
    lost = false;
    for (const auto* lanes : {&writable_lanes_, &readable_lanes_})
      for (const auto& lane : *lanes) lost = lost || (lane != nullptr && is_open(*lane));
  } else {
    lost = false;
  }
  if (lost) {
    for (const auto* lanes : {&writable_lanes_, &readable_lanes_})
      for (const auto& lane : *lanes)
        if (lane != nullptr) lane->note_lost();
    lost_.store(true);
  }
  return lost || group_lost;
}

void stream_handle::remember(const std::shared_ptr<group_map>& group) {
  const std::lock_guard guard(mutex_);
  groups_.push_back(group);
}

error stream_handle::lost_error() const {
  return {errc::closed, 0, "cannot use stream '" + name() + "'",
          "some of its files in " + directory_ + " were deleted while it was in use",
          "find out what deletes files there; add the stream again, and reopen what used it"};
}

result<void> stream_handle::prepare_reading() {
  const std::lock_guard guard(mutex_);
  return open_table(false);
}

std::uint32_t stream_handle::subject_count() {
  const std::lock_guard guard(mutex_);
  if (!open_table(false) || !readable_table_->refresh()) return 0;
  return readable_table_->size();
}

}  // namespace bus::registry
