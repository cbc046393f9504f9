#include <bus/replay.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>

namespace bus {

namespace {

using wall = std::chrono::system_clock;
using steady = std::chrono::steady_clock;

constexpr auto look_again = std::chrono::milliseconds(50);
constexpr auto far_ahead = std::chrono::hours(24);

}  // namespace

struct replay::state {
  struct track {
    subscriber from;
    std::uint64_t last_sequence = 0;  // of what existed at the opening
    std::optional<message> head;
    // Publish time of the head, read once: a second conversion may differ slightly.
    wall::time_point time{};
    bool ended = false;
  };
  std::vector<track> tracks;
  double speed = 0;
  std::optional<wall::time_point> to;
  wall::time_point opened = wall::now();
  std::chrono::nanoseconds longest_pause{};
  std::optional<wall::time_point> last_time;
  steady::time_point due;
  std::atomic<bool> stopped{false};
  std::optional<error> failure;

  // Afterwards each track that has not ended has a head. A track ends with its last sequence, and
  // never because of a stamp: clocks may be set.
  void fill(track& of) {
    while (!of.head && !of.ended && !stopped.load()) {
      of.head = of.from.try_next();
      if (of.head) {
        const auto time = of.head->publish_time();
        of.ended = of.head->sequence() >= of.last_sequence;  // after this one
        if (of.head->sequence() > of.last_sequence || (to && time > *to)) {
          of.head.reset();
          continue;
        }
        // Stamped by a clock that was ahead: it follows the message before it without a pause.
        if (time <= opened + far_ahead) of.time = time;
        return;
      }
      if (of.from.failure()) {
        failure = of.from.failure();
        of.ended = true;
      } else if (of.last_sequence == 0 || !of.from.wait(look_again)) {
        of.ended = true;  // there was less than expected: removed meanwhile
      }
    }
  }
};

replay::replay(std::unique_ptr<state> made) noexcept : state_(std::move(made)) {}
replay::replay(replay&&) noexcept = default;
replay& replay::operator=(replay&&) noexcept = default;
replay::~replay() = default;

result<replay> replay::open(session& from, replay_options options) {
  if (!(options.speed >= 0) || !std::isfinite(options.speed))
    return error{errc::invalid_argument, 0, "invalid replay", "speed must be 0 or more", ""};
  if (options.longest_pause < std::chrono::nanoseconds::zero())
    return error{errc::invalid_argument, 0, "invalid replay", "longest_pause must be 0 or more",
                 ""};
  auto made = std::make_unique<state>();
  made->speed = options.speed;
  made->to = options.to;
  made->longest_pause =
      std::min<std::chrono::nanoseconds>(options.longest_pause, std::chrono::years(1));
  auto streams = from.streams();
  if (!streams) return std::move(streams.error());
  for (const std::string& name : options.streams)
    if (std::none_of(streams->begin(), streams->end(),
                     [&](const auto& stream) { return stream.config.name == name; }))
      return error{errc::not_found, 0, "no stream '" + name + "'",
                   "this bus has no stream of that name", "bus stream ls"};
  const std::vector<std::string_view> patterns(options.patterns.begin(), options.patterns.end());
  for (const stream_info& stream : *streams) {
    if (!options.streams.empty() && std::find(options.streams.begin(), options.streams.end(),
                                              stream.config.name) == options.streams.end())
      continue;
    for (const lane_info& lane : stream.lanes) {
      subscriber_options how;
      how.stream = stream.config.name;
      how.lane = lane.index;
      how.gate = false;
      how.name = "replay";
      how.start = options.from == wall::time_point{} ? start::all() : start::by_time(options.from);
      auto subscribed = from.subscribe(patterns, how);
      if (!subscribed) return std::move(subscribed.error());
      made->tracks.push_back({std::move(*subscribed), lane.last_sequence, {}, {}, false});
    }
  }
  return replay(std::move(made));
}

std::optional<message> replay::next() {
  state& s = *state_;
  state::track* first = nullptr;
  for (state::track& track : s.tracks) {
    s.fill(track);
    if (track.head && (first == nullptr || track.time < first->time)) first = &track;
  }
  if (first == nullptr || s.stopped.load()) return std::nullopt;
  const message found = *first->head;
  first->head.reset();
  if (s.speed > 0 && first->time != wall::time_point{}) {
    const auto time = first->time;
    if (!s.last_time) s.due = steady::now();
    // A clock that was set does not count as a pause.
    const double pause_ns =
        static_cast<double>((time - s.last_time.value_or(time)).count()) / s.speed;
    s.due += std::chrono::nanoseconds(static_cast<std::int64_t>(
        std::clamp(pause_ns, 0.0, static_cast<double>(s.longest_pause.count()))));
    s.last_time = time;
    while (!s.stopped.load() && steady::now() < s.due)
      std::this_thread::sleep_until(std::min(s.due, steady::now() + look_again));
    if (s.stopped.load()) return std::nullopt;
  }
  return found;
}

void replay::stop() noexcept { state_->stopped.store(true); }
const std::optional<error>& replay::failure() const noexcept { return state_->failure; }

std::uint64_t replay::lost() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& track : state_->tracks) sum += track.from.stats().lost;
  return sum;
}

}  // namespace bus
