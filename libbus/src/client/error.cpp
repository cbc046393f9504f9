#include <bus/message.hpp>
#include <bus/error.hpp>
#include <bus/stream_config.hpp>

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

const char* overflow_name(overflow policy) noexcept {
  switch (policy) {
    case overflow::block: return "block";
    case overflow::reject: return "reject";
    case overflow::drop_oldest: return "drop_oldest";
    case overflow::drop_new: return "drop_new";
  }
  return "unknown";
}

result<overflow> parse_overflow(std::string_view text) {
  for (const overflow policy :
       {overflow::block, overflow::reject, overflow::drop_oldest, overflow::drop_new})
    if (text == overflow_name(policy)) return policy;
  return error{errc::invalid_argument, 0, "invalid overflow policy '" + std::string(text) + "'",
               "there is no such policy", "use block, reject, drop_oldest or drop_new"};
}

const char* gap_reason_name(gap_reason reason) noexcept {
  switch (reason) {
    case gap_reason::overwritten: return "overwritten";
    case gap_reason::unsynced: return "unsynced";
    case gap_reason::corrupt: return "corrupt";
    case gap_reason::not_logged: return "not_logged";
    case gap_reason::removed: return "removed";
  }
  return "unknown";
}

const char* storage_name(storage_class kept) noexcept {
  switch (kept) {
    case storage_class::memory: return "memory";
    case storage_class::spill: return "spill";
    case storage_class::durable: return "durable";
  }
  return "unknown";
}

result<storage_class> parse_storage(std::string_view text) {
  for (const storage_class kept :
       {storage_class::memory, storage_class::spill, storage_class::durable})
    if (text == storage_name(kept)) return kept;
  return error{errc::invalid_argument, 0, "invalid storage '" + std::string(text) + "'",
               "there is no such storage class", "use memory, spill or durable"};
}

const char* fsync_name(fsync_policy policy) noexcept {
  switch (policy) {
    case fsync_policy::batch: return "batch";
    case fsync_policy::interval: return "interval";
    case fsync_policy::never: return "never";
  }
  return "unknown";
}

result<fsync_policy> parse_fsync(std::string_view text) {
  for (const fsync_policy policy :
       {fsync_policy::batch, fsync_policy::interval, fsync_policy::never})
    if (text == fsync_name(policy)) return policy;
  return error{errc::invalid_argument, 0, "invalid fsync policy '" + std::string(text) + "'",
               "there is no such policy", "use batch, interval or never"};
}

const char* compression_name(compression method) noexcept {
  switch (method) {
    case compression::none: return "none";
    case compression::zstd: return "zstd";
  }
  return "unknown";
}

result<compression> parse_compression(std::string_view text) {
  for (const compression method : {compression::none, compression::zstd})
    if (text == compression_name(method)) return method;
  return error{errc::invalid_argument, 0, "invalid compression '" + std::string(text) + "'",
               "there is no such method", "use none or zstd"};
}

}  // namespace bus
