#include "group_rounds.hpp"

namespace test {

group_stage::options small_group(bus::overflow policy, std::uint32_t lanes) {
  group_stage::options on;
  on.stream = small_stream("k", policy);
  on.stream.lanes = lanes;
  on.group.max_ack_pending = 16;
  on.group.max_delayed = 64;
  on.group.max_parked = 64;
  on.group.max_deliver = 4;
  on.group.ack_wait = 30s;
  on.group.backoff = {0ms};
  on.group.jitter = 0;
  on.group.hold_bytes = 1 << 20;
  return on;
}

int consume_everything(group_stage& on, std::uint32_t life, int rounds) {
  auto session = bus::open(on.url("&name=victim"));
  if (!session) return on.why().say(session.error().message()), 10;
  auto made = group_worker::open(*session, on.history(), life, on.group());
  if (!made) return on.why().say(made.error().message()), 11;
  auto& w = *made;
  const bool expires = on.group().ack_wait < 1s && on.group().ack_wait.count() != 0;
  for (int round = 0; round < rounds; ++round) {
    w.fetch(8, 5ms, round % 2 == 0);
    static constexpr verb ways[] = {verb::ack, verb::nack, verb::release, verb::ack, verb::reject};
    for (std::size_t i = 0; i < std::size(ways) && w.in_hand() != 0; ++i)
      w.settle(0, ways[(i + static_cast<std::size_t>(round)) % std::size(ways)], round % 2 * 2ms);
    if (w.in_hand() != 0) w.settle(0, verb::nack, 2ms);
    for (std::size_t i = 0; i < w.in_hand(); ++i)
      w.extend(i, i % 2 == 0 ? std::optional(10s) : std::nullopt);
    w.fetch(4, 3ms);
    if (expires) {
      ::usleep(static_cast<useconds_t>(on.group().ack_wait / 1us + 1000));
      w.fetch(4, 1ms);
    }
    ::usleep(2500);
    w.fetch(1, 1ms);
    if (w.in_hand() != 0) w.settle(w.in_hand() - 1, verb::ack);
    if (w.in_hand() != 0) w.settle(0, verb::let_go);
  }
  if (w.altered() != 0) return on.why().say("other bytes"), 12;
  if (w.consumer().failure()) return on.why().say(w.consumer().failure()->message()), 13;
  return 0;
}

group_round run_round(group_stage& on, failpoint_plan& plan, failpoint at, std::uint64_t hit,
                      std::size_t messages, const group_victim& victim,
                      const std::function<void()>& between) {
  group_round done;
  done.where = at == failpoint::count ? "nowhere" : name_of(at) + " hit " + std::to_string(hit);
  plan.reset();
  plan.kill_at_hit.store(hit);
  plan.kill_at.store(at, std::memory_order_release);
  on.begin_round();
  on.publish(messages);
  between();
  const std::uint32_t life = on.new_life();
  child who([&] {
    ::alarm(20);
    follow(&plan);
    return victim(life);
  });
  const int status = who.wait();
  const std::int64_t killed = plan.killed_ns.load(std::memory_order_acquire);
  on.history().ended_ns[life].store(killed != 0 ? killed : now_ns());
  if (killed == 0 && status != 0)
    on.checker().complain(
        WIFSIGNALED(status) ? complaint_kind::stalled : complaint_kind::other,
        "victim of " + done.where + " ended with " + std::to_string(status) + ": " + on.why().text);
  // Every second time a new consumer joins first, finds what the dead one left, and leaves again.
  if (hit % 2 == 0 && killed != 0) {
    child newcomer([&] {
      ::alarm(20);
      auto session = bus::open(on.url("&name=newcomer"));
      if (!session) return 10;
      return group_worker::open(*session, on.history(), on.new_life(), on.group()) ? 0 : 11;
    });
    if (!newcomer.succeeded())
      on.checker().complain(complaint_kind::other, "after " + done.where + " nobody can join");
  }
  on.look();
  done.took_ns = on.drain(killed);
  on.expect_as_new();
  for (std::size_t i = 0; i < failpoints; ++i)
    done.hits[i] = plan.hits_of(static_cast<failpoint>(i));
  return done;
}

}  // namespace test
