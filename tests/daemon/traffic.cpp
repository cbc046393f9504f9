#include "traffic.hpp"

#include <algorithm>
#include <deque>

namespace test {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

std::string text_of(std::uint64_t number) { return std::to_string(number); }

}  // namespace

int publish_numbered(const std::string& url, traffic& shared, const publisher_plan& plan) {
  auto& words = *shared.words;
  const auto give_up = [&](const std::string& why) {
    words.complain("publisher " + plan.subject + " of life " + text_of(plan.life) + ": " + why);
    return 10;
  };
  auto session = bus::open(url);
  if (!session) return give_up(session.error().message());
  bus::publisher_options options;
  if (plan.way == confirm_way::each) options.confirm = bus::confirm::disk;
  auto publisher = session->publisher(plan.subject, options);
  if (!publisher) return give_up(publisher.error().message());
  auto& entry = (*shared.lives)[plan.life];
  std::mt19937_64 random(plan.seed);
  std::vector<std::byte> payload;
  std::deque<confirmed_note> waiting;
  const auto note = [&](const confirmed_note& n) { shared.book->add(n); };
  for (std::uint64_t number = 1; number <= plan.messages && !words.stop_publishers.load();) {
    payload.resize(sizeof(stamp) + random() % plan.largest);
    write_payload(payload, plan.life, number, plan.subject);
    const bool measured = plan.measures && words.busd_is_dead.load();
    const bool had_room = measured && !publisher->would_block(8 * 1024);
    entry.begun.store(number, std::memory_order_release);
    const auto before = clock::now();
    const bus::published outcome = publisher->publish(payload);
    const std::int64_t took = (clock::now() - before).count();
    if (outcome.status == bus::publish_status::ok ||
        outcome.status == bus::publish_status::unconfirmed) {
      entry.done.store(number, std::memory_order_release);
      raise(words.highest_given, outcome.sequence);
      words.published.fetch_add(1, std::memory_order_relaxed);
      if (words.busd_is_dead.load()) words.published_with_busd_dead.fetch_add(1);
      const confirmed_note mine{outcome.sequence, number, plan.life, 0};
      if (outcome.status == bus::publish_status::unconfirmed) {
        ++words.unconfirmed;
      } else if (plan.way == confirm_way::each) {
        note(mine);
      } else if (plan.way == confirm_way::waited) {
        waiting.push_back(mine);
        if (waiting.size() >= 16) {
          const auto done = publisher->wait_confirmed(publisher->last_receipt(), 30s);
          if (done) std::for_each(waiting.begin(), waiting.end(), note);
          waiting.clear();
        }
      } else if (plan.way == confirm_way::called) {
        publisher->when_confirmed(publisher->last_receipt(), [&, mine](const bus::receipt& of) {
          if (of.sequence != mine.sequence) words.complain("a confirm came for another receipt");
          note(mine);
        });
        publisher->poll_confirms();
      }
      if (plan.way != confirm_way::each) {
        raise(words.longest_publish_ns, took);
        if (measured && had_room && words.busd_is_dead.load() && !publisher->would_block(8 * 1024))
          raise(words.longest_pause_with_busd_dead_ns, took);
      }
      ++number;
    } else if (outcome.status == bus::publish_status::unavailable ||
               outcome.status == bus::publish_status::timed_out) {
      ++words.unavailable;
    } else if (outcome.status == bus::publish_status::no_space) {
      ++words.refused;
      ::usleep(500);
    } else {
      return give_up(std::string(bus::publish_status_name(outcome.status)) + ": " +
                     publisher->last_error().message());
    }
    if (plan.pause_us != 0) ::usleep(plan.pause_us);
  }
  return 0;
}

