#include "storage/remove_tree.hpp"

#include <vector>

namespace bus::storage {

bool remove_tree(log::disk& on, const std::string& path,
                 const std::function<bool(log::disk_file)>& closes) {
  std::vector<std::string> names;
  if (on.list(path, names) == 0)
    for (const std::string& name : names) {
      const std::string one = path + "/" + name;
      const log::disk_file file = closes ? on.open(one, log::disk_mode::write, false) : -1;
      const bool is_removed = on.remove(one) == 0;
      if (file >= 0 && !is_removed) on.close(file);
      if (file >= 0 && is_removed && !closes(file)) return false;
      if (!is_removed && !remove_tree(on, one, closes)) return false;
    }
  (void)on.remove(path);
  return true;
}

}  // namespace bus::storage
