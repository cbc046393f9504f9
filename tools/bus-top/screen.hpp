#pragma once
/// screen: shows the samples on a terminal. Keys: Tab or 1-4 select a table, s the column to sort
/// by, r reverses the order, / filters, arrows move, Enter explains a row, p pauses, q quits.

#include <string>

#include "picture.hpp"

namespace top {

/// Returns the exit status.
int run_screen(observer& from, double interval_seconds);

}  // namespace top