int read_live(const std::string& url, traffic& shared, const std::string& pattern,
              std::atomic<bool>& ready, bool falls_behind, std::uint64_t seed) {
  auto& words = *shared.words;
  const std::string who = falls_behind ? "the reader that falls behind: " : "the live reader: ";
  const auto give_up = [&](const std::string& why) {
    words.complain(who + why);
    return 10;
  };
  auto session = bus::open(url);
  if (!session) return give_up(session.error().message());
  delivery_checker checker(*shared.lives);
  bus::subscriber_options options;
  options.on_gap = [&](const bus::gap& gap) {
    checker.complain(complaint_kind::lost, "a gap from " + text_of(gap.first) + " of " +
                                               text_of(gap.count) + ": " +
                                               bus::gap_reason_name(gap.reason));
  };
  auto subscriber = session->subscribe(pattern, options);
  if (!subscriber) return give_up(subscriber.error().message());
  ready.store(true);
  std::mt19937_64 random(seed);
  auto rests_at = clock::now();
  for (auto last = clock::now();;) {
    const std::size_t count =
        subscriber->poll(256, [&](const bus::message& m) { checker.on_message(m); });
    const std::uint64_t target = words.read_up_to.load();
    if (count != 0) last = clock::now();
    raise(words.highest_read, checker.read_up_to(0));
    if (subscriber->failure()) return give_up(subscriber->failure()->message());
    if (!checker.complaints().empty()) return give_up(checker.report());
    if (target != 0 && checker.read_up_to(0) >= target) break;
    if (target != 0 && clock::now() > last + 30s)
      return give_up("stands at " + text_of(checker.read_up_to(0)) + ", the last is " +
                     text_of(target));
    if (count == 0) {
      (void)subscriber->wait(20ms);
    } else if (falls_behind && target == 0 && clock::now() > rests_at) {
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 400));
      rests_at = clock::now() + std::chrono::milliseconds(random() % 200);
    }
  }
  for (std::uint32_t life = 0; life < words.lives_used.load(); ++life) checker.settle(life);
  if (!checker.complaints().empty()) return give_up(checker.report());
  const auto stats = subscriber->stats();
  std::printf("  %s%llu messages judged, %llu of them from the log\n", who.c_str(),
              static_cast<unsigned long long>(checker.messages()),
              static_cast<unsigned long long>(stats.replayed));
  std::fflush(stdout);
  return 0;
}

