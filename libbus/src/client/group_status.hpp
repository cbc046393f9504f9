#pragma once
/// group_status: pictures of groups, read beside those who work with them; and what people do to
/// groups.
///
/// Threads    any

#include <optional>
#include <string_view>
#include <vector>

#include <bus/consumer.hpp>
#include <bus/group.hpp>

#include "client/group_handle.hpp"

namespace bus::client {

/// The stream and its group, open.
/// Errors: not_found, corrupt, busy
result<std::unique_ptr<group_handle>> open_group(session_core& session, std::string_view stream,
                                                 std::string_view group);
/// The group that options ask for, made when it is not there; and whether it agrees with them.
result<std::unique_ptr<group_handle>> open_or_create_group(session_core& session,
                                                           std::string_view subject,
                                                           const consumer_options& options);

result<group_info> describe_group(group_handle& group);
result<std::vector<pending_message>> list_pending(group_handle& group, std::size_t max);
result<std::vector<peeked_message>> peek_group(group_handle& group, std::size_t max);
result<std::vector<dead_letter>> list_dead_letters(group_handle& group, std::uint64_t from,
                                                   std::size_t max);
result<std::uint64_t> drop_dead_letters(group_handle& group, std::uint64_t sequence);
result<void> pause_group(group_handle& group, std::optional<std::chrono::nanoseconds> time);
result<void> resume_group(group_handle& group);
result<std::uint32_t> repair_group(group_handle& group);

}  // namespace bus::client
