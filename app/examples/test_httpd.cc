// What httpd decides without a socket: ranges, paths, conditions, replies.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "httpd/range.h"
#include "httpd/reply.h"
#include "httpd/site.h"
#include "httpd/target.h"
#include "httpd/validator.h"

namespace httpd {
namespace {

using Kind = Range::Kind;

void expect_range(std::string_view header, uint64_t size, Kind kind, uint64_t first,
                  uint64_t length) {
  const Range range = parse_range(header, size);
  EXPECT_EQ(range.kind, kind) << header;
  EXPECT_EQ(range.first, first) << header;
  EXPECT_EQ(range.length, length) << header;
}

TEST(Range, SinglePart) {
  expect_range("bytes=0-0", 10, Kind::partial, 0, 1);
  expect_range("bytes=2-5", 10, Kind::partial, 2, 4);
  expect_range("Bytes=2-5", 10, Kind::partial, 2, 4);
  expect_range("bytes=4-", 10, Kind::partial, 4, 6);
  expect_range("bytes=4-99", 10, Kind::partial, 4, 6);
  expect_range("bytes=-3", 10, Kind::partial, 7, 3);
  expect_range("bytes=-30", 10, Kind::partial, 0, 10);
  expect_range("bytes=1-99999999999999999999999", 10, Kind::partial, 1, 9);
}

TEST(Range, PastTheEnd) {
  expect_range("bytes=10-", 10, Kind::unsatisfiable, 0, 0);
  expect_range("bytes=10-20", 10, Kind::unsatisfiable, 0, 0);
  expect_range("bytes=-0", 10, Kind::unsatisfiable, 0, 0);
  expect_range("bytes=0-", 0, Kind::unsatisfiable, 0, 0);
  expect_range("bytes=99999999999999999999999-", 10, Kind::unsatisfiable, 0, 0);
}

TEST(Range, WhatIsNotUnderstoodIsIgnored) {
  for (const char* header : {"", "bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "bytes=1",
                             "lines=1-2", "bytes=0-1,3-4", "bytes=1-2x", "bytes=+1-2"}) {
    expect_range(header, 10, Kind::whole, 0, 10);
  }
}

TEST(Target, Paths) {
  EXPECT_EQ(path_of_target("/"), "");
  EXPECT_EQ(path_of_target("/a/b.txt?x=/../"), "a/b.txt");
  EXPECT_EQ(path_of_target("/a%20b/%C3%A9"), "a b/\xc3\xa9");
  EXPECT_EQ(path_of_target("//a///b/./c/"), "a/b/c/");
  EXPECT_EQ(path_of_target("/a/../b"), "b");
  EXPECT_EQ(path_of_target("/a/.."), "");
  EXPECT_EQ(path_of_target("http://host:80/x"), "x");
  EXPECT_EQ(path_of_target("http://host"), "");
}

TEST(Target, Refused) {
  for (const char* target : {"", "*", "a", "/..", "/a/../../b", "/%2e%2e/etc/passwd", "/..%2fx",
                             "/%", "/%4", "/%zz", "/a%00b"}) {
    EXPECT_EQ(path_of_target(target), std::nullopt) << target;
  }
  // Decoded once only.
  EXPECT_EQ(path_of_target("/%252e%252e/x"), "%2e%2e/x");
}

TEST(Target, ContentTypes) {
  EXPECT_EQ(content_type("a/index.html"), "text/html; charset=utf-8");
  EXPECT_EQ(content_type("photo.JPG"), "image/jpeg");
  EXPECT_EQ(content_type("a.d/file"), "application/octet-stream");
  EXPECT_EQ(content_type("x.unknown"), "application/octet-stream");
}

TEST(Validator, Dates) {
  EXPECT_EQ(format_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
  EXPECT_EQ(parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), 784111777);
  EXPECT_EQ(parse_date("Sunday, 06-Nov-94 08:49:37 GMT"), 784111777);
  EXPECT_EQ(parse_date("Sun Nov  6 08:49:37 1994"), 784111777);
  EXPECT_EQ(parse_date("yesterday"), std::nullopt);
  EXPECT_EQ(parse_date(""), std::nullopt);
}

TEST(Validator, Conditions) {
  const Validator v = make_validator(5, 1000, 7);
  EXPECT_NE(v.etag, make_validator(6, 1000, 7).etag);
  EXPECT_NE(v.etag, make_validator(5, 1000, 8).etag);
  EXPECT_TRUE(is_not_modified(v.etag, "", v));
  EXPECT_TRUE(is_not_modified("\"x\", W/" + v.etag, "", v));
  EXPECT_TRUE(is_not_modified("*", "", v));
  EXPECT_FALSE(is_not_modified("\"x\"", "", v));
  EXPECT_TRUE(is_not_modified("", format_date(1000), v));
  EXPECT_FALSE(is_not_modified("", format_date(999), v));
  EXPECT_FALSE(is_not_modified("\"x\"", format_date(1000), v)) << "the tag decides";
  EXPECT_TRUE(if_range_holds("", v));
  EXPECT_TRUE(if_range_holds(v.etag, v));
  EXPECT_FALSE(if_range_holds("W/" + v.etag, v)) << "only strong comparison";
  EXPECT_TRUE(if_range_holds(format_date(1000), v));
  EXPECT_FALSE(if_range_holds(format_date(1001), v));
}

// A directory with files, gone at the end.
class Replies : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/httpd-test-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
    std::filesystem::create_directories(dir_ / "root/sub");
    write("root/index.html", "<p>top</p>");
    write("root/ten.txt", "0123456789");
    write("root/empty.bin", "");
    write("secret.txt", "secret");
    std::filesystem::create_symlink("../secret.txt", dir_ / "root/way-out");
    std::filesystem::create_symlink("ten.txt", dir_ / "root/way-round");
    ASSERT_EQ(mkfifo((dir_ / "root/fifo").c_str(), 0600), 0);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  void write(const char* name, std::string_view data) { std::ofstream(dir_ / name) << data; }

