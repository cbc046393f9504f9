#pragma once
/// standard_files: opens descriptors 0, 1 and 2 if the program was started with one of them closed
/// (cron, old daemons, `command >&-`). Otherwise the next file that it opens would get that number,
/// and its output would go into that file.

#include <fcntl.h>
#include <unistd.h>

namespace tools {

/// Afterwards 0, 1 and 2 are open. One that was closed still fails when used, as before: reading
/// from 0, or writing to 1 or 2, is EBADF.
inline void hold_standard_files() noexcept {
  for (int file = 0; file <= 2; ++file)
    if (::fcntl(file, F_GETFD) < 0) (void)::open("/dev/null", file == 0 ? O_WRONLY : O_RDONLY);
}

}  // namespace tools
