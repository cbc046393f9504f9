#pragma once
/// confirmed: the loops that measure a client of a durable system, in a process of its own. A
/// client is:
///
///   publish(const std::string&)          returns when the message is confirmed
///   stream(const std::string&, until)    many in flight until then; returns how many, when all of
///   them are confirmed
///
/// What fails throws.

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

/// Watchdog: both measurements several times over, and some for opening and for confirms that come
/// late.
inline double durable_patience_s(const durable_question& asked) { return 60 + 6 * asked.seconds; }

/// Runs `open()` and what it opened in a child.
template <class Open>
outcome run_client(const durable_question& asked, Open&& open) {
  return run_parts(durable_patience_s(asked), {{-1, [&](board& shared) {
                                                  auto client = open();
                                                  detail::measure_client(*client, asked, shared);
                                                }}});
}

}  // namespace bench
