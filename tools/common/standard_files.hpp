#pragma once
/// standard_files: what a program does first when it was started with descriptor 0, 1 or 2 closed
/// (cron, old daemons, `command >&-`). Otherwise the next file that it opens gets that number, and
/// what it prints goes into the file.

#include <fcntl.h>
#include <unistd.h>

namespace tools {

/// Each of 0, 1, 2 is open afterwards. One that was closed still fails when it is used: reading
/// from 0, or writing to 1 or 2, is EBADF as before.
inline void hold_standard_files() noexcept {
  for (int file = 0; file <= 2; ++file)
    if (::fcntl(file, F_GETFD) < 0) (void)::open("/dev/null", file == 0 ? O_WRONLY : O_RDONLY);
}

}  // namespace tools
