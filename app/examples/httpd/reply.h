// What to answer a request: decided here, without a socket.
#pragma once

#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdint>
#include <ctime>
#include <string>
#include <variant>

#include "httpd/site.h"

namespace httpd {

namespace http = boost::beast::http;
using Request = http::request<http::empty_body>;

// A header, followed by bytes first .. first + length - 1 of a file, or by a short text.
struct Reply {
  http::response<http::empty_body> header;
  Fd file{};
  uint64_t first = 0;
  uint64_t length = 0;
  std::string text;  // when there is no file
};

// `now`: for the Date field.
Reply make_reply(const Site& site, const Request& request, time_t now);

// A page that tells what went wrong, for what is found before there is a request.
Reply make_error(http::status status, unsigned version, bool keep_alive, bool with_body,
                 time_t now);

}  // namespace httpd
