#pragma once
/// change_journal: which streams the last changes of a bus were about. `control.generation` counts
/// the changes; whoever knows all streams as of one generation and finds another looks at those
/// that are named here only.
///
/// Invariants
///   JOURNAL-1  An entry is a shortcut, never the truth. It holds when its check is that of its
///       generation, kind and name; one that is not written yet, was written over, or makes no
///       sense means: look at all streams.
///   JOURNAL-2  What is named was changed before its generation was given out: who acquires the
///       generation sees it.
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

namespace bus::client {

/// What happened between two generations.
struct stream_changes {
  bool may_be_any = false;         // look at all streams
  bool some_left = false;          // streams among them were removed
  std::vector<std::string> names;  // each once, sorted

  bool concerns(std::string_view stream) const noexcept;
};

class change_journal {
 public:
  /// Of a bus that has none, made by an older library: every change may be about any stream.
  change_journal() = default;
  explicit change_journal(layout::change_entry* entries) noexcept : entries_(entries) {}
  bool is_there() const noexcept { return entries_ != nullptr; }

  void note(std::uint64_t generation, layout::change_kind kind, std::string_view stream) noexcept;
  /// After `seen`, up to and with `now`. `seen` = 0: nothing was seen.
  stream_changes between(std::uint64_t seen, std::uint64_t now) const;

 private:
  struct change {
    layout::change_kind kind;
    std::string name;
  };
  std::optional<change> read(std::uint64_t generation) const;

  layout::change_entry* entries_ = nullptr;
};

}  // namespace bus::client
