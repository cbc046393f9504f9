#pragma once
/// remove_tree: removes a directory with everything in it.

#include <functional>
#include <string>

#include "log/disk.hpp"

namespace bus::storage {

/// `closes` gets each file that has just been removed, and returns whether to continue; without it,
/// files are closed at once. False: it was stopped.
bool remove_tree(log::disk& on, const std::string& path,
                 const std::function<bool(log::disk_file)>& closes = {});

}  // namespace bus::storage
