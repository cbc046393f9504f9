// busd: keeps the logs of a bus. The directories beside this file do the work.

#include <poll.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <bus/version.hpp>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "configuration.hpp"
#include "consume/group_control.hpp"
#include "control/requests.hpp"
#include "control/server.hpp"
#include "line_sink.hpp"
#include "os/files.hpp"
#include "registry/keeper_link.hpp"
#include "registry/url.hpp"
#include "standard_files.hpp"
#include "streams/events.hpp"
#include "streams/keeper.hpp"
#include "sync/words.hpp"

namespace {

using bus::errc;
using bus::error;

int fail(const error& why) {
  spdlog::error("{}", why.message());
  if (spdlog::default_logger()->sinks().empty())
    std::fprintf(stderr, "busd: %s\n", why.message().c_str());
  return bus::exit_status(why.code);
}

bus::result<void> start_logging(const bus::configuration& settings) {
  try {
    auto sink = settings.log_file.empty()
                    ? std::static_pointer_cast<spdlog::sinks::sink>(
                          std::make_shared<bus::line_sink>(STDERR_FILENO))
                    : std::make_shared<spdlog::sinks::basic_file_sink_mt>(settings.log_file);
    auto logger = std::make_shared<spdlog::logger>("busd", std::move(sink));
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l busd[%P] %v");
    logger->set_level(spdlog::level::from_str(settings.log_level));
    logger->flush_on(spdlog::level::info);
    spdlog::set_default_logger(std::move(logger));
  } catch (const spdlog::spdlog_ex& failure) {
    return error{errc::permission, 0, "cannot write the log file " + settings.log_file,
                 failure.what(), "choose another with --log-file"};
  }
  return {};
}

// One busd per bus, and one per directory.
bus::result<void> become_keeper(bus::session_core& session) {
  auto lock = session.directory->lock_changes();
  if (!lock) return std::move(lock.error());
  auto& keeper = session.directory->control().keeper;
  const auto other = static_cast<std::uint32_t>(bus::sync::load_acquire(keeper));
  if (other != 0 && other != session.me->id() &&
      session.peers->state(other) == bus::sync::life_state::alive)
    return error{errc::conflict, 0, "cannot keep the bus '" + session.address.name + "'",
                 "another busd is using it: " + session.peers->describe(other),
                 "stop that one first, or choose another --bus"};
  bus::sync::store_release(keeper, session.me->id());
  return {};
}

void stop_keeping(bus::session_core& session) {
  bus::sync::replace(session.directory->control().keeper, session.me->id(), 0);
}

// An event that happens once and that poll() can wait for.
class signal_flag {
 public:
  signal_flag() : file_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  void raise() noexcept {
    const std::uint64_t one = 1;
    if (::write(file_.get(), &one, sizeof one) < 0) {
      // already raised
    }
  }
  int descriptor() const noexcept { return file_.get(); }

 private:
  bus::os::fd file_;
};

/// Shared by the thread that keeps the bus and the one that waits for signals.
struct keeper_role {
  signal_flag stop, ending, ended;
  std::atomic<std::uint64_t> steps{0};  // steps of writing the rest, see engine::finish()
  std::atomic<bool> owes{false};        // the rings may hold messages that are not written yet
};

int keep(const bus::configuration& settings, keeper_role& of) {
  std::error_code failed;
  const auto data = std::filesystem::absolute(settings.data, failed);
  std::filesystem::create_directories(data, failed);
  if (failed)
    return fail({errc::permission, failed.value(), "cannot create " + settings.data,
                 failed.message(), "choose another --data"});
  const std::string directory = (data / settings.bus).string();
  if (auto made = bus::os::make_directory(directory, 0700); !made) return fail(made.error());
  auto held = bus::os::file_lock::take(directory + "/lock", 0600, std::chrono::milliseconds(0));
  if (!held)
    return fail({errc::conflict, 0, "cannot use " + directory,
                 "another busd is using it: " + held.error().why,
                 "stop that one first, or choose another --data"});
  auto session = bus::session_core::open({settings.url, "busd", true});
  if (!session) return fail(session.error());
  (*session)->release_idle_group = &bus::consume::release_idle_group;
  if (auto taken = become_keeper(**session); !taken) return fail(taken.error());
  int status = 0;
  {
    bus::streams::events events(*session);
    bus::storage::engine_options options;
    options.data_directory = directory;
    options.use_uring = settings.io != "posix";
    options.warn_above = settings.disk_warn;
    options.block_above = settings.disk_block;
    options.buffers = settings.buffers;
    options.buffer_bytes = settings.buffer_bytes;
    options.steps = &of.steps;
    bus::storage::engine engine(
        **session, options, [&](const char* kind, const std::string& stream, const error& what) {
          events.tell(kind, stream, what);
        });
    bus::streams::keeper keeper(*session, engine, directory);
    if (auto started = keeper.start(); !started) {
      stop_keeping(**session);
      return fail(started.error());
    }
    of.owes = true;
    auto server = bus::control::server::listen(
        bus::registry::keeper_socket_path((*session)->directory->path()),
        [&](const nlohmann::json& request) { return bus::control::answer(keeper, request); });
    if (!server) {
      stop_keeping(**session);
      return fail(server.error());
    }
    spdlog::info("keeping bus '{}' in {} with {}", settings.bus, directory, keeper.status().disk);
    ::sd_notify(0, "READY=1");
    for (bool stop = false; !stop;) {
      ::pollfd wait[2] = {{of.stop.descriptor(), POLLIN, 0}, {(*server)->descriptor(), POLLIN, 0}};
      (void)::poll(wait, 2, wait[1].fd < 0 ? 100 : 1000);
      if ((wait[0].revents & POLLIN) != 0) stop = true;
      if ((wait[1].revents & POLLIN) != 0) (*server)->accept();
      if ((*session)->directory->removed()) {
        spdlog::error("the bus '{}' was removed: stopping; its logs remain in {}", settings.bus,
                      directory);
        status = bus::exit_status(errc::closed);
        stop = true;
      }
    }
    of.ending.raise();
    ::sd_notify(0, "STOPPING=1");
    stop_keeping(**session);
    keeper.stop();
    engine.finish();  // before any wait for an order, which may never end
    of.owes = false;
  }
  spdlog::info("stopped");
  return status;
}

// A signal ends busd whatever the other threads wait for: they have this long, and longer only
// while the disk keeps taking what is left to write.
constexpr auto longest_ending = std::chrono::seconds(3);

int run(const bus::configuration& settings) {
  // Signals are read, not caught. They are blocked before any thread starts.
  ::sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGXFSZ, SIG_IGN);  // a log at the file size limit gets an error and is held
  ::umask(077);
  const bus::os::fd signal_file(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));

  keeper_role of;
  int status = 0;
  std::thread keeping([&] {
    status = keep(settings, of);
    of.ended.raise();
  });
  ::pollfd wait[3] = {{of.ended.descriptor(), POLLIN, 0},
                      {signal_file.get(), POLLIN, 0},
                      {of.ending.descriptor(), POLLIN, 0}};
  while (::poll(wait, 3, -1) < 0) {
  }
  of.stop.raise();
  using clock = std::chrono::steady_clock;
  std::uint64_t steps = of.steps;
  for (auto until = clock::now() + longest_ending; clock::now() < until;) {
    if (::poll(wait, 1, 20) > 0) {
      keeping.join();
      return status;
    }
    if (of.steps == steps) continue;
    steps = of.steps;
    until = clock::now() + longest_ending;
  }
  // The next busd recovers from whatever was interrupted, as after a kill.
  spdlog::warn("stopping, although an operation has not finished");
  ::_exit(of.owes ? bus::exit_status(errc::timed_out) : 0);
}

}  // namespace

