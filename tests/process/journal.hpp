#pragma once
/// journal: what a test's publishers record about their messages, in memory that survives them,
/// and the messages themselves.
///
/// Every life of a publisher has a number and counts its messages from 1. It writes `begun`
/// before a call and `done` after a call that returned ok. A refused call gives its numbers to
/// the next one. Hence, after its death: 1..done were published, nothing above `begun` was, and
/// what lies between was published completely or not at all (a batch is atomic).

#include <bus/bus.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace test {

struct journal_entry {
  std::atomic<std::uint64_t> begun{0};
  std::atomic<std::uint64_t> done{0};
};

inline constexpr std::uint32_t lives_max = 60'000;
using journal = std::array<journal_entry, lives_max>;  // by life; in a shared_value

/// The start of every payload. The rest is a pattern made from life and number.
struct stamp {
  static constexpr std::uint64_t mark = 0x6c69666573746d70u;
  std::uint64_t magic = mark;
  std::uint64_t number = 0;
  std::uint32_t life = 0;
  std::uint32_t bytes = 0;  ///< of the payload
  std::uint64_t subject_hash = 0;
  std::uint64_t header_hash = 0;  ///< of the value of header "n"; 0: no headers
  std::uint64_t check = 0;        ///< of everything above
};

inline std::uint64_t fnv(std::string_view text, std::uint64_t seed = 0xcbf29ce484222325u) noexcept {
  for (const char c : text) seed = (seed ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return seed;
}

inline std::uint64_t check_of(const stamp& s) noexcept {
  return fnv({reinterpret_cast<const char*>(&s), offsetof(stamp, check)});
}

inline std::byte filler(const stamp& s, std::size_t at) noexcept {
  return static_cast<std::byte>(s.number * 31 + s.life * 7 + at * 13 + (at >> 8));
}

/// Writes a payload of at least sizeof(stamp) bytes.
inline void write_payload(std::span<std::byte> to, std::uint32_t life, std::uint64_t number,
                          std::string_view subject, std::string_view header = {}) noexcept {
  stamp s;
  s.number = number;
  s.life = life;
  s.bytes = static_cast<std::uint32_t>(to.size());
  s.subject_hash = fnv(subject);
  s.header_hash = header.empty() ? 0 : fnv(header);
  s.check = check_of(s);
  std::memcpy(to.data(), &s, sizeof s);
  for (std::size_t i = sizeof s; i < to.size(); ++i) to[i] = filler(s, i);
}

/// Checks stamp, size and subject.
inline bool is_intact(const bus::message& m) noexcept {
  stamp s;
  if (m.size() < sizeof s) return false;
  std::memcpy(&s, m.payload().data(), sizeof s);
  return s.magic == stamp::mark && s.check == check_of(s) && s.bytes == m.size() &&
         fnv(m.subject()) == s.subject_hash;
}

inline std::vector<std::byte> make_payload(std::size_t bytes, std::uint32_t life,
                                           std::uint64_t number, std::string_view subject,
                                           std::string_view header = {}) {
  std::vector<std::byte> payload(bytes < sizeof(stamp) ? sizeof(stamp) : bytes);
  write_payload(payload, life, number, subject, header);
  return payload;
}

}  // namespace test
