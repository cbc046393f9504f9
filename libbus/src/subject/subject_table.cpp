#include "subject/subject_table.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/bits.hpp"
#include "base/hash.hpp"
#include "layout/validate.hpp"
#include "os/clock.hpp"
#include "os/files.hpp"
#include "subject/subject.hpp"
#include "sync/words.hpp"

namespace bus::subject {

namespace {

constexpr std::uint64_t entry_bytes(std::size_t length) noexcept {
  return sizeof(layout::subject_entry) + base::round_up(length, 8);
}

}  // namespace

result<os::fd> subject_table::create(const std::string& directory, std::uint32_t limit_entries,
                                     std::uint64_t bus_id, std::uint64_t stream_id, unsigned mode) {
  const std::uint64_t limit_bytes = base::round_up(
      std::uint64_t{std::max(limit_entries, 1u)} * entry_bytes(64), layout::subjects_chunk_bytes);
  const std::uint64_t total = layout::subjects_offset + limit_bytes;
  auto file = os::create_nameless(directory, total, layout::subjects_offset, mode);
  if (!file) return file;
  auto map = os::mapping::map(file->get(), 0, layout::subjects_offset, true, true);
  if (!map) return std::move(map.error());
  auto* header = new (map->data()) layout::subjects_header{};
  header->segment =
      layout::make_header(layout::segment_kind::subjects, sizeof(layout::subjects_header), total,
                          bus_id, stream_id, os::wall_ns());
  header->limit_bytes = limit_bytes;
  header->limit_entries = limit_entries;
  return file;
}

result<subject_table> subject_table::open(const std::string& path, bool writable) {
  auto found = os::open_existing(path, writable);
  if (!found) return std::move(found.error());
  if (found->bytes <= layout::subjects_offset)
    return layout::corrupt(path, "it is too short: truncated");
  auto map = os::mapping::map(found->file.get(), 0, found->bytes, writable, false);
  if (!map) return std::move(map.error());
  subject_table table;
  table.path_ = path;
  table.file_ = found->id;
  table.map_ = std::move(*map);
  const auto& header = table.header();
  auto checked =
      layout::check_header(header.segment, layout::segment_kind::subjects, found->bytes, path);
  if (!checked) return std::move(checked.error());
  table.limit_bytes_ =
      std::min<std::uint64_t>(header.limit_bytes, found->bytes - layout::subjects_offset);
  table.limit_entries_ = header.limit_entries;
  auto read = table.refresh();
  if (!read) return std::move(read.error());
  return table;
}

result<void> subject_table::refresh() {
  // [T1] acquire: pairs with the release in append
  const std::uint64_t used = sync::load_acquire(header().used_bytes);
  if (used > limit_bytes_) return layout::corrupt(path_, "its subjects extend beyond its end");
  while (scanned_bytes_ < used) {
    const std::uint32_t length = entry(scanned_bytes_).length;
    if (length == 0 || length > max_bytes || scanned_bytes_ + entry_bytes(length) > used)
      return layout::corrupt(
          path_, "subject " + std::to_string(entries_.size()) + " has an invalid length");
    entries_.push_back(scanned_bytes_);
    const auto id = static_cast<std::uint32_t>(entries_.size() - 1);
    add_to_index(id, base::hash_bytes(text(id)));
    scanned_bytes_ += entry_bytes(length);
  }
  return {};
}

std::string_view subject_table::text(std::uint32_t id) const noexcept {
  if (id >= entries_.size()) return {};
  const auto& e = entry(entries_[id]);
  return {reinterpret_cast<const char*>(&e + 1), std::min<std::size_t>(e.length, max_bytes)};
}

std::uint64_t subject_table::type(std::uint32_t id) const noexcept {
  return id < entries_.size() ? sync::load_acquire(entry(entries_[id]).type) : 0;
}

std::uint64_t subject_table::claim_type(std::uint32_t id, std::uint64_t type) noexcept {
  if (id >= entries_.size()) return type;
  return sync::set_once(entry(entries_[id]).type, type);
}

void subject_table::add_to_index(std::uint32_t id, std::uint64_t hash) {
  if (entries_.size() * 2 > index_.size()) {
    index_.assign(std::max<std::size_t>(64, index_.size() * 4), 0);
    for (std::uint32_t other = 0; other < id; ++other)
      add_to_index(other, base::hash_bytes(text(other)));
  }
  std::size_t at = hash & (index_.size() - 1);
  while (index_[at] != 0) at = (at + 1) & (index_.size() - 1);
  index_[at] = id + 1;
}

std::optional<interned> subject_table::find(std::string_view subject,
                                            std::uint64_t hash) const noexcept {
  if (index_.empty()) return std::nullopt;
  for (std::size_t at = hash & (index_.size() - 1); index_[at] != 0;
       at = (at + 1) & (index_.size() - 1)) {
    const std::string_view found = text(index_[at] - 1);
    if (found == subject) return interned{index_[at] - 1, found};
  }
  return std::nullopt;
}

result<std::optional<interned>> subject_table::intern(std::string_view subject, std::uint64_t hash,
                                                      std::uint64_t self, sync::peers& others) {
  if (auto known = find(subject, hash)) return known;
  if (full_) {
    auto read = refresh();
    if (!read) return std::move(read.error());
    return find(subject, hash);
  }
  auto& lock = header().lock;
  if (!sync::try_lock<sync::hardware>(lock, self)) {
    std::uint32_t holder = 0;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    if (sync::wait_lock(lock, self, deadline, others, holder) == sync::lock_result::busy)
      return error{errc::busy, 0, "cannot add the subject '" + std::string(subject) + "'",
                   "the subject table is held by " + others.describe(holder),
                   "continue or end that process"};
    // a dead owner left nothing to repair (TABLE-1)
  }
  sync::hardware::step(sync::failpoint::intern_locked);
  auto outcome = append(subject, hash);
  sync::unlock(lock);
  return outcome;
}

result<std::optional<interned>> subject_table::append(std::string_view subject,
                                                      std::uint64_t hash) {
  auto read = refresh();
  if (!read) return std::move(read.error());
  if (auto known = find(subject, hash)) return known;
  auto& h = header();
  const std::uint64_t need = scanned_bytes_ + entry_bytes(subject.size());
  if (entries_.size() >= limit_entries_ || need > limit_bytes_) {
    full_ = true;
    return std::optional<interned>();
  }
  if (need > sync::load_relaxed(h.reserved_bytes)) {
    const std::uint64_t chunk =
        std::min(base::round_up(need, layout::subjects_chunk_bytes), limit_bytes_);
    // No descriptor is kept for this, because a process may publish to very many streams.
    const auto found = os::open_existing(path_, true);
    if (!found || found->id != file_ ||
        !os::reserve(found->file.get(), layout::subjects_offset, chunk, path_)) {
      full_ = true;
      return std::optional<interned>();
    }
    sync::store_relaxed(h.reserved_bytes, chunk);
  }
  auto* made = new (&entry(scanned_bytes_)) layout::subject_entry{};
  made->length = static_cast<std::uint32_t>(subject.size());
  std::memcpy(reinterpret_cast<char*>(made + 1), subject.data(), subject.size());
  sync::hardware::step(sync::failpoint::intern_written);
  sync::store_relaxed(h.entry_count, entries_.size() + 1);
  sync::store_release(h.used_bytes,
                      need);  // [T1] release: the entry before used_bytes; pairs with refresh
  sync::hardware::step(sync::failpoint::intern_committed);
  read = refresh();
  if (!read) return std::move(read.error());
  return find(subject, hash);
}

}  // namespace bus::subject
