#include "subject/subject.hpp"

#include <span>

namespace bus::subject {

namespace {

error invalid(std::string_view kind, std::string_view text, std::size_t position,
              std::string_view reason) {
  return {errc::invalid_argument, 0,
          "invalid " + std::string(kind) + " '" + std::string(text) + "'",
          "at byte " + std::to_string(position) + ": " + std::string(reason),
          "use dotted tokens such as md.eq.AAPL"};
}

// Length of the UTF-8 sequence at the start of `text`; 0 when it is not one.
std::size_t utf8_length(std::string_view text) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  std::size_t length = 0;
  unsigned minimum = 0, code = 0;
  if ((first & 0xe0u) == 0xc0u) {
    length = 2;
    minimum = 0x80;
    code = first & 0x1fu;
  } else if ((first & 0xf0u) == 0xe0u) {
    length = 3;
    minimum = 0x800;
    code = first & 0x0fu;
  } else if ((first & 0xf8u) == 0xf0u) {
    length = 4;
    minimum = 0x10000;
    code = first & 0x07u;
  } else
    return 0;
  if (text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0u) != 0x80u) return 0;
    code = code << 6 | (byte(i) & 0x3fu);
  }
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return code < minimum || code > 0x10ffff || surrogate ? 0 : length;
}

struct flaw {
  std::size_t position = 0;
  std::string_view reason;  // empty: none
};

flaw find_flaw(std::string_view text, bool wildcards) noexcept {
  if (text.empty()) return {0, "it is empty"};
  if (text.size() > max_bytes) return {max_bytes, "it is longer than 255 bytes"};
  std::size_t token_start = 0;
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '.') {
      if (i == token_start) return {i, "a token is empty"};
      token_start = ++i;
      continue;
    }
    if (c == '*' || c == '>' || c == '#') {
      if (!wildcards) return {i, "wildcards (* > #) are allowed in patterns only"};
      const bool alone = i == token_start && (i + 1 == text.size() || text[i + 1] == '.');
      if (!alone) return {i, "a wildcard must be a whole token"};
      if (c == '>' && i + 1 != text.size())
        return {i, "'>' must be the last token (use '#' elsewhere)"};
      ++i;
      continue;
    }
    if (c <= 0x20 || c == 0x7f) return {i, "spaces and control characters are not allowed"};
    const std::size_t length = utf8_length(text.substr(i));
    if (length == 0) return {i, "it is not valid UTF-8"};
    i += length;
  }
  if (token_start == text.size()) return {text.size(), "a token is empty"};
  return {};
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> tokens;
  for (std::size_t at = 0;;) {
    const std::size_t dot = text.find('.', at);
    tokens.push_back(text.substr(at, dot - at));
    if (dot == std::string_view::npos) return tokens;
    at = dot + 1;
  }
}

// Returns the first token of `text` and removes it. `text` must not be empty.
std::string_view take_token(std::string_view& text) noexcept {
  const std::size_t dot = text.find('.');
  const std::string_view token = text.substr(0, dot);
  text = dot == std::string_view::npos ? std::string_view() : text.substr(dot + 1);
  return token;
}

// Iterative, with one point to return to, as for shell globs: only the last '#' is retried, so the
// time is never exponential.
bool matches_tokens(std::string_view pattern, std::string_view subject) noexcept {
  std::string_view retry_pattern, retry_subject;
  bool can_retry = false;
  for (;;) {
    if (pattern.empty()) {
      if (subject.empty()) return true;
    } else {
      std::string_view rest = pattern;
      const std::string_view token = take_token(rest);
      if (token == "#") {
        can_retry = true;
        retry_pattern = rest;
        retry_subject = subject;
        pattern = rest;
        continue;
      }
      if (!subject.empty()) {
        if (token == ">") return true;
        std::string_view subject_rest = subject;
        const std::string_view name = take_token(subject_rest);
        if (token == "*" || token == name) {
          pattern = rest;
          subject = subject_rest;
          continue;
        }
      }
    }
    if (!can_retry || retry_subject.empty()) return false;
    take_token(retry_subject);
    pattern = retry_pattern;
    subject = retry_subject;
  }
}

// Both may contain wildcards, so this fills a table over pairs of suffixes.
bool overlap_tokens(std::span<const std::string_view> a, std::span<const std::string_view> b) {
  const std::size_t rows = a.size() + 1, columns = b.size() + 1;
  std::vector<char> possible(rows * columns, 0);
  const auto at = [&](std::size_t i, std::size_t j) -> char& { return possible[i * columns + j]; };
  at(a.size(), b.size()) = 1;
  for (std::size_t i = rows; i-- > 0;) {
    for (std::size_t j = columns; j-- > 0;) {
      if (i == a.size() && j == b.size()) continue;
      const std::string_view x = i < a.size() ? a[i] : std::string_view();
      const std::string_view y = j < b.size() ? b[j] : std::string_view();
      bool can = false;
      if (x == "#") can = can || at(i + 1, j) || (j < b.size() && at(i, j + 1));
      if (y == "#") can = can || at(i, j + 1) || (i < a.size() && at(i + 1, j));
      if (!x.empty() && !y.empty() && x != "#" && y != "#") {
        const bool same = x == "*" || y == "*" || x == ">" || y == ">" || x == y;
        if (same) {
          can = can || at(i + 1, j + 1);
          if (x == ">") can = can || at(i, j + 1);
          if (y == ">") can = can || at(i + 1, j);
        }
      }
      // '>' needs at least one token; the other side's '#' may provide any.
      if (x == ">" && y == "#") can = can || at(i + 1, j);
      if (y == ">" && x == "#") can = can || at(i, j + 1);
      at(i, j) = can ? 1 : 0;
    }
  }
  return at(0, 0) != 0;
}

}  // namespace

result<void> check(std::string_view subject) {
  const flaw found = find_flaw(subject, false);
  if (found.reason.empty()) return {};
  return invalid("subject", subject, found.position, found.reason);
}

bool is_valid(std::string_view subject) noexcept {
  return find_flaw(subject, false).reason.empty();
}

result<pattern> pattern::parse(std::string_view text) {
  const flaw found = find_flaw(text, true);
  if (!found.reason.empty()) return invalid("pattern", text, found.position, found.reason);
  pattern made;
  made.text_ = text;
  return made;
}

bool pattern::matches(std::string_view subject) const noexcept {
  return matches_tokens(text_, subject);
}

std::vector<std::string_view> pattern::tokens() const { return split(text_); }

bool pattern::overlaps(const pattern& other) const noexcept {
  return overlap_tokens(tokens(), other.tokens());
}

}  // namespace bus::subject
