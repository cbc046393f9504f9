#pragma once
/// stream_claims: which subjects the declared streams of a bus capture. No two streams may capture
/// the same subject.
///
/// Threads    none of its own: its owner locks it

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "subject/subject.hpp"

namespace bus::registry {

class stream_claims {
 public:
  struct conflict {
    std::string stream;
    std::string pattern;
  };

  /// Replaces the patterns of the stream. `inode`: of its directory; 0: not known.
  void set(const std::string& stream, std::uint64_t inode, std::vector<subject::pattern> patterns);
  void forget(const std::string& stream);
  void forget_all_but(const std::set<std::string>& streams);
  /// 0 for an unknown stream.
  std::uint64_t inode_of(const std::string& stream) const;
  /// Cost: by the patterns that begin with the same token or a wildcard; for a pattern that begins
  /// with a wildcard, by all.
  std::optional<conflict> find(const subject::pattern& wanted) const;

 private:
  struct claim {
    std::uint64_t inode = 0;
    std::vector<std::string> first_tokens;
  };
  using by_stream = std::map<std::string, std::vector<subject::pattern>>;
  static std::optional<conflict> find_in(const by_stream& some, const subject::pattern& wanted);

  std::map<std::string, claim> claims_;
  std::map<std::string, by_stream> by_first_token_;  // those that begin with a wildcard: at ""
};

}  // namespace bus::registry
