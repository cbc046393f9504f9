#pragma once
/// confirmed: the loops that measure a client of a durable system in a separate process. A client
/// has:
///
///   publish(const std::string&)          returns when the message is confirmed
///   stream(const std::string&, until)    keeps many in flight until then; returns how many, when
///                                        all of them are confirmed
///
/// Failures are thrown.

#include "durable.hpp"
#include "rounds.hpp"

namespace bench {

namespace detail {

constexpr int warm_up = 32, confirms_min = 20;

template <class Client>
void measure_client(Client& client, const durable_question& asked, board& shared) {
  const std::string payload(asked.bytes, '\x11');
  for (int i = 0; i < warm_up; ++i) client.publish(payload);
  samples confirms;
  for (const auto until = from_now(asked.seconds);
       bench_clock::now() < until || confirms.size() < static_cast<std::size_t>(confirms_min);) {
    const std::uint64_t begin = ticks();
    client.publish(payload);
    confirms.add(ticks() - begin);
  }
  shared.take(confirms);
  const auto begin = bench_clock::now();
  const std::uint64_t sent = client.stream(payload, from_now(asked.seconds));
  shared.messages_per_s =
      static_cast<double>(sent) / std::chrono::duration<double>(bench_clock::now() - begin).count();
}

}  // namespace detail

/// Watchdog: several times both measurements, plus some for opening and for late confirms.
inline double durable_patience_s(const durable_question& asked) { return 60 + 6 * asked.seconds; }

/// Runs `open()` and the client that it returns in a child process.
template <class Open>
outcome run_client(const durable_question& asked, Open&& open) {
  return run_parts(durable_patience_s(asked), {{-1, [&](board& shared) {
                                                  auto client = open();
                                                  detail::measure_client(*client, asked, shared);
                                                }}});
}

}  // namespace bench
