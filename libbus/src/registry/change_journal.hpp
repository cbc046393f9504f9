#pragma once
/// change_journal: which streams the last changes of a bus affected. `control.generation` counts
/// the changes. A process that knew all streams at one generation and finds a later one checks only
/// the streams that the journal names.
///
/// Invariants
///   JOURNAL-1  An entry is only a shortcut. It holds if its check matches its generation, kind and
///              name. If it is not written yet, overwritten or nonsensical: check all streams.
///   JOURNAL-2  A named stream was changed before the generation rose: a process that acquires the
///              generation sees the change.
///
/// Threads    any
/// Processes  any number of writers; each generation has one
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "layout/bus_files.hpp"

namespace bus::registry {

/// What changed between two generations.
struct stream_changes {
  bool may_be_any = false;         // any stream may have changed
  bool some_left = false;          // a stream was removed
  std::vector<std::string> names;  // of the changed streams, sorted, without duplicates

  bool concerns(std::string_view stream) const noexcept;
};

class change_journal {
 public:
  /// Without entries (the bus was made by an older library), each change may affect any stream.
  change_journal() = default;
  explicit change_journal(layout::change_entry* entries) noexcept : entries_(entries) {}
  bool is_there() const noexcept { return entries_ != nullptr; }

  void note(std::uint64_t generation, layout::change_kind kind, std::string_view stream) noexcept;
  /// Changes after `seen`, up to and including `now`. `seen` = 0: none was seen.
  stream_changes between(std::uint64_t seen, std::uint64_t now) const;

 private:
  struct change {
    layout::change_kind kind;
    std::string name;
  };
  std::optional<change> read(std::uint64_t generation) const;

  layout::change_entry* entries_ = nullptr;
};

}  // namespace bus::registry
