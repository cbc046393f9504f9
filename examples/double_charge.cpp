/// double_charge: two holders of one message, but one charge.
///
/// A worker is stopped in the middle of its work for longer than its lease lasts. Another worker
/// gets the message and does the work. Then the first one resumes, unaware of this. No queue can
/// prevent that; two things make it harmless:
///
///   the ledger   charges an order once (the business key), and refuses a lease that is older than
///                one it has seen for the order (the fencing token)
///   ack()        of the late worker returns stale_lease

#include "example.hpp"

#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <new>

namespace {

using namespace std::chrono_literals;
using example::expect;
using example::must;

enum class charged { now, before, refused };
const char* name(charged outcome) {
  return outcome == charged::now      ? "charged"
         : outcome == charged::before ? "was charged before"
                                      : "refused: an old lease";
}

/// A later lease of the group has a higher fence.
std::uint64_t fence_of(const bus::lease& order) { return order.fencing_token(); }

/// Simulates a database table. Each order has one word, changed as in one transaction: the highest
/// fence seen, and whether the order is charged.
class ledger {
 public:
  charged charge(std::uint64_t order, std::uint64_t fence) {
    std::atomic<std::uint64_t>& row = rows_[order];
    std::uint64_t before = row.load(std::memory_order_acquire);
    do {
      if (before >> 1 > fence) return charged::refused;
    } while (!row.compare_exchange_weak(before, fence << 1 | 1, std::memory_order_acq_rel));
    if ((before & 1) != 0) return charged::before;
    charges_.fetch_add(1, std::memory_order_relaxed);
    return charged::now;
  }
  std::uint64_t charges() const { return charges_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> rows_[16] = {};
  std::atomic<std::uint64_t> charges_ = 0;
};

ledger& shared_ledger() {
  void* const memory =
      ::mmap(nullptr, sizeof(ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("cannot map the ledger");
  return *new (memory) ledger;
}

enum class stops { never, before_the_charge, after_the_charge };

/// Processes one order. Checking held() first saves work, but cannot replace the ledger, because
/// the worker may be stopped right after the check.
void take_one(const std::string& bus_name, ledger& book, const char* who, stops where,
              charged expected, bus::settle_result settled) {
  bus::session session = must(bus::open(bus_name));
  bus::consumer worker = must(session.consume("", {.group = "billing", .stream = "orders"}));
  auto order = worker.next(10s);
  if (!order) throw std::runtime_error("no order for 10 seconds");
  if (!order->held()) return;
  if (where == stops::before_the_charge) ::raise(SIGSTOP);
  const std::uint64_t number = std::strtoull(std::string(order->text()).c_str(), nullptr, 10);
  const charged outcome = book.charge(number, fence_of(*order));
  if (where == stops::after_the_charge) ::raise(SIGSTOP);
  const bus::settle_result answer = order->ack();
  std::printf("%s worker: order %llu %s; ack: %s\n", who, static_cast<unsigned long long>(number),
              name(outcome), bus::settle_result_name(answer));
  expect(outcome == expected && answer == settled,
         std::string(who) + " worker gets the right answer");
}

void double_charge() {
  const example::bus_of_this_run bus("double_charge");
  ledger& book = shared_ledger();
  bus::session session = must(bus::open(bus.name()));
  bus::stream_config stream;
  stream.name = "orders";
  stream.subjects = {"orders.>"};
  must(session.add_stream(stream));
  bus::group_config group;
  group.name = "billing";
  group.stream = "orders";
  group.ack_wait = 100ms;  // short, to keep the example short; default 30 s
  group.backoff = {0ms};
  must(session.add_group(group));
  bus::publisher shop = must(session.publisher("orders.placed"));

  const auto play = [&](std::uint64_t order, stops where, charged first_gets, charged second_gets) {
    must(shop.publish(std::to_string(order)), shop);
    example::process first([&] {
      take_one(bus.name(), book, "first", where, first_gets, bus::settle_result::stale_lease);
    });
    first.wait_stopped("first worker");
    example::process second([&] {
      take_one(bus.name(), book, "second", stops::never, second_gets, bus::settle_result::ok);
    });
    second.join("second worker");
    first.send(SIGCONT);
    first.join("first worker");
  };
  play(1, stops::before_the_charge, charged::refused, charged::now);
  play(2, stops::after_the_charge, charged::now, charged::before);

  const auto info = must(session.group("orders", "billing"));
  expect(book.charges() == 2 && info.counts.settled == 2, "two orders, two charges");
  std::printf("2 orders, 4 holders, %llu charges\n",
              static_cast<unsigned long long>(book.charges()));
}

}  // namespace

int main() { return example::run(double_charge); }
