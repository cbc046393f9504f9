#pragma once
/// subject_table: the interned subjects of one stream, by the 32-bit ids that records carry.
///
/// Invariants
///   TABLE-1  An entry is complete before `used_bytes` covers it, and never changes afterwards. Its
///            type is set once.
///   TABLE-2  Memory is reserved before it is written: a full tmpfs is an error and never SIGBUS.
/// A writer that dies leaves nothing to repair: what `used_bytes` does not cover is overwritten.
///
/// Threads    intern and refresh under the owner's mutex (client/stream_handle); views stay valid
///            as long as the table

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <bus/error.hpp>

#include "layout/bus_files.hpp"
#include "os/fd.hpp"
#include "os/files.hpp"
#include "os/mapping.hpp"
#include "sync/owner_lock.hpp"

namespace bus::subject {

struct interned {
  std::uint32_t id = 0;
  std::string_view text;
};

class subject_table {
 public:
  subject_table() = default;
  /// Errors: corrupt, unsupported, permission, not_found, no_space
  static result<subject_table> open(const std::string& path, bool writable);
  /// The file for a new stream.
  static result<os::fd> create(const std::string& directory, std::uint32_t limit_entries,
                               std::uint64_t bus_id, std::uint64_t stream_id, unsigned mode);

  /// Reads the entries that were added since the last call.
  /// Errors: corrupt (an entry reaches beyond the table)
  result<void> refresh();
  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(entries_.size()); }
  std::string_view text(std::uint32_t id) const noexcept;
  std::uint64_t type(std::uint32_t id) const noexcept;
  /// Sets the type of a subject that has none. Returns its type afterwards.
  std::uint64_t claim_type(std::uint32_t id, std::uint64_t type) noexcept;

  std::optional<interned> find(std::string_view subject, std::uint64_t hash) const noexcept;
  /// Finds or appends. Empty: the table is full (entries, bytes or memory), and the record must
  /// carry its subject.
  /// REQUIRES: a valid subject, a writable table.
  /// Errors: busy (a live process holds the table's lock), corrupt
  result<std::optional<interned>> intern(std::string_view subject, std::uint64_t hash,
                                         std::uint64_t self, sync::peers& others);

 private:
  layout::subjects_header& header() const noexcept {
    return *reinterpret_cast<layout::subjects_header*>(map_.data());
  }
  layout::subject_entry& entry(std::uint64_t offset) const noexcept {
    return *reinterpret_cast<layout::subject_entry*>(map_.data() + layout::subjects_offset +
                                                     offset);
  }
  void add_to_index(std::uint32_t id, std::uint64_t hash);
  result<std::optional<interned>> append(std::string_view subject, std::uint64_t hash);

  os::file_id file_;  // the file that is mapped
  os::mapping map_;
  std::string path_;
  std::uint64_t limit_bytes_ = 0;
  std::uint32_t limit_entries_ = 0;
  std::uint64_t scanned_bytes_ = 0;
  std::vector<std::uint64_t> entries_;  // offsets, by id
  std::vector<std::uint32_t> index_;    // open addressing: id + 1; 0: free
  bool full_ = false;
};

}  // namespace bus::subject