  Reply ask(const char* target, http::verb verb = http::verb::get, const char* range = nullptr) {
    Request request(verb, target, 11);
    if (range != nullptr) request.set(http::field::range, range);
    return make_reply(Site(dir_ / "root"), request, 0);
  }

  static std::string body(const Reply& reply) {
    if (reply.file.get() < 0) return reply.text;
    std::string data(reply.length, '?');
    const ssize_t n =
        pread(reply.file.get(), data.data(), data.size(), static_cast<off_t>(reply.first));
    return n == static_cast<ssize_t>(data.size()) ? data : "short";
  }

  std::filesystem::path dir_;
};

TEST_F(Replies, Files) {
  const Reply reply = ask("/ten.txt");
  EXPECT_EQ(reply.header.result_int(), 200u);
  EXPECT_EQ(reply.header[http::field::content_type], "text/plain; charset=utf-8");
  EXPECT_EQ(reply.header[http::field::content_length], "10");
  EXPECT_EQ(body(reply), "0123456789");
  EXPECT_EQ(body(ask("/")), "<p>top</p>");
  EXPECT_EQ(body(ask("/empty.bin")), "");
  EXPECT_EQ(body(ask("/way-round")), "0123456789");
}

TEST_F(Replies, HeadHasTheLengthAndNoBody) {
  const Reply reply = ask("/ten.txt", http::verb::head);
  EXPECT_EQ(reply.header.result_int(), 200u);
  EXPECT_EQ(reply.header[http::field::content_length], "10");
  EXPECT_EQ(body(reply), "");
  EXPECT_EQ(body(ask("/none", http::verb::head)), "");
}

TEST_F(Replies, Ranges) {
  const Reply part = ask("/ten.txt", http::verb::get, "bytes=2-4");
  EXPECT_EQ(part.header.result_int(), 206u);
  EXPECT_EQ(part.header[http::field::content_range], "bytes 2-4/10");
  EXPECT_EQ(body(part), "234");
  const Reply none = ask("/ten.txt", http::verb::get, "bytes=10-");
  EXPECT_EQ(none.header.result_int(), 416u);
  EXPECT_EQ(none.header[http::field::content_range], "bytes */10");
  EXPECT_EQ(ask("/ten.txt", http::verb::head, "bytes=2-4").header.result_int(), 200u);
}

TEST_F(Replies, NotModified) {
  Request request(http::verb::get, "/ten.txt", 11);
  const Site site(dir_ / "root");
  request.set(http::field::if_none_match, make_reply(site, request, 0).header[http::field::etag]);
  const Reply reply = make_reply(site, request, 0);
  EXPECT_EQ(reply.header.result_int(), 304u);
  EXPECT_EQ(body(reply), "");
}

TEST_F(Replies, Refusals) {
  EXPECT_EQ(ask("/none").header.result_int(), 404u);
  EXPECT_EQ(ask("/ten.txt/x").header.result_int(), 404u);
  EXPECT_EQ(ask("/../secret.txt").header.result_int(), 400u);
  EXPECT_EQ(ask("/way-out").header.result_int(), 403u);
  EXPECT_EQ(ask("/fifo").header.result_int(), 403u);
  EXPECT_EQ(ask("/ten.txt", http::verb::post).header.result_int(), 405u);
  EXPECT_EQ(ask("/ten.txt", http::verb::post).header[http::field::allow], "GET, HEAD");
}

TEST_F(Replies, DirectoriesAreRedirectedWithinThisServer) {
  EXPECT_EQ(ask("/sub").header.result_int(), 301u);
  EXPECT_EQ(ask("/sub").header[http::field::location], "/sub/");
  EXPECT_EQ(ask("/sub?q").header[http::field::location], "/sub/?q");
  EXPECT_EQ(ask("//sub").header[http::field::location], "/sub/");
  EXPECT_EQ(ask("http://other/sub").header[http::field::location], "/sub/");
  EXPECT_EQ(ask("/sub/").header.result_int(), 404u) << "no index there";
}

}  // namespace
}  // namespace httpd
