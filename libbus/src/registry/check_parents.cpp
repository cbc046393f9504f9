#include <algorithm>

#include "os/files.hpp"
#include "registry/bus_directory.hpp"

namespace bus::registry {

// Another user may have put something under the name of our bus: a link, or a directory of links.
result<void> check_parents(const bus_address& address) {
  const std::string path = address.directory();
  const auto refuse = [&](std::string why, std::string fix) {
    return error{errc::permission, 0, "cannot use the bus '" + address.name + "'", std::move(why),
                 std::move(fix)};
  };
  std::uint32_t owner = 0;
  unsigned mode = 0;
  const std::string root = path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
  constexpr unsigned others_write = 0022, sticky = 01000;
  if (os::directory_owner(root, owner, mode) && (mode & others_write) != 0 && (mode & sticky) == 0)
    return refuse("other users can replace it: all of them may write to " + root,
                  "chmod +t " + root + ", or choose another directory ($BUS_ROOT)");
  for (const char* part : {"", "/streams", "/processes"}) {
    const std::string one = path + part;
    // Missing: its creator is at work, or died. It may also appear between two looks.
    if (!os::directory_owner(one, owner, mode)) {
      if (*part != '\0' && os::surely_missing(one)) continue;
      if (!os::directory_owner(one, owner, mode))
        return refuse(one + " is not a directory",
                      "find out who created it (ls -l), or choose another bus name");
    }
    if (owner != os::user_id())
      return refuse(one + " belongs to uid " + std::to_string(owner) + ", not to you",
                    "choose another bus name");
    if ((mode & others_write) != 0)
      return refuse(one + " is writable by others", "chmod 700 " + one);
  }
  return {};
}

}  // namespace bus::registry
