#include "confirmed.hpp"
#include "disk_floor.hpp"

namespace bench {

namespace {

constexpr double stream_seconds_max = 0.5;  // shared disks slow down after long writes
constexpr std::size_t commit_bytes = 4096, stream_bytes = 1 << 20;

void measure_floor(const durable_question& asked, const std::string& directory, board& shared) {
  disk_floor floor(directory);
  if (!floor.works()) fail_with_errno("cannot write to " + directory);
  samples commits;
  for (const auto until = from_now(asked.seconds); bench_clock::now() < until;)
    floor.commit(commit_bytes, commits);
  if (commits.size() == 0) fail("cannot write and sync in " + directory);
  shared.take(commits);
  shared.messages_per_s =
      floor.bandwidth(stream_bytes, std::min(asked.seconds, stream_seconds_max)) / stream_bytes;
}

}  // namespace

durable_peer disk_floor_peer() {
  return {"floor",
          "disk floor",
          "4 KiB O_DIRECT pwrite + fdatasync one at a time; 1 MiB each for throughput",
          "",
          stream_bytes,
          [](const durable_question& asked) {
            return guarded([&] {
              const scratch_directory here;
              return run_parts(
                  durable_patience_s(asked),
                  {{-1, [&](board& shared) { measure_floor(asked, here / "", shared); }}});
            });
          }};
}

}  // namespace bench