int read_again_and_again(const std::string& url, traffic& shared, const std::string& pattern,
                         std::uint64_t seed) {
  auto& words = *shared.words;
  auto session = bus::open(url);
  if (!session) return words.complain("replay: " + session.error().message()), 10;
  std::mt19937_64 random(seed);
  for (std::uint64_t round = 0;; ++round) {
    auto stream = session->stream(pattern.substr(0, pattern.find('.')));
    if (!stream || stream->lanes.empty()) return words.complain("replay: no stream"), 10;
    const std::uint64_t last = stream->lanes[0].last_sequence;
    const bool all = round % 2 == 0 || last < 10;
    const std::uint64_t first = all ? 1 : 1 + random() % last;
    delivery_checker checker(*shared.lives);
    std::string gap_text;
    bus::subscriber_options options;
    options.start = all ? bus::start::all() : bus::start::by_sequence(first);
    options.on_gap = [&](const bus::gap& gap) {
      gap_text = "a gap from " + text_of(gap.first) + " of " + text_of(gap.count);
    };
    auto subscriber = session->subscribe(pattern, options);
    if (!subscriber) return words.complain("replay: " + subscriber.error().message()), 10;
    std::uint64_t next = first, flaws = 0;
    for (auto since = clock::now(); next <= last;) {
      const std::size_t count = subscriber->poll(256, [&](const bus::message& m) {
        if (m.sequence() != next && flaws++ == 0)
          gap_text +=
              " sequence " + text_of(m.sequence()) + " came, " + text_of(next) + " was expected";
        next = m.sequence() + 1;
        if (all) checker.on_message(m);
      });
      if (count != 0) since = clock::now();
      if (subscriber->failure())
        return words.complain("replay: " + subscriber->failure()->message()), 11;
      if (!checker.complaints().empty())
        return words.complain("replay from " + text_of(first) + ":" + checker.report()), 11;
      if (!gap_text.empty())
        return words.complain("replay from " + text_of(first) + ": " + gap_text), 11;
      if (count == 0 && clock::now() > since + 30s)
        return words.complain("replay from " + text_of(first) + " stands at " + text_of(next) +
                              " of " + text_of(last)),
               11;
      if (count == 0) (void)subscriber->wait(5ms);
    }
    words.replays.fetch_add(1);
    words.replayed.fetch_add(next - first);
    raise(words.highest_read, next - 1);
    ::usleep(static_cast<useconds_t>(random() % 20'000));
  }
}

replay read_all(bus::session& session, const std::string& pattern, const bus::start& from,
                std::uint64_t last) {
  replay got;
  const auto flaw = [&](std::string text) {
    if (got.flaw.empty()) got.flaw = std::move(text);
  };
  bus::subscriber_options options;
  options.start = from;
  options.on_gap = [&](const bus::gap& gap) {
    got.gaps.push_back({gap.first, gap.count, gap.reason, got.messages.size()});
  };
  auto subscriber = session.subscribe(pattern, options);
  if (!subscriber) {
    got.flaw = subscriber.error().message();
    return got;
  }
  std::map<std::uint32_t, std::uint64_t> numbers;
  std::uint64_t at = 0;
  for (auto since = clock::now(); at < last && clock::now() < since + 20s;) {
    const std::size_t count = subscriber->poll(512, [&](const bus::message& m) {
      stamp s;
      if (m.lane() != 0) return;
      if (m.sequence() <= at)
        flaw("sequence " + text_of(m.sequence()) + " came after " + text_of(at));
      at = m.sequence();
      if (m.size() < sizeof s) return flaw("sequence " + text_of(at) + " is too short");
      std::memcpy(&s, m.payload().data(), sizeof s);
      bool intact = s.magic == stamp::mark && s.check == check_of(s) && s.bytes == m.size() &&
                    s.subject_hash == fnv(m.subject());
      for (std::size_t i = sizeof s; intact && i < m.size(); ++i)
        intact = m.payload()[i] == filler(s, i);
      if (!intact) return flaw("sequence " + text_of(at) + " has other contents");
      std::uint64_t& number = numbers[s.life];
      if (s.number <= number)
        flaw("message " + text_of(s.number) + " of life " + text_of(s.life) + " came after " +
             text_of(number));
      number = s.number;
      got.messages.push_back({at, s.number, s.life});
    });
    if (count != 0) since = clock::now();
    if (subscriber->failure()) {
      flaw(subscriber->failure()->message());
      break;
    }
    if (count == 0) (void)subscriber->wait(5ms);
  }
  if (at < last) flaw("nothing comes after " + text_of(at) + ", the last is " + text_of(last));
  return got;
}

std::string missing_of(const confirmed_book& book, std::size_t from_note, const replay& all) {
  std::size_t missing = 0;
  std::string first;
  for (std::size_t i = from_note; i < book.size(); ++i) {
    if (!book.written[i].load(std::memory_order_acquire)) continue;  // its publisher died here
    const confirmed_note& note = book.notes[i];
    const auto at = std::lower_bound(
        all.messages.begin(), all.messages.end(), note.sequence,
        [](const found& f, std::uint64_t sequence) { return f.sequence < sequence; });
    if (at != all.messages.end() && at->sequence == note.sequence && at->life == note.life &&
        at->number == note.number)
      continue;
    if (missing++ == 0)
      first =
          "message " + text_of(note.number) + " of life " + text_of(note.life) + " at sequence " +
          text_of(note.sequence) +
          (at != all.messages.end() && at->sequence == note.sequence ? ": there is another message"
                                                                     : "");
  }
  if (missing == 0) return {};
  return text_of(missing) + " confirmed messages are not in the log; the first: " + first;
}

}  // namespace test
