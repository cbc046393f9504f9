#pragma once
/// catalog: which streams have logs: one directory each below `streams`, with the definition, the
/// subjects, and a directory per lane.
///
///   streams/NAME/stream.json     the definition and its checksum; replaced by rename
///   streams/NAME/subjects        docs/format/log.md
///   streams/NAME/lane-N/...
///
/// Invariants
///   CATALOG-1  A new stream takes its name when all of it is durable, and the name is durable when
///       add() returns.
///   CATALOG-2  A stream loses its name first, and durably: a power loss never shows half of one.
///   CATALOG-3  What is served is durable: a busd that was killed may have left names and subjects
///       that only the page cache knows, and nothing may be confirmed on top of them before they
///       are synced.
///
/// Threads    one; read, building_for, make_own and forget from any

#include <string>
#include <vector>

#include <bus/error.hpp>
#include <bus/stream_config.hpp>

#include "log/disk.hpp"
#include "storage/lane_log.hpp"

namespace bus::streams {

struct definition {
  stream_config config;
  std::uint64_t stream_id = 0;
  std::uint64_t epoch = 1;
  std::uint32_t lanes = 1;  // that there are now
  bool sealed = false;
};

class catalog {
 public:
  catalog(log::disk& on, std::string directory) : disk_(on), directory_(std::move(directory)) {}

  /// Makes the directories; sweeps what a crash left half made.
  /// Errors: no_space, permission
  result<void> prepare();
  /// Definitions that cannot be read are problems, each with what to do about it.
  result<std::vector<definition>> load(std::vector<error>& problems);
  /// The definition in a directory.
  /// Errors: corrupt, not_found
  result<definition> read(const std::string& path);

  /// A new stream with empty logs.
  /// Errors: conflict, no_space
  result<void> add(const definition& made, std::uint64_t high_water,
                   const storage::log_options& options);
  /// A directory that was built elsewhere gets a new definition, and is of the stream that this
  /// names: it is removed when that fails. From any thread.
  /// Errors: corrupt, no_space
  result<void> make_own(const std::string& building, const definition& made);
  /// It takes its name.
  /// Errors: conflict, no_space
  result<void> adopt(const std::string& building, const definition& made) {
    return commit(building, made);
  }
  /// Where adopt() takes it from: swept when that never happens.
  std::string building_for(const definition& made) const;
  /// A directory that was built elsewhere, and is not wanted any more.
  void forget(const std::string& building);
  /// An empty log for the last of changed.lanes, and then the definition that counts it.
  /// Errors: no_space, system
  result<std::unique_ptr<storage::lane_log>> add_lane(const definition& changed,
                                                      std::uint64_t high_water,
                                                      const storage::log_options& options);
  /// Over the old definition.
  /// Errors: no_space, system
  result<void> store(const definition& changed);
  result<void> remove(const std::string& name);
  /// remove() in two steps. After the first the stream has no name any more, durably; put_back()
  /// takes that back.
  /// Errors: not_found, system
  result<void> set_aside(const std::string& name);
  result<void> put_back(const std::string& name);
  /// The directory that set_aside() left, under a name that no other will have, so that any thread
  /// may remove it; the next start does. Empty: it cannot be renamed, and is left to the next
  /// start.
  std::string let_go_of_aside(const std::string& name);
  /// CATALOG-3, of one stream.
  /// Errors: system
  result<void> sync_stream(const std::string& name);

  std::string directory_of(const std::string& name) const {
    return directory_ + "/streams/" + name;
  }
  std::string lane_directory_of(const std::string& name, std::uint32_t lane) const;

 private:
  result<void> sync_all(const std::vector<std::string>& names);
  result<definition> read_file(const std::string& path, const char* name);
  void count_lanes(definition& made);
  result<void> build(const std::string& building, const definition& made, std::uint64_t high_water,
                     const storage::log_options& options);
  result<void> commit(const std::string& building, const definition& made);
  result<void> rename_owner(const std::string& building, const definition& made,
                            std::uint64_t from_id);
  result<void> write_definition(const std::string& directory, const definition& made);

  log::disk& disk_;
  const std::string directory_;
};

}  // namespace bus::streams
