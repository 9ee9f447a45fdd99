// Logging of the control thread, set up in one place. Workers do not log.
#pragma once

#include <spdlog/spdlog.h>

#include <filesystem>
#include <string_view>

namespace postern {

// level: trace, debug, info, warning, error, off. Empty file: standard error; otherwise appended
// to, and reopened never (rotate with copytruncate). Throws std::system_error if it cannot be
// opened.
void start_logging(std::string_view level, const std::filesystem::path& file);

}  // namespace postern
