// What the daemon answers, as text for people. Each takes the JSON that `-j` prints.
#pragma once

#include <boost/json/value.hpp>
#include <ostream>

namespace postern {

void show_ss(const boost::json::value& sockets, std::ostream& out);
void show_link(const boost::json::value& ports, std::ostream& out);
void show_neigh(const boost::json::value& neighbors, std::ostream& out);
void show_exception(const boost::json::value& ports, std::ostream& out);
void show_drops(const boost::json::value& drops, std::ostream& out);
void show_stats(const boost::json::value& stats, std::ostream& out);
void show_stages(const boost::json::value& workers, std::ostream& out);
void show_version(const boost::json::value& version, std::ostream& out);

}  // namespace postern
