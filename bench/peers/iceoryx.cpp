#include "between.hpp"
#include "peers.hpp"

#if BENCH_HAS_ICEORYX
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>

#include <cerrno>
#include <fstream>
#include <sstream>

#include "iceoryx_hoofs/log/logmanager.hpp"
#include "iceoryx_posh/popo/untyped_publisher.hpp"
#include "iceoryx_posh/popo/untyped_subscriber.hpp"
#include "iceoryx_posh/runtime/posh_runtime.hpp"

namespace bench {

namespace {

/// The daemon, run as a child process for one measurement.
class roudi {
 public:
  roudi() { start(); }
  ~roudi() {
    // After clients were killed it does not end properly, and leaves its segments. The next daemon
    // takes them over and removes them.
    if (end()) return;
    try {
      start();
      end();
    } catch (const std::exception&) {  // then the next run removes them
    }
  }
  roudi(const roudi&) = delete;
  roudi& operator=(const roudi&) = delete;

 private:
  void start() {
    const std::string configuration = directory_ / "roudi.toml", log = directory_ / "roudi.log";
    std::ofstream(configuration) << "[general]\nversion = 1\n[[segment]]\n"
                                    "[[segment.mempool]]\nsize = 128\ncount = 2000\n"
                                    "[[segment.mempool]]\nsize = 2048\ncount = 2000\n"
                                    "[[segment.mempool]]\nsize = 131072\ncount = 100\n"
                                    "[[segment.mempool]]\nsize = 2097152\ncount = 40\n";
    std::filesystem::remove(log);
    child_ = fork();
    if (child_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGTERM);
      const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
      dup2(out, 1);
      dup2(out, 2);
      execlp("iox-roudi", "iox-roudi", "-m", "off", "-l", "warning", "-c", configuration.c_str(),
             nullptr);
      _exit(127);
    }
    if (child_ < 0) fail_with_errno("fork");
    for (int step = 0; step < 1000; ++step) {
      std::ostringstream said;
      said << std::ifstream(log).rdbuf();
      if (said.str().find("ready for clients") != std::string::npos) return;
      if (waitpid(child_, nullptr, WNOHANG) == child_) {
        child_ = -1;
        fail("iox-roudi did not start; is it installed, or does another one run?");
      }
      usleep(10'000);
    }
    end();
    fail("iox-roudi was not ready in time");
  }
  /// True: it ended properly.
  bool end() {
    if (child_ <= 0) return true;
    kill(child_, SIGTERM);
    int status = 0;
    pid_t ended = 0;
    for (int step = 0; step < 1000 && ended <= 0; ++step) {
      ended = waitpid(child_, &status, WNOHANG);
      if (ended <= 0) usleep(5'000);
    }
    if (ended <= 0) {
      kill(child_, SIGKILL);
      waitpid(child_, &status, 0);
    }
    child_ = -1;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

  scratch_directory directory_;
  pid_t child_ = -1;
};

iox::capro::ServiceDescription service(const char* way) {
  return {"bench", "peers", iox::capro::IdString_t(iox::cxx::TruncateToCapacity, way)};
}

class iceoryx_end {
 public:
  iceoryx_end(const plan& asked, bool near)
      : out_(service(near ? "ping" : "pong"), sending()),
        in_(service(near ? "pong" : "ping"), receiving(asked)) {
    wait_until([&] {
      return out_.hasSubscribers() && in_.getSubscriptionState() == iox::SubscribeState::SUBSCRIBED;
    });
  }

  void send(const char* payload, std::uint32_t bytes) {
    for (;;) {
      auto space = out_.loan(bytes);
      if (space.has_error()) continue;  // all chunks are in use: the reader will return them
      std::memcpy(space.value(), payload, bytes);
      out_.publish(space.value());
      return;
    }
  }

  std::uint64_t receive(std::uint64_t& sum) {
    auto taken = in_.take();
    if (taken.has_error()) return 0;
    const auto* header = iox::mepoo::ChunkHeader::fromUserPayload(taken.value());
    sum += sum_of(taken.value(), header->userPayloadSize());
    in_.release(taken.value());
    return 1;
  }

 private:
  static iox::popo::PublisherOptions sending() {
    iox::popo::PublisherOptions how;
    how.subscriberTooSlowPolicy = iox::popo::ConsumerTooSlowPolicy::WAIT_FOR_CONSUMER;
    return how;
  }
  static iox::popo::SubscriberOptions receiving(const plan& asked) {
    iox::popo::SubscriberOptions how;
    how.queueCapacity = asked.bytes > 4096 ? 16 : 256;
    how.queueFullPolicy = iox::popo::QueueFullPolicy::BLOCK_PRODUCER;
    return how;
  }

  iox::popo::UntypedPublisher out_;
  iox::popo::UntypedSubscriber in_;
};

class iceoryx_channel {
 public:
  explicit iceoryx_channel(const plan& asked)
      : plan_(asked), name_("bench-peers-" + std::to_string(getpid())) {}
  ~iceoryx_channel() {
    // A side that was killed leaves the socket and the lock of its name.
    std::error_code ignored;
    for (const char* side : {"-near", "-far"})
      for (const char* kind : {"", ".lock"})
        std::filesystem::remove("/tmp/" + name_ + side + kind, ignored);
  }
  iceoryx_channel(const iceoryx_channel&) = delete;
  iceoryx_channel& operator=(const iceoryx_channel&) = delete;

  iceoryx_end open(bool near) {
    const std::string name = name_ + (near ? "-near" : "-far");
    iox::log::LogManager::GetLogManager().SetDefaultLogLevel(
        iox::log::LogLevel::kError, iox::log::LogLevelOutput::kHideLogLevel);
    iox::runtime::PoshRuntime::initRuntime(iox::RuntimeName_t(iox::cxx::TruncateToCapacity, name));
    return {plan_, near};
  }

 private:
  plan plan_;
  std::string name_;
  roudi daemon_;
};

}  // namespace

peer iceoryx_peer() {
  return {"iceoryx", "iceoryx", "", [](const plan& asked) { return asked.wait == waiting::spin; },
          run_between<iceoryx_channel>};
}

}  // namespace bench

#else

namespace bench {
peer iceoryx_peer() { return {"iceoryx", "iceoryx", "built without libiceoryx-posh-dev", {}, {}}; }
}  // namespace bench

#endif
