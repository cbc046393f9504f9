#pragma once
/// subject_log: the subjects of one stream on disk, in the order of their ids. A record in the log
/// names its subject by id: the subject is durable before the record is.
///
/// Threads    one

#include <string>
#include <vector>

#include <bus/error.hpp>

#include "log/disk.hpp"
#include "log/subjects.hpp"

namespace bus::storage {

class subject_log {
 public:
  /// Reads what there is; a torn end is cut. Errors: no_space, system
  static result<subject_log> open(log::disk& on, std::string path);

  const std::vector<log::known_subject>& known() const noexcept { return known_; }
  std::uint64_t count() const noexcept { return known_.size(); }
  /// Writes and syncs. Errors: no_space, system: nothing was added
  result<void> append(const std::vector<log::known_subject>& more);

 private:
  subject_log(log::disk& on, std::string path) : disk_(&on), path_(std::move(path)) {}

  result<void> cut_end();

  log::disk* disk_;
  std::string path_;
  std::vector<log::known_subject> known_;
  std::uint64_t end_ = 0;
};

}  // namespace bus::storage
