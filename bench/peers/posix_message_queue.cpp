#include <fcntl.h>
#include <mqueue.h>
#include <sys/resource.h>

#include <cerrno>
#include <fstream>

#include "between.hpp"
#include "peers.hpp"

namespace bench {

namespace {

class mq_end {
 public:
  mq_end(const std::string& in, const std::string& out, const plan& asked) : buffer_(asked.bytes) {
    const int flags = asked.wait == waiting::spin ? O_NONBLOCK : 0;
    in_ = mq_open(in.c_str(), O_RDONLY | flags);
    out_ = mq_open(out.c_str(), O_WRONLY | flags);
    if (in_ < 0 || out_ < 0) fail_with_errno("mq_open");
  }
  ~mq_end() {
    if (in_ >= 0) mq_close(in_);
    if (out_ >= 0) mq_close(out_);
  }
  mq_end(const mq_end&) = delete;
  mq_end& operator=(const mq_end&) = delete;

  void send(const char* payload, std::uint32_t bytes) {
    while (mq_send(out_, payload, bytes, 0) != 0)
      if (errno != EAGAIN && errno != EINTR) fail_with_errno("mq_send");
  }

  std::uint64_t receive(std::uint64_t& sum) {
    const ssize_t got = mq_receive(in_, buffer_.data(), buffer_.size(), nullptr);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got != static_cast<ssize_t>(buffer_.size())) fail_with_errno("mq_receive");
    sum += sum_of(buffer_.data(), buffer_.size());
    return 1;
  }

 private:
  std::vector<char> buffer_;
  mqd_t in_ = -1, out_ = -1;
};

long limit_of(const char* name) {
  long value = 0;
  std::ifstream("/proc/sys/fs/mqueue/" + std::string(name)) >> value;
  return value;
}

class mq_channel {
 public:
  explicit mq_channel(const plan& asked) : plan_(asked) {
    const std::string stem = "/bench-peers-" + std::to_string(getpid());
    ping_ = stem + "-ping";
    pong_ = stem + "-pong";
    const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_MSGQUEUE, &unlimited);
    try {
      make(ping_);
      make(pong_);
    } catch (...) {
      remove();
      throw;
    }
  }
  ~mq_channel() { remove(); }
  mq_channel(const mq_channel&) = delete;
  mq_channel& operator=(const mq_channel&) = delete;

  mq_end open(bool near) { return {near ? pong_ : ping_, near ? ping_ : pong_, plan_}; }

 private:
  // A deep queue if the process may exceed the machine's limits, else as deep as they permit.
  void make(const std::string& name) const {
    const long depth_max = limit_of("msg_max"), bytes_max = limit_of("msgsize_max");
    for (const long depth : {256L, depth_max, 8L}) {
      mq_attr shape{};
      shape.mq_maxmsg = depth;
      shape.mq_msgsize = plan_.bytes;
      const mqd_t made = mq_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600, &shape);
      if (made >= 0) {
        mq_close(made);
        return;
      }
      if (errno == EEXIST) break;
    }
    if (plan_.bytes > bytes_max && errno == EINVAL)
      fail("a message may have at most " + std::to_string(bytes_max) + " bytes here");
    fail_with_errno("mq_open");
  }
  void remove() const {
    mq_unlink(ping_.c_str());
    mq_unlink(pong_.c_str());
  }

  plan plan_;
  std::string ping_, pong_;
};

}  // namespace

peer posix_message_queue_peer() {
  return {"posix_mq", "POSIX message queue", "", [](const plan&) { return true; },
          run_between<mq_channel>};
}

}  // namespace bench
