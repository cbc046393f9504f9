#pragma once
/// version: of the headers that a program was compiled with, and of the library that it runs with.
///
/// Before 1.0, a new minor version may change the interface; a new patch version does not.

#include <bus/export.hpp>

#define BUS_VERSION_MAJOR 0
#define BUS_VERSION_MINOR 1
#define BUS_VERSION_PATCH 0
#define BUS_VERSION "0.1.0"

namespace bus {

/// BUS_VERSION of the library that is linked at run time.
/// Threads    any
BUS_EXPORT const char* library_version() noexcept;

}  // namespace bus
