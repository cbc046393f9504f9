#pragma once
/// catalog: the streams that have logs. Each has a directory below `streams` with its definition,
/// its subjects, and a directory per lane.
///
///   streams/NAME/stream.json     the definition and its checksum; replaced by rename
///   streams/NAME/subjects        docs/format/log.md
///   streams/NAME/lane-N/...
///
/// Invariants
///   CATALOG-1  A new stream gets its name when all of it is durable. The name is durable when
///              add() returns.
///   CATALOG-2  Removal takes the name away first, and durably: after a power loss a stream is
///              there completely or not at all.
///   CATALOG-3  Only what is durable is served. A killed busd may have left names and subjects that
///              are only in the page cache; they are synced before anything that builds on them is
///              confirmed.
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
  std::uint32_t lanes = 1;  ///< that exist now
  bool sealed = false;
};

class catalog {
 public:
  catalog(log::disk& on, std::string directory) : disk_(on), directory_(std::move(directory)) {}

  /// Makes the directories. Removes half-made and half-removed streams that a crash left.
  /// Errors: no_space, permission
  result<void> prepare();
  /// Reads all definitions. One that cannot be read is reported in `problems`, with what to do.
  result<std::vector<definition>> load(std::vector<error>& problems);
  /// Reads the definition in a directory.
  /// Errors: corrupt, not_found
  result<definition> read(const std::string& path);

  /// Adds a stream with empty logs.
  /// Errors: conflict, no_space
  result<void> add(const definition& made, std::uint64_t high_water,
                   const storage::log_options& options);
  /// Makes a copied directory the stream that `made` names. Removes the directory if that fails.
  /// From any thread.
  /// Errors: corrupt, no_space
  result<void> make_own(const std::string& building, const definition& made);
  /// Gives a directory that make_own() prepared its name.
  /// Errors: conflict, no_space
  result<void> adopt(const std::string& building, const definition& made) {
    return commit(building, made);
  }
  /// Where a directory for adopt() is built. prepare() removes it if it never got its name.
  std::string building_for(const definition& made) const;
  /// Removes a directory that was built for adopt() and is not needed.
  void forget(const std::string& building);
  /// Makes an empty log for the last lane of `changed`, then stores `changed`.
  /// Errors: no_space, system
  result<std::unique_ptr<storage::lane_log>> add_lane(const definition& changed,
                                                      std::uint64_t high_water,
                                                      const storage::log_options& options);
  /// Replaces the definition.
  /// Errors: no_space, system
  result<void> store(const definition& changed);
  result<void> remove(const std::string& name);
  /// First of two steps of remove(): takes the name away, durably. put_back() undoes it.
  /// Errors: not_found, system
  result<void> set_aside(const std::string& name);
  result<void> put_back(const std::string& name);
  /// Renames the directory that set_aside() left to a unique name, so that any thread may remove
  /// it; otherwise the next start does. Empty: the rename failed, and the next start removes it.
  std::string let_go_of_aside(const std::string& name);
  /// Establishes CATALOG-3 for one stream.
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
