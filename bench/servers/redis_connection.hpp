#pragma once
/// redis_connection: hiredis with pipelines. Throws on failure.

#include <hiredis/hiredis.h>

#include <memory>

#include "processes.hpp"

namespace bench {

struct redis_reply_free {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using redis_reply = std::unique_ptr<redisReply, redis_reply_free>;

class redis_connection {
 public:
  explicit redis_connection(const std::string& socket)
      : context_(redisConnectUnix(socket.c_str())) {
    if (context_ == nullptr) fail("redis: no memory");
    if (context_->err != 0) fail(std::string("redis: ") + context_->errstr);
  }
  ~redis_connection() { redisFree(context_); }
  redis_connection(const redis_connection&) = delete;
  redis_connection& operator=(const redis_connection&) = delete;

  /// Format as redisAppendCommand().
  template <class... Arguments>
  void add(const char* format, Arguments... arguments) {
    if (redisAppendCommand(context_, format, arguments...) != REDIS_OK) fail_with_its_error();
  }
  void add(const std::vector<const char*>& words) {
    if (redisAppendCommandArgv(context_, static_cast<int>(words.size()),
                               const_cast<const char**>(words.data()), nullptr) != REDIS_OK)
      fail_with_its_error();
  }
  /// Sends the commands that were added.
  void flush() {
    for (int done = 0; done == 0;)
      if (redisBufferWrite(context_, &done) != REDIS_OK) fail_with_its_error();
  }
  /// Returns the next answer; first sends the commands that were added.
  redis_reply answer() {
    void* got = nullptr;
    if (redisGetReply(context_, &got) != REDIS_OK) fail_with_its_error();
    redis_reply reply(static_cast<redisReply*>(got));
    if (reply->type == REDIS_REPLY_ERROR) fail(std::string("redis: ") + reply->str);
    return reply;
  }

 private:
  [[noreturn]] void fail_with_its_error() { fail(std::string("redis: ") + context_->errstr); }

  redisContext* context_;
};

}  // namespace bench
