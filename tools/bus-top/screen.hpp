#pragma once
/// screen: the picture on a terminal. Keys: Tab or 1-4 choose a table, s the column to sort by, r
/// reverses, / filters, arrows move, Enter explains a row, p pauses, q quits.

#include <string>

#include "picture.hpp"

namespace top {

/// Returns the exit status.
int run_screen(observer& from, double interval_seconds);

}  // namespace top
