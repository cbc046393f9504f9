#include "registry/change_journal.hpp"

#include <algorithm>
#include <cstring>

#include "base/cycles.hpp"
#include "base/hash.hpp"
#include "config/check.hpp"
#include "registry/url.hpp"
#include "sync/words.hpp"

namespace bus::registry {

namespace {

// A writer stores its entry right after it took its generation, unless it is preempted in between.
constexpr int looks_for_an_entry = 100;

constexpr std::size_t name_words = std::size(layout::change_entry{}.name);

struct entry_text {
  std::uint64_t words[name_words]{};

  std::string_view bytes() const noexcept {
    return {reinterpret_cast<const char*>(words), sizeof words};
  }
};

std::uint64_t check_of(std::uint64_t generation, std::uint64_t kind,
                       const entry_text& name) noexcept {
  return base::mix(base::hash_bytes(name.bytes()) ^ base::mix(generation) ^ kind);
}

bool has_name(layout::change_kind kind) noexcept {
  return kind == layout::change_kind::changed || kind == layout::change_kind::removed;
}

}  // namespace

bool stream_changes::concerns(std::string_view stream) const noexcept {
  return may_be_any || std::binary_search(names.begin(), names.end(), stream);
}

void change_journal::note(std::uint64_t generation, layout::change_kind kind,
                          std::string_view stream) noexcept {
  if (entries_ == nullptr) return;
  entry_text name;
  if (!stream.empty())
    std::memcpy(name.words, stream.data(), std::min(stream.size(), sizeof name.words));
  layout::change_entry& entry = entries_[generation % layout::change_journal_entries];
  // JOURNAL-1 In any order: a reader uses an entry only if its check matches.
  for (std::size_t i = 0; i < name_words; ++i) sync::store_relaxed(entry.name[i], name.words[i]);
  sync::store_relaxed(entry.kind, static_cast<std::uint64_t>(kind));
  sync::store_relaxed(entry.check, check_of(generation, static_cast<std::uint64_t>(kind), name));
}

std::optional<change_journal::change> change_journal::read(std::uint64_t generation) const {
  const layout::change_entry& entry = entries_[generation % layout::change_journal_entries];
  for (int look = 0; look < looks_for_an_entry; ++look) {
    entry_text name;
    for (std::size_t i = 0; i < name_words; ++i) name.words[i] = sync::load_relaxed(entry.name[i]);
    const std::uint64_t kind = sync::load_relaxed(entry.kind);
    if (sync::load_relaxed(entry.check) != check_of(generation, kind, name)) {
      base::relax();
      continue;
    }
    const std::string_view bytes = name.bytes();
    change found{static_cast<layout::change_kind>(kind),
                 std::string(bytes.substr(0, bytes.find('\0')))};
    if (found.kind != layout::change_kind::none &&
        (!has_name(found.kind) || !config::name_flaw(found.name).empty()))
      return std::nullopt;
    return found;
  }
  return std::nullopt;
}

stream_changes change_journal::between(std::uint64_t seen, std::uint64_t now) const {
  stream_changes all;
  if (entries_ == nullptr || seen == 0 || now < seen ||
      now - seen > layout::change_journal_entries) {
    all.may_be_any = true;
    return all;
  }
  for (std::uint64_t generation = seen + 1; generation <= now; ++generation) {
    auto one = read(generation);
    if (!one) {
      all.may_be_any = true;
      return all;
    }
    all.some_left = all.some_left || one->kind == layout::change_kind::removed;
    if (has_name(one->kind)) all.names.push_back(std::move(one->name));
  }
  std::sort(all.names.begin(), all.names.end());
  all.names.erase(std::unique(all.names.begin(), all.names.end()), all.names.end());
  return all;
}

}  // namespace bus::registry
