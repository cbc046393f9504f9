#include "private_bus.hpp"

#include <fcntl.h>
#include <signal.h>

#include <cstdio>
#include <filesystem>
#include <thread>

namespace bench {

using namespace std::chrono_literals;

namespace {

// busd lies beside bus, or in sbin of the installation.
std::string find_busd() {
  std::error_code failed;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", failed).parent_path();
  for (const auto& path : {self / "busd", self / "../sbin/busd", self / "../../sbin/busd"})
    if (std::filesystem::exists(path, failed)) return path.string();
  return "busd";
}

}  // namespace

private_bus::private_bus(const std::string& directory, int core) {
  std::string pattern = directory + "/bus-bench-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) {
    failure_ = {bus::errc::permission, errno, "cannot create a directory in " + directory,
                std::strerror(errno), "choose another with --dir"};
    return;
  }
  data = pattern;
  const std::string busd = find_busd(), log = data + "/busd.log";
  child_ = ::fork();
  if (child_ == 0) {
    pin_to(core);
    const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ::dup2(out, 2);
    ::execlp(busd.c_str(), "busd", "--bus", name.c_str(), "--data", data.c_str(), "--disk-block",
             "1", "--disk-warn", "1", static_cast<char*>(nullptr));
    ::_exit(127);
  }
  const auto begin = std::chrono::steady_clock::now();
  for (;;) {
    session_ = bus::session::open(bus::session_options{name, "bus bench", true});
    if (session_ && session_->keeper()) return;
    int status = 0;
    if (::waitpid(child_, &status, WNOHANG) == child_ || seconds_since(begin) > 10) {
      child_ = -1;
      failure_ = {bus::errc::unavailable, 0, "cannot start " + busd,
                  "it exited at once or does not respond: see " + log,
                  "install busd beside bus, or put it into PATH"};
      keep_ = true;
      return;
    }
    std::this_thread::sleep_for(5ms);
  }
}
private_bus::~private_bus() {
  session_ = bus::error{};
  if (child_ > 0) {
    ::kill(child_, SIGTERM);
    join(child_);
  }
  (void)bus::remove_bus(name, true);
  std::error_code failed;
  if (!data.empty() && !keep_) std::filesystem::remove_all(data, failed);
}

bus::stream_config stream_of(std::uint32_t bytes, bus::storage_class storage) {
  bus::stream_config config;
  config.name = "bench";
  config.subjects = {"bench"};
  config.storage = storage;
  config.max_message_bytes = std::max<std::uint32_t>(bytes, 64 * 1024);
  config.ring_bytes = 8 << 20;
  while (config.ring_bytes < 8 * (config.max_message_bytes + 4096)) config.ring_bytes *= 2;
  return config;
}

bus::error of(const bus::publisher& publisher, bus::publish_status status) {
  auto why = publisher.last_error();
  if (why.what.empty()) why.what = bus::publish_status_name(status);
  return why;
}

}  // namespace bench
