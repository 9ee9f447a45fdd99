#include "control/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>

#include <cerrno>
#include <memory>
#include <string>
#include <system_error>

namespace postern {

void start_logging(std::string_view level, const std::filesystem::path& file) {
  spdlog::sink_ptr sink;
  if (file.empty()) {
    sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  } else {
    try {
      sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string());
    } catch (const spdlog::spdlog_ex& error) {
      throw std::system_error(errno != 0 ? errno : EIO, std::generic_category(), error.what());
    }
  }
  auto logger = std::make_shared<spdlog::logger>("posternd", std::move(sink));
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %n %^%l%$: %v");
  logger->set_level(spdlog::level::from_str(std::string(level)));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace postern
