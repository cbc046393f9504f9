#include <bus/error.hpp>

namespace bus {

const char* errc_name(errc code) noexcept {
  switch (code) {
    case errc::ok: return "ok";
    case errc::invalid_argument: return "invalid_argument";
    case errc::not_found: return "not_found";
    case errc::conflict: return "conflict";
    case errc::permission: return "permission";
    case errc::timed_out: return "timed_out";
    case errc::unavailable: return "unavailable";
    case errc::busy: return "busy";
    case errc::no_space: return "no_space";
    case errc::too_large: return "too_large";
    case errc::type_mismatch: return "type_mismatch";
    case errc::would_deadlock: return "would_deadlock";
    case errc::corrupt: return "corrupt";
    case errc::unsupported: return "unsupported";
    case errc::forked: return "forked";
    case errc::closed: return "closed";
    case errc::system: return "system";
  }
  return "unknown";
}

int exit_status(errc code) noexcept {
  switch (code) {
    case errc::ok: return 0;
    case errc::invalid_argument:
    case errc::too_large: return 2;
    case errc::not_found: return 3;
    case errc::conflict:
    case errc::type_mismatch: return 4;
    case errc::permission: return 5;
    case errc::timed_out:
    case errc::busy: return 6;
    case errc::unavailable:
    case errc::closed:
    case errc::no_space: return 7;
    case errc::corrupt:
    case errc::unsupported: return 9;
    case errc::would_deadlock:
    case errc::forked:
    case errc::system: return 1;
  }
  return 1;
}

std::string error::message() const {
  std::string text = what.empty() ? errc_name(code) : what;
  if (!why.empty()) text += ": " + why;
  if (!fix.empty()) text += " (fix: " + fix + ")";
  return text;
}

}  // namespace bus
