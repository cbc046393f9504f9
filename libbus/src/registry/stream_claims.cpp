#include "registry/stream_claims.hpp"

namespace bus::registry {

namespace {

// Empty: it begins with a wildcard.
std::string first_token_of(const subject::pattern& pattern) {
  const std::string_view text = pattern.text();
  const std::string_view first = text.substr(0, text.find('.'));
  return std::string(first.find_first_of("*>#") == std::string_view::npos ? first
                                                                          : std::string_view());
}

}  // namespace

void stream_claims::set(const std::string& stream, std::uint64_t inode,
                        std::vector<subject::pattern> patterns) {
  forget(stream);
  claim& made = claims_[stream];
  made.inode = inode;
  for (subject::pattern& pattern : patterns) {
    const std::string first = first_token_of(pattern);
    by_first_token_[first][stream].push_back(std::move(pattern));
    made.first_tokens.push_back(first);
  }
}

void stream_claims::forget(const std::string& stream) {
  const auto known = claims_.find(stream);
  if (known == claims_.end()) return;
  for (const std::string& first : known->second.first_tokens) {
    const auto some = by_first_token_.find(first);
    if (some == by_first_token_.end()) continue;  // two of its patterns began with it
    some->second.erase(stream);
    if (some->second.empty()) by_first_token_.erase(some);
  }
  claims_.erase(known);
}

void stream_claims::forget_all_but(const std::set<std::string>& streams) {
  std::vector<std::string> gone;
  for (const auto& [stream, known] : claims_)
    if (!streams.contains(stream)) gone.push_back(stream);
  for (const std::string& stream : gone) forget(stream);
}

std::uint64_t stream_claims::inode_of(const std::string& stream) const {
  const auto known = claims_.find(stream);
  return known != claims_.end() ? known->second.inode : 0;
}

std::optional<stream_claims::conflict> stream_claims::find_in(const by_stream& some,
                                                              const subject::pattern& wanted) {
  for (const auto& [stream, patterns] : some)
    for (const subject::pattern& pattern : patterns)
      if (wanted.overlaps(pattern)) return conflict{stream, std::string(pattern.text())};
  return std::nullopt;
}

std::optional<stream_claims::conflict> stream_claims::find(const subject::pattern& wanted) const {
  const std::string first = first_token_of(wanted);
  if (first.empty()) {
    for (const auto& [token, some] : by_first_token_)
      if (auto found = find_in(some, wanted)) return found;
    return std::nullopt;
  }
  for (const std::string& token : {first, std::string()})
    if (const auto some = by_first_token_.find(token); some != by_first_token_.end())
      if (auto found = find_in(some->second, wanted)) return found;
  return std::nullopt;
}

}  // namespace bus::registry
