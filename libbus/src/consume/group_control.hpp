#pragma once
/// group_control: opening groups, and the orders that people give them. Observing a group is
/// inspect/group_view.
///
/// Threads    any

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <bus/consumer.hpp>
#include <bus/group.hpp>

#include "consume/group_handle.hpp"

namespace bus::consume {

/// Opens a group of a stream.
/// Errors: not_found, corrupt, busy
result<std::unique_ptr<group_handle>> open_group(session_core& session, std::string_view stream,
                                                 std::string_view group);
/// Opens the group that the options ask for, and creates it if there is none.
/// Errors: conflict (it exists and differs from the options), not_found, corrupt, busy
result<std::unique_ptr<group_handle>> open_or_create_group(session_core& session,
                                                           std::string_view subject,
                                                           const consumer_options& options);

/// Makes the group, and the stream of its dead letters.
/// Errors: invalid_argument, conflict, no_space
result<void> create_group(session_core& session, registry::stream_handle& stream,
                          const group_config& config);
/// Errors: not_found, busy
result<void> remove_group(session_core& session, registry::stream_handle& stream,
                          std::string_view name);

/// Drops all dead letters up to `sequence`. Returns how many.
/// Errors: busy, corrupt
result<std::uint64_t> drop_dead_letters(group_handle& group, std::uint64_t sequence);
/// Without `time`: until it is resumed.
result<void> pause_group(group_handle& group, std::optional<std::chrono::nanoseconds> time);
result<void> resume_group(group_handle& group);
/// Rebuilds the group's indexes. Returns how many slots were impossible and were dropped.
/// Errors: busy
result<std::uint32_t> repair_group(group_handle& group);

/// For session_core::release_idle_group: a group without consumers stops holding publishers back.
/// True: it holds them back no more.
bool release_idle_group(session_core& session,
                        const std::shared_ptr<registry::stream_handle>& stream,
                        const std::string& name);

}  // namespace bus::consume
