#pragma once
/// message: what clients and busd send over the control socket. Twelve bytes, then JSON:
///
///   "BUSC":32 | version:32 | length:32 | text                     docs/format/control.md
///
/// A request is an object with `do`. An answer is one with `ok`, and when that is false, `error`
/// {code, errno, what, why, fix}. All of it is untrusted input: a message that is too long, of
/// another version, or not JSON is refused with a clear error.

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

#include <bus/error.hpp>

namespace bus::wire {

inline constexpr std::size_t head_bytes = 12;
inline constexpr std::uint32_t magic = 0x43535542u;  // "BUSC"
inline constexpr std::uint32_t version = 1;
inline constexpr std::uint32_t largest_body_bytes = 16 << 20;

/// Head and body, ready to send.
/// REQUIRES: the text is not longer than largest_body_bytes.
std::string pack(const nlohmann::json& message);

/// Returns how many bytes follow the head.
/// Errors: corrupt (magic, length), unsupported (version)
result<std::uint32_t> body_bytes(std::string_view head);
/// Errors: corrupt
result<nlohmann::json> unpack(std::string_view body);

nlohmann::json answer_of(const error& failure);
/// The answer itself, or the error that it carries.
result<nlohmann::json> check_answer(nlohmann::json answer);

}  // namespace bus::wire
