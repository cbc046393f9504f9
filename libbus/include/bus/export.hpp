#pragma once
/// export: what the shared library shows. Everything else is hidden.

#define BUS_EXPORT __attribute__((visibility("default")))
