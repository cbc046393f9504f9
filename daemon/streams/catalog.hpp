#pragma once
/// catalog: which streams have logs: one directory each below `streams`, with the definition, the
/// subjects, and a directory per lane.
///
///   streams/NAME/stream.json     the definition and its checksum; replaced by rename
///   streams/NAME/subjects        docs/format/log.md
///   streams/NAME/lane-N/...
///
/// Threads    one

#include <string>
#include <vector>

#include <bus/error.hpp>
#include <bus/stream_config.hpp>

#include "log/disk.hpp"

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

  /// Makes the directories; sweeps what a crash left half made. Errors: no_space, permission
  result<void> prepare();
  /// Definitions that cannot be read are problems, each with what to do about it.
  result<std::vector<definition>> load(std::vector<error>& problems);

  /// The definition in a directory. Errors: corrupt, not_found
  result<definition> read(const std::string& path);
  /// A directory that was built elsewhere, with a new definition. Errors: conflict, no_space
  result<void> adopt(const std::string& building, const definition& made);

  /// A directory under another name, for everything that belongs to a new stream; commit() names
  /// it. Errors: conflict, no_space
  result<std::string> begin(const definition& made);
  result<void> commit(const std::string& building, const definition& made);
  /// Over the old definition. Errors: no_space, system
  result<void> store(const definition& changed);
  result<void> remove(const std::string& name);

  std::string directory_of(const std::string& name) const {
    return directory_ + "/streams/" + name;
  }

 private:
  result<void> write_definition(const std::string& directory, const definition& made);
  void remove_tree(const std::string& path);

  log::disk& disk_;
  const std::string directory_;
};

}  // namespace bus::streams
