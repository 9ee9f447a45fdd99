#include "httpd/reply.h"

#include <algorithm>
#include <utility>

#include "httpd/range.h"
#include "httpd/target.h"

namespace httpd {
namespace {

constexpr const char* kServer = "postern-httpd";

std::string_view field(const Request& request, http::field name) {
  const auto value = request[name];
  return {value.data(), value.size()};
}

Reply make_header(http::status status, unsigned version, bool keep_alive, time_t now) {
  Reply reply;
  reply.header.result(status);
  reply.header.version(version);
  reply.header.set(http::field::server, kServer);
  reply.header.set(http::field::date, format_date(now));
  reply.header.keep_alive(keep_alive);
  return reply;
}

Reply make_redirect(const Request& request, bool with_body, time_t now) {
  Reply reply = make_error(http::status::moved_permanently, request.version(), request.keep_alive(),
                           with_body, now);
  const auto target = request.target();
  std::string location(origin_form({target.data(), target.size()}));
  location.insert(std::min(location.find_first_of("?#"), location.size()), 1, '/');
  // "//host/" would name another server.
  location.erase(0, location.find_first_not_of('/') - 1);
  reply.header.set(http::field::location, location);
  return reply;
}

http::status status_of(Found::Kind kind) {
  switch (kind) {
    case Found::Kind::missing:
      return http::status::not_found;
    case Found::Kind::forbidden:
      return http::status::forbidden;
    default:
      return http::status::internal_server_error;
  }
}

Reply make_unsatisfiable(const Request& request, const Found& found, bool with_body, time_t now) {
  Reply reply = make_error(http::status::range_not_satisfiable, request.version(),
                           request.keep_alive(), with_body, now);
  reply.header.set(http::field::content_range, "bytes */" + std::to_string(found.size));
  return reply;
}

Reply make_file(const Request& request, const std::string& path, Found found, bool with_body,
                time_t now) {
  Range range{Range::Kind::whole, 0, found.size};
  // RFC 9110 14.2: Range is for GET only.
  if (with_body && if_range_holds(field(request, http::field::if_range), found.validator)) {
    range = parse_range(field(request, http::field::range), found.size);
  }
  if (range.kind == Range::Kind::unsatisfiable) {
    return make_unsatisfiable(request, found, with_body, now);
  }
  const bool partial = range.kind == Range::Kind::partial;
  Reply reply = make_header(partial ? http::status::partial_content : http::status::ok,
                            request.version(), request.keep_alive(), now);
  reply.header.set(http::field::content_type,
                   content_type(path.empty() || path.ends_with('/') ? "index.html" : path));
  reply.header.set(http::field::accept_ranges, "bytes");
  reply.header.set(http::field::etag, found.validator.etag);
  reply.header.set(http::field::last_modified, format_date(found.validator.modified));
  reply.header.content_length(range.length);
  if (partial) {
    reply.header.set(http::field::content_range,
                     "bytes " + std::to_string(range.first) + '-' +
                         std::to_string(range.first + range.length - 1) + '/' +
                         std::to_string(found.size));
  }
  if (with_body) {
    reply.file = std::move(found.fd);
    reply.first = range.first;
    reply.length = range.length;
  }
  return reply;
}

Reply make_not_modified(const Request& request, const Found& found, time_t now) {
  Reply reply =
      make_header(http::status::not_modified, request.version(), request.keep_alive(), now);
  reply.header.set(http::field::etag, found.validator.etag);
  reply.header.set(http::field::last_modified, format_date(found.validator.modified));
  return reply;
}

}  // namespace

Reply make_error(http::status status, unsigned version, bool keep_alive, bool with_body,
                 time_t now) {
  Reply reply = make_header(status, version, keep_alive, now);
  const auto reason = http::obsolete_reason(status);
  std::string text = std::to_string(static_cast<unsigned>(status)) + ' ' +
                     std::string(reason.data(), reason.size()) + '\n';
  reply.header.set(http::field::content_type, "text/plain; charset=utf-8");
  reply.header.content_length(text.size());
  if (with_body) reply.text = std::move(text);
  return reply;
}

Reply make_reply(const Site& site, const Request& request, time_t now) {
  const bool get = request.method() == http::verb::get;
  const auto error = [&](http::status status) {
    return make_error(status, request.version(), request.keep_alive(),
                      request.method() != http::verb::head, now);
  };
  if (!get && request.method() != http::verb::head) {
    Reply reply = error(http::status::method_not_allowed);
    reply.header.set(http::field::allow, "GET, HEAD");
    return reply;
  }
  const auto target = request.target();
  const auto path = path_of_target({target.data(), target.size()});
  if (!path) return error(http::status::bad_request);
  Found found = site.open(*path);
  if (found.kind == Found::Kind::directory) return make_redirect(request, get, now);
  if (found.kind != Found::Kind::file) return error(status_of(found.kind));
  if (is_not_modified(field(request, http::field::if_none_match),
                      field(request, http::field::if_modified_since), found.validator)) {
    return make_not_modified(request, found, now);
  }
  return make_file(request, *path, std::move(found), get, now);
}

}  // namespace httpd
