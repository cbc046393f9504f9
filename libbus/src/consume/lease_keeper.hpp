#pragma once
/// lease_keeper: extends the leases that a consumer holds, in a thread of its own.
///
/// Threads    hold and let_go: the consumer's

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "consume/group_handle.hpp"

namespace bus::consume {

class lease_keeper {
 public:
  explicit lease_keeper(std::unique_ptr<group_handle> group);
  ~lease_keeper();

  void hold(const group::lease_token& token);
  void let_go(const group::lease_token& token) noexcept;

 private:
  void run();

  std::unique_ptr<group_handle> group_;  // its own, because a handle belongs to one thread
  std::mutex mutex_;
  std::condition_variable stopping_;
  std::vector<group::lease_token> held_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace bus::consume
