#pragma once
/// failure: bus::error from errno, with the matching code.

#include <string>

#include <bus/error.hpp>

namespace bus::os {

error failure(int os_errno, std::string what, std::string fix = {});

}  // namespace bus::os
