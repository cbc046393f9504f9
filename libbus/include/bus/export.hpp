#pragma once
/// export: marks the symbols that the shared library exports; all others are hidden.

#define BUS_EXPORT __attribute__((visibility("default")))
