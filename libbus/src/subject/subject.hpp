#pragma once
/// subject: dotted names, `a.b.c`, and the patterns over them. Tokens are UTF-8 without spaces,
/// control characters or wildcards.
///
///   *   exactly one token
///   >   one or more tokens, at the end only
///   #   zero or more tokens, anywhere
///
/// Cost       matching is linear without `#`; a subject is at most 255 bytes

#include <string>
#include <string_view>
#include <vector>

#include <bus/error.hpp>

namespace bus::subject {

inline constexpr std::size_t max_bytes = 255;

/// Errors: invalid_argument with position and reason
result<void> check(std::string_view subject);
/// The same without an error text, for the hot path.
bool is_valid(std::string_view subject) noexcept;

class pattern {
 public:
  /// Errors: invalid_argument with position and reason
  static result<pattern> parse(std::string_view text);

  bool matches(std::string_view subject) const noexcept;
  /// True when some subject matches both.
  bool overlaps(const pattern& other) const noexcept;
  bool matches_everything() const noexcept { return text_ == ">" || text_ == "#"; }
  const std::string& text() const noexcept { return text_; }

 private:
  std::string text_;
  std::vector<std::string_view> tokens() const;
};

}  // namespace bus::subject
