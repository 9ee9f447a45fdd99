// From a request's target to a path below the served directory.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace httpd {

// "/a%20b/c?x" -> "a b/c"; "/" -> "". Takes origin-form and absolute-form (RFC 9112 3.2), decodes
// percent escapes (RFC 3986 2.1) once, removes the query, "." and empty segments, and resolves
// "..". nullopt: a broken escape, a zero byte, or a ".." that leaves the top. A trailing '/' is
// kept.
std::optional<std::string> path_of_target(std::string_view target);

// The path and query of either form as the client wrote them: "http://host/a?b" -> "/a?b"; empty
// when it is neither.
std::string_view origin_form(std::string_view target);

// By the name's extension; application/octet-stream when it tells nothing.
std::string_view content_type(std::string_view path);

}  // namespace httpd
