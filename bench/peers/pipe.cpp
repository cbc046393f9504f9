#include <fcntl.h>

#include <cerrno>

#include "between.hpp"
#include "peers.hpp"

namespace bench {

namespace {

// A pipe has no message boundaries. All messages of a measurement have one size, so none are
// needed.
class pipe_end {
 public:
  pipe_end(int in, int out, const plan& asked) : in_(in), out_(out), buffer_(asked.bytes) {}

  void send(const char* payload, std::uint32_t bytes) {
    for (std::uint32_t done = 0; done < bytes;) {
      const ssize_t step = write(out_, payload + done, bytes - done);
      if (step > 0)
        done += static_cast<std::uint32_t>(step);
      else if (errno != EAGAIN && errno != EINTR)
        fail_with_errno("write");
    }
  }

  std::uint64_t receive(std::uint64_t& sum) {
    for (;;) {
      const ssize_t got = read(in_, buffer_.data() + filled_, buffer_.size() - filled_);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
      if (got <= 0) fail_with_errno("read");
      filled_ += static_cast<std::size_t>(got);
      if (filled_ < buffer_.size()) continue;
      filled_ = 0;
      sum += sum_of(buffer_.data(), buffer_.size());
      return 1;
    }
  }

 private:
  int in_, out_;
  std::vector<char> buffer_;
  std::size_t filled_ = 0;
};

class pipe_channel {
 public:
  explicit pipe_channel(const plan& asked) : plan_(asked) {
    for (auto& way : ways_) {
      if (pipe2(way, O_CLOEXEC | (asked.wait == waiting::spin ? O_NONBLOCK : 0)) != 0)
        fail_with_errno("pipe");
      (void)fcntl(way[1], F_SETPIPE_SZ, 1 << 20);
    }
  }
  ~pipe_channel() {
    for (auto& way : ways_)
      for (const int descriptor : way) close(descriptor);
  }
  pipe_channel(const pipe_channel&) = delete;
  pipe_channel& operator=(const pipe_channel&) = delete;

  pipe_end open(bool near) { return {ways_[near ? 1 : 0][0], ways_[near ? 0 : 1][1], plan_}; }

 private:
  plan plan_;
  int ways_[2][2];
};

}  // namespace

peer pipe_peer() {
  return {"pipe", "pipe", "", [](const plan&) { return true; }, run_between<pipe_channel>};
}

}  // namespace bench
