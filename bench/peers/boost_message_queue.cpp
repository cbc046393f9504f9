#include "between.hpp"
#include "peers.hpp"

#if BENCH_HAS_BOOST
#include <boost/interprocess/ipc/message_queue.hpp>

namespace bench {

namespace {

namespace ipc = boost::interprocess;

class boost_end {
 public:
  boost_end(const std::string& in, const std::string& out, const plan& asked)
      : in_(ipc::open_only, in.c_str()),
        out_(ipc::open_only, out.c_str()),
        buffer_(asked.bytes),
        spins_(asked.wait == waiting::spin) {}

  void send(const char* payload, std::uint32_t bytes) { out_.send(payload, bytes, 0); }

  std::uint64_t receive(std::uint64_t& sum) {
    ipc::message_queue::size_type got = 0;
    unsigned priority = 0;
    if (!spins_)
      in_.receive(buffer_.data(), buffer_.size(), got, priority);
    else if (!in_.try_receive(buffer_.data(), buffer_.size(), got, priority))
      return 0;
    sum += sum_of(buffer_.data(), got);
    return 1;
  }

 private:
  ipc::message_queue in_, out_;
  std::vector<char> buffer_;
  bool spins_;
};

class boost_channel {
 public:
  explicit boost_channel(const plan& asked)
      : plan_(asked),
        ping_("bench-peers-" + std::to_string(getpid()) + "-ping"),
        pong_("bench-peers-" + std::to_string(getpid()) + "-pong") {
    const std::size_t depth = asked.bytes > 4096 ? 64 : 1024;
    for (const std::string& name : {ping_, pong_})
      ipc::message_queue(ipc::create_only, name.c_str(), depth, asked.bytes);
  }
  ~boost_channel() {
    ipc::message_queue::remove(ping_.c_str());
    ipc::message_queue::remove(pong_.c_str());
  }
  boost_channel(const boost_channel&) = delete;
  boost_channel& operator=(const boost_channel&) = delete;

  boost_end open(bool near) { return {near ? pong_ : ping_, near ? ping_ : pong_, plan_}; }

 private:
  plan plan_;
  std::string ping_, pong_;
};

}  // namespace

peer boost_message_queue_peer() {
  return {"boost_mq", "Boost message_queue", "", [](const plan&) { return true; },
          run_between<boost_channel>};
}

}  // namespace bench

#else

namespace bench {
peer boost_message_queue_peer() {
  return {"boost_mq", "Boost message_queue", "built without libboost-dev", {}, {}};
}
}  // namespace bench

#endif
