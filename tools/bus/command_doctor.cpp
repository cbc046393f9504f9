// bus doctor: checks this machine and this bus. Every finding states what to do.

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "commands.hpp"

namespace tools {

namespace {

enum class grade { good, note, bad };

struct finding {
  grade how;
  std::string what;
  std::string fix;
};

const char* grade_name(grade how) {
  return how == grade::good ? "ok" : how == grade::note ? "note" : "bad";
}

void check_machine(std::vector<finding>& found, const std::string& root) {
  struct statvfs space {};
  if (::statvfs(root.c_str(), &space) != 0) {
    found.push_back(
        {grade::bad, root + " cannot be used: shared memory is missing", "mount a tmpfs there"});
  } else {
    const double free = static_cast<double>(space.f_bavail) * static_cast<double>(space.f_frsize);
    const double all = static_cast<double>(space.f_blocks) * static_cast<double>(space.f_frsize);
    const std::string text = root + " has " + show_bytes(free) + " of " + show_bytes(all) + " free";
    const double used = all > 0 ? 1 - free / all : 1;
    found.push_back({used > 0.85  ? grade::bad
                     : used > 0.6 ? grade::note
                                  : grade::good,
                     text,
                     used > 0.6
                         ? "remove streams that are not needed (bus stream ls), or enlarge it "
                           "(mount -o remount,size=...)"
                         : ""});
  }
  const int file = ::open(root.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  found.push_back(file >= 0 ? finding{grade::good, "unnamed files can be created (O_TMPFILE)", ""}
                            : finding{grade::bad, "files cannot be created in " + root,
                                      "check its permissions and its file system"});
  if (file >= 0) ::close(file);
  found.push_back(::access("/proc/self/fd", X_OK) == 0
                      ? finding{grade::good, "/proc is mounted", ""}
                      : finding{grade::bad, "/proc is not mounted", "mount -t proc proc /proc"});
  const bool waits = ::syscall(SYS_futex_waitv, nullptr, 0, 0, nullptr, 0) >= 0 || errno == EINVAL;
  found.push_back(
      waits
          ? finding{grade::good, "the kernel can wait on several words (futex_waitv)", ""}
          : finding{
                grade::note,
                "the kernel lacks futex_waitv: subscribers of several rings poll every millisecond",
                "use Linux 5.16 or later"});
  std::ifstream source("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  std::string name;
  if (source >> name)
    found.push_back(
        name == "tsc" || name == "kvm-clock" || name == "arch_sys_counter" ||
                name.starts_with("hyperv")
            ? finding{grade::good, "stamps come from the cycle counter (clock source " + name + ")",
                      ""}
            : finding{grade::note,
                      "clock source is " + name + ": stamping a message costs a clock call",
                      "see why the kernel rejected the cycle counter: dmesg | grep -i tsc"});
  const long cores = ::sysconf(_SC_NPROCESSORS_ONLN);
  found.push_back({cores >= 2 ? grade::good : grade::note, std::to_string(cores) + " cores",
                   cores >= 2 ? "" : "do not spin on one core: use --wait block"});
}

// The command that starts the busd that keeps this log, which lies in DATA/BUS/streams/NAME.
std::string busd_command(const bus::session& session, const bus::stream_info& stream) {
  const auto data =
      std::filesystem::path(stream.log_directory).parent_path().parent_path().parent_path();
  return "busd --bus " + std::string(session.name()) + " --data " +
         (data.empty() ? "DIR" : data.string());
}

// Checks busd, its disk, and each log that it writes.
void check_keeper(const bus::session& session, const std::vector<bus::stream_info>& with_log,
                  std::vector<finding>& found) {
  auto keeper = session.keeper();
  for (const auto& stream : with_log) {
    const bool is_kept =
        keeper && std::any_of(keeper->logs.begin(), keeper->logs.end(),
                              [&](const auto& log) { return log.stream == stream.config.name; });
    if (is_kept) continue;
    found.push_back(
        {grade::bad,
         keeper
             ? "busd does not keep the log of stream " + stream.config.name
             : "no busd keeps the log of stream " + stream.config.name + ": " + keeper.error().why,
         keeper ? "see busd's findings below, and its log" : busd_command(session, stream)});
  }
  if (!keeper) return;
  const double all = static_cast<double>(keeper->disk_total_bytes),
               free = static_cast<double>(keeper->disk_free_bytes);
  const double used = all > 0 ? 1 - free / all : 0;
  found.push_back({grade::good,
                   "busd (pid " + std::to_string(keeper->pid) + ") keeps the logs of the bus in " +
                       keeper->data_directory + " with " + keeper->disk + ", ready after " +
                       show_duration(keeper->recovery),
                   ""});
  found.push_back(
      {used > 0.85  ? grade::bad
       : used > 0.7 ? grade::note
                    : grade::good,
       "its disk has " + show_bytes(free) + " of " + show_bytes(all) + " free",
       used > 0.7 ? "free space, or lower the limits of the streams (bus stream edit)" : ""});
  for (const std::string& problem : keeper->problems)
    found.push_back({grade::bad, problem, "see the log of busd"});
  for (const auto& log : keeper->logs) {
    const std::string where = "log of stream " + log.stream + " lane " + std::to_string(log.lane);
    if (log.health != "good")
      found.push_back({grade::bad,
                       where + (log.health == "full" ? " cannot be written: the disk is full"
                                                     : " cannot be written: the disk fails"),
                       log.health == "full" ? "free space: writing resumes automatically"
                                            : "see the log of busd, and dmesg"});
    if (log.damages != 0)
      found.push_back({grade::bad, where + " was damaged when busd opened it",
                       "bus stream verify " + log.stream});
  }
}

// Per stream, so that a damaged group does not hide those of other streams.
void check_groups(const bus::session& session, const std::string& stream,
                  std::vector<finding>& found) {
  auto groups = session.groups(stream);
  if (!groups) {
    if (groups.error().code != bus::errc::not_found)
      found.push_back(
          {grade::bad, groups.error().what + ": " + groups.error().why, groups.error().fix});
    return;
  }
  for (const auto& g : *groups) {
    const std::string where = "group " + g.config.name + " of stream " + stream;
    const std::string names = stream + " " + g.config.name;
    if (g.damaged) {
      const auto opened = session.group(stream, g.config.name);
      found.push_back(opened ? finding{grade::bad, where + " is damaged: it delivers no messages",
                                       "bus group repair " + names}
                             : finding{grade::bad, opened.error().what + ": " + opened.error().why,
                                       opened.error().fix});
    }
    if (g.dead_letters_kept != 0)
      found.push_back({grade::note,
                       where + " has " + std::to_string(g.dead_letters_kept) + " dead letters",
                       "bus dlq show " + names});
    if (g.counts.dropped != 0)
      found.push_back({grade::bad,
                       where + " has lost " + std::to_string(g.counts.dropped) +
                           " messages: they were overwritten before a consumer claimed them",
                       "use more consumers, a larger ring, or a stream with --overflow block"});
    const std::uint64_t backlog = g.counts.unclaimed + g.counts.pending;
    const bool alone = std::none_of(g.consumers.begin(), g.consumers.end(),
                                    [](const auto& one) { return one.alive; });
    if (alone && backlog != 0)
      found.push_back({grade::note,
                       where + " has " + std::to_string(backlog) + " messages, and no consumer",
                       "start one: bus group next " + names});
  }
}

void check_bus(const bus::session& session, std::vector<finding>& found) {
  auto streams = session.streams();
  if (!streams) {
    found.push_back({grade::bad, streams.error().message(), streams.error().fix});
    return;
  }
  found.push_back({grade::good,
                   "bus '" + std::string(session.name()) + "' has " +
                       std::to_string(streams->size()) + " streams",
                   ""});
  for (const auto& broken : session.broken_streams())
    found.push_back({grade::bad, broken.what + ": " + broken.why, broken.fix});
  for (const auto& trouble : session.troubles())
    found.push_back({grade::bad, trouble.what + ": " + trouble.why, trouble.fix});
  std::vector<bus::stream_info> with_log;
  for (const auto& stream : *streams) {
    if (stream.config.storage != bus::storage_class::memory) with_log.push_back(stream);
    check_groups(session, stream.config.name, found);
    for (const auto& lane : stream.lanes) {
      const std::string where =
          "stream " + stream.config.name + " lane " + std::to_string(lane.index);
      if (lane.used_bytes * 10 > stream.config.ring_bytes * 9)
        found.push_back({grade::note, where + " is full: its slowest reader holds publishers back",
                         "bus ps shows the reader; see --overflow"});
      if (lane.dropped + lane.rejected != 0)
        found.push_back(
            {grade::note,
             where + " has refused " + std::to_string(lane.dropped + lane.rejected) + " messages",
             "use a larger ring, or faster readers"});
      if (lane.repaired != 0)
        found.push_back({grade::note,
                         where + " was repaired " + std::to_string(lane.repaired) +
                             " times after a publisher died",
                         "find out why it dies; nothing committed was lost"});
    }
  }
  check_keeper(session, with_log, found);
  auto processes = session.processes();
  if (!processes) return;
  for (const auto& process : *processes) {
    const std::string who = process.name + " (pid " + std::to_string(process.pid) + ")";
    if (process.state == bus::process_state::dead)
      found.push_back(
          {grade::note, who + " died; the next process that opens the bus cleans up after it", ""});
    if (process.state == bus::process_state::stopped)
      found.push_back({grade::bad,
                       who + " is stopped and still holds its locks, leases and ring space",
                       "kill -CONT " + std::to_string(process.pid)});
    for (const auto& publisher : process.publishers)
      if (publisher.blocked)
        found.push_back({grade::bad, who + " waits for space on stream " + publisher.stream,
                         "bus ps shows the slowest reader"});
    for (const auto& reader : process.readers)
      if (reader.lost != 0)
        found.push_back({grade::note,
                         who + " has lost " + std::to_string(reader.lost) + " messages of stream " +
                             reader.stream,
                         "use a larger ring, a faster reader, or --overflow block"});
  }
}

int run(const context& c) {
  std::vector<finding> found;
  const auto root = bus::root_of(c.url);
  if (!root) return c.fail(root.error());
  check_machine(found, *root);
  auto session = c.look("doctor");
  if (session) {
    check_bus(*session, found);
  } else if (session.error().code == bus::errc::not_found) {
    found.push_back({grade::good, session.error().what + " yet: it is created at first use", ""});
  } else {
    found.push_back(
        {grade::bad, session.error().what + ": " + session.error().why, session.error().fix});
  }
  bool bad = false;
  json all = json::array();
  for (const auto& f : found) {
    bad = bad || f.how == grade::bad;
    if (c.json)
      all.push_back({{"grade", grade_name(f.how)}, {"finding", f.what}, {"fix", f.fix}});
    else
      std::printf("%-5s %s%s\n", grade_name(f.how), printable(f.what).c_str(),
                  f.fix.empty() ? "" : ("\n      fix: " + printable(f.fix)).c_str());
  }
  if (c.json) std::printf("%s\n", dump({{"healthy", !bad}, {"findings", all}}, true).c_str());
  return bad ? exit_failure : 0;
}

}  // namespace

void add_doctor(CLI::App& app, context& c) {
  app.add_subcommand("doctor", "Check this machine and the bus")->callback([&c] {
    c.run = [&c] { return run(c); };
  });
}

}  // namespace tools
