#pragma once
/// stream_handle: one stream as this process has opened it: facts, patterns, subject table and
/// mapped lanes.
///
/// Threads    any

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "registry/stream_files.hpp"
#include "subject/subject.hpp"
#include "subject/subject_table.hpp"

namespace bus::registry {

class bus_directory;
class group_map;

class stream_handle {
 public:
  /// `before`: the previous handle of the same stream, if any: its rings stay mapped.
  static std::shared_ptr<stream_handle> make(const std::string& directory,
                                             const stream_facts& facts,
                                             const std::shared_ptr<stream_handle>& before);

  const stream_facts& facts() const noexcept { return facts_; }
  const std::string& name() const noexcept { return facts_.config.name; }
  const std::string& directory() const noexcept { return directory_; }
  bool is_default() const noexcept { return facts_.config.name == default_stream; }
  bool has_log() const noexcept { return facts_.config.storage != storage_class::memory; }
  bool captures(std::string_view subject) const noexcept;
  bool may_match(const subject::pattern& pattern) const noexcept;

  /// Lanes that exist now.
  std::uint32_t lane_count() const;
  result<std::shared_ptr<lane_map>> lane(std::uint32_t index, bool writable);

  /// Empty: the table is full, and the record carries its subject.
  /// Errors: busy, corrupt, permission
  result<std::optional<subject::interned>> intern(std::string_view subject, std::uint64_t self,
                                                  sync::peers& others);
  /// Empty view: unknown even after a refresh.
  /// Errors: corrupt
  result<std::string_view> subject_text(std::uint32_t id);
  std::uint64_t subject_type(std::uint32_t id);
  std::uint64_t claim_type(std::uint32_t id, std::uint64_t type);
  std::uint32_t subject_count();
  /// True: files that are in use here were just found deleted. The whole stream, or that group, is
  /// then closed for this process. Adds the number of files that were checked to `looked`.
  bool look_for_files(const bus_directory& bus, std::size_t& looked) noexcept;
  bool is_lost() const noexcept { return lost_.load(); }
  error lost_error() const;
  /// Notes a group of the stream that is in use here.
  void remember(const std::shared_ptr<group_map>& group);
  /// Opens what reading needs: a stream that is removed later stays readable to the end.
  result<void> prepare_reading();

 private:
  result<void> open_table(bool writable);

  stream_facts facts_;
  std::string directory_, stream_path_, subjects_path_;
  std::vector<subject::pattern> patterns_;
  std::mutex mutex_;
  std::optional<subject::subject_table> writable_table_, readable_table_;
  std::vector<std::shared_ptr<lane_map>> writable_lanes_, readable_lanes_;
  std::vector<std::weak_ptr<group_map>> groups_;
  std::atomic<bool> lost_{false};
};

}  // namespace bus::registry