int main(int argc, char** argv) {
  tools::hold_standard_files();
  CLI::App app{
      "busd keeps the logs of a bus: durable streams, and the messages that slow readers of\n"
      "spilling streams still need. Live traffic does not pass through it.\n\n"
      "  busd --bus default --data /var/lib/bus       in the foreground; SIGTERM stops it cleanly\n"
      "  bus stream add orders --subjects 'orders.>' --storage durable"};
  bus::configuration settings;
  std::string config_path;
  // The file is read first, so that options override it.
  for (int i = 1; i + 1 < argc; ++i)
    if (std::string_view(argv[i]) == "--config") config_path = argv[i + 1];
  for (int i = 1; i < argc; ++i)
    if (std::string_view(argv[i]).starts_with("--config=")) config_path = argv[i] + 9;
  if (!config_path.empty()) {
    auto read = bus::read_configuration(config_path, settings);
    if (!read) {
      std::fprintf(stderr, "busd: %s\n", read.error().message().c_str());
      return bus::exit_status(read.error().code);
    }
  }
  app.add_option("--config", config_path, "TOML file; the options below override it");
  app.add_option("--bus", settings.bus,
                 "name of the bus (default: that of $BUS_URL, else 'default')");
  app.add_option("--data", settings.data, "directory for the logs; each bus has a subdirectory");
  app.add_option("--io", settings.io, "auto, io_uring or posix")->capture_default_str();
  app.add_option("--disk-warn", settings.disk_warn, "warn above this share of the disk")
      ->capture_default_str();
  app.add_option("--disk-block", settings.disk_block,
                 "stop publishers above this share of the disk")
      ->capture_default_str();
  app.add_option("--buffers", settings.buffers, "number of buffers shared by all logs")
      ->capture_default_str();
  app.add_option("--buffer-bytes", settings.buffer_bytes, "size of each buffer, the largest write")
      ->capture_default_str();
  app.add_option("--log-level", settings.log_level, "debug, info, warning or error")
      ->capture_default_str();
  app.add_option("--log-file", settings.log_file, "log to this file instead of standard error");
  app.set_version_flag("--version", BUS_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& stopped) {
    const int code = app.exit(stopped);
    return code == 0 ? 0 : bus::exit_status(errc::invalid_argument);
  }
  // As in the tools: without --bus, the bus of $BUS_URL.
  settings.url = settings.bus;
  if (settings.bus.empty()) {
    auto address = bus::registry::parse_url({});
    if (!address) {
      std::fprintf(stderr, "busd: %s\n", address.error().message().c_str());
      return bus::exit_status(address.error().code);
    }
    settings.bus = address->name;
  }
  if (auto checked = bus::check_configuration(settings); !checked) {
    std::fprintf(stderr, "busd: %s\n", checked.error().message().c_str());
    return bus::exit_status(checked.error().code);
  }
  if (auto logging = start_logging(settings); !logging) {
    std::fprintf(stderr, "busd: %s\n", logging.error().message().c_str());
    return bus::exit_status(logging.error().code);
  }
  return run(settings);
}
