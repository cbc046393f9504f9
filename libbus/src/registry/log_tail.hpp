#pragma once
/// log_tail: reads the log of one lane for a subscriber, until the subscriber can continue in the
/// ring.
///
/// Threads    the subscriber's

#include <memory>
#include <optional>
#include <string>

#include <bus/error.hpp>

#include "log/history.hpp"
#include "log/posix_disk.hpp"

namespace bus::registry {

/// Where busd keeps the log of a lane: through a link in the stream's directory, so that busd may
/// keep it anywhere.
std::string log_path(const std::string& stream_directory, std::uint32_t lane);

class log_tail {
 public:
  /// Errors: unavailable (the files do not exist), permission, corrupt (also: the files belong to
  /// another stream or lane), unsupported
  static result<std::unique_ptr<log_tail>> open(const std::string& stream_directory,
                                                std::uint64_t stream_id, std::uint32_t lane);

  log::history& history() noexcept { return history_; }

  /// Records before this time are skipped: a start by time.
  std::uint64_t skip_before_ns = 0;
  /// Found but not handed out yet: it comes after a message of the same batch.
  std::optional<log::log_loss> pending_loss;

  error failed(int failure) const;

 private:
  log_tail(std::string directory) : directory_(std::move(directory)), history_(disk_, directory_) {}

  std::string directory_;
  log::posix_disk disk_;
  log::history history_;
};

}  // namespace bus::registry
