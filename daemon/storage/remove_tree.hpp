#pragma once
/// remove_tree: a directory goes, with everything in it.

#include <functional>
#include <string>

#include "log/disk.hpp"

namespace bus::storage {

/// `closes`: each file that has just lost its name, and answers whether to go on. Without it they
/// are removed at once. False: it did not go on.
bool remove_tree(log::disk& on, const std::string& path,
                 const std::function<bool(log::disk_file)>& closes = {});

}  // namespace bus::storage
