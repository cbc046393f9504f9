#pragma once
/// subject_log: the subjects of one stream on disk, in the order of their ids. Records in the log
/// name their subject by id, so a subject is durable before a record that names it.
///
/// Invariants
///   SUBJECTS-1  An entry is synced in `subjects` before a record that names it is written.
///   SUBJECTS-2  The lanes record how many entries there must be. If fewer are intact, the missing
///       ones are taken from the copy or from shared memory. If those lack them too, no byte is
///       changed and the stream is not opened.
///   SUBJECTS-3  No record ever named an entry after those that there must be: it remains from a
///       write that a crash interrupted.
///
/// Threads    one

#include <functional>
#include <string>
#include <vector>

#include <bus/error.hpp>

#include "log/disk.hpp"
#include "log/subjects.hpp"

namespace bus::storage {

class subject_log {
 public:
  /// Finds a subject by its id in another source; empty: it is not there.
  using lookup = std::function<std::optional<log::known_subject>(std::uint32_t id)>;

  /// A new one without subjects, in a stream's directory.
  /// Errors: conflict, no_space, system
  static result<subject_log> create(log::disk& on, const std::string& stream_directory,
                                    std::uint64_t stream_id);
  /// `required`: how many entries there must be. `mended` is set to what was missing and came from
  /// elsewhere.
  /// Errors: corrupt (another stream's, or some are missing), no_space, system
  static result<subject_log> open(log::disk& on, const std::string& stream_directory,
                                  std::uint64_t stream_id, std::uint64_t required,
                                  const lookup& elsewhere, std::string& mended);

  const std::vector<log::known_subject>& known() const noexcept { return known_; }
  std::uint64_t count() const noexcept { return known_.size(); }
  /// Writes and syncs.
  /// Errors: no_space, system: nothing was added
  result<void> append(const std::vector<log::known_subject>& more);

 private:
  subject_log(log::disk& on, std::string directory, std::uint64_t stream_id)
      : disk_(&on), directory_(std::move(directory)), stream_id_(stream_id) {}

  result<void> write_whole(const std::string& path);
  result<void> truncate_after(std::uint64_t end);
  void write_copy();

  log::disk* disk_;
  std::string directory_;
  std::uint64_t stream_id_;
  std::vector<log::known_subject> known_;
  std::uint64_t end_ = 0;
};

}  // namespace bus::storage
