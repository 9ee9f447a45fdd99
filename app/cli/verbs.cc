#include "cli/verbs.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <iomanip>
#include <iostream>
#include <utility>

#include "cli/doctor.h"
#include "cli/route.h"
#include "cli/run.h"
#include "cli/show.h"
#include "control/config.h"
#include "control/control_client.h"
#include "control/units.h"

namespace postern {
namespace {

namespace json = boost::json;

using Show = void (*)(const json::value& result, std::ostream& out);

int print(const Arguments& arguments, const json::value& result, Show show, std::ostream& out) {
  if (arguments.json) {
    out << json::serialize(result) << '\n';
  } else {
    show(result, out);
  }
  return 0;
}

json::value ask(const Arguments& arguments, json::object request) {
  ControlClient client(arguments.socket);
  request["verb"] = arguments.verb;
  return client.call(request);
}

// Tables come page by page, so that neither side holds its breath over a million rows.
json::array ask_pages(const Arguments& arguments) {
  ControlClient client(arguments.socket);
  json::object request{{"verb", arguments.verb}};
  json::array rows;
  for (;;) {
    json::value page = client.call(request);
    for (json::value& row : page.at("rows").as_array()) rows.push_back(std::move(row));
    const json::value& next = page.at("next");
    if (next.is_null()) return rows;
    request["worker"] = next.at("worker");
    request["cursor"] = next.at("cursor");
  }
}

int run_ss(const Arguments& arguments, std::ostream& out) {
  return print(arguments, ask_pages(arguments), show_ss, out);
}

int run_neigh(const Arguments& arguments, std::ostream& out) {
  return print(arguments, ask_pages(arguments), show_neigh, out);
}

int run_link(const Arguments& arguments, std::ostream& out) {
  return print(arguments, ask(arguments, {}), show_link, out);
}

int run_exception(const Arguments& arguments, std::ostream& out) {
  return print(arguments, ask(arguments, {}), show_exception, out);
}

int run_drops(const Arguments& arguments, std::ostream& out) {
  return print(arguments, ask(arguments, {{"all", arguments.all}}), show_drops, out);
}

int run_stats(const Arguments& arguments, std::ostream& out) {
  if (!arguments.stages) return print(arguments, ask(arguments, {}), show_stats, out);
  ControlClient client(arguments.socket);
  return print(arguments, client.call(json::object{{"verb", "stages"}}), show_stages, out);
}

int run_metrics(const Arguments& arguments, std::ostream& out) {
  const json::value text = ask(arguments, {});
  if (arguments.json) {
    out << json::serialize(text) << '\n';
  } else {
    out << std::string_view(text.as_string());
  }
  return 0;
}

int run_version(const Arguments& arguments, std::ostream& out) {
  json::object versions{{"postern", POSTERN_VERSION}, {"posternd", nullptr}};
  try {
    versions["posternd"] = ask(arguments, {});
  } catch (const ControlError& error) {
    if (!arguments.json) out << "postern " << POSTERN_VERSION << '\n';
    if (!arguments.json) out << error.what() << '\n';
    if (arguments.json) out << json::serialize(versions) << '\n';
    return 0;  // the command's own version is what was asked for first
  }
  if (!arguments.json) out << "postern " << POSTERN_VERSION << '\n';
  const auto show = [](const json::value& v, std::ostream& o) {
    show_version(v.at("posternd"), o);
  };
  return print(arguments, versions, show, out);
}

void show_checked(const json::value& result, std::ostream& out) {
  const json::object& o = result.as_object();
  out << std::string_view(o.at("file").as_string()) << ": ok: " << o.at("ports") << " port(s), "
      << o.at("workers") << " worker(s), " << o.at("access") << " access entr"
      << (o.at("access").to_number<uint64_t>() == 1 ? "y" : "ies") << '\n';
}

int run_check(const Arguments& arguments, std::ostream& out) {
  if (arguments.operands.empty()) {
    std::cerr << "postern: check needs a file; usage: postern check FILE\n";
    return 2;
  }
  const std::string& file = arguments.operands.front();
  try {
    const Config config = load_config(file);
    return print(arguments,
                 json::object{{"file", file},
                              {"ok", true},
                              {"ports", config.ports.size()},
                              {"workers", config.cores.size()},
                              {"access", config.access.size()}},
                 show_checked, out);
  } catch (const ConfigError& error) {
    if (arguments.json) {
      out << json::serialize(json::object{{"file", file}, {"ok", false}, {"error", error.what()}})
          << '\n';
    } else {
      std::cerr << error.what() << '\n';
    }
    return 2;
  }
}

int run_help(const Arguments& arguments, std::ostream& out);

constexpr Verb kVerbs[] = {
    {"check", "check FILE", "check a configuration without starting anything",
     "Reads FILE as posternd would. A mistake is told as file:line:column: what; what would be\n"
     "right, with exit status 2.\n",
     1, false, false, run_check},
    {"doctor", "doctor [-c FILE]", "what of this machine is in Postern's way, and the remedy",
     "Looks at processor, clock, huge pages, IOMMU, driver binding, NUMA nodes, isolation, "
     "permissions,\n"
     "queues, and the offloads of the interface at the other end of a veth. Needs no daemon. -c "
     "names\n"
     "the configuration, default /etc/postern/postern.yaml if it exists. Exit status 1: there is "
     "a\n"
     "problem.\n",
     0, false, false, run_doctor, true},
    {"ss", "ss", "sockets of all applications",
     "One line for each socket: protocol, state, bytes that the application has not read (Recv-Q)\n"
     "and that the peer has not acknowledged (Send-Q; of a listener: its backlog limit), "
     "addresses,\n"
     "worker, and the application. An orphan is a connection that its application has closed and\n"
     "that still has data in flight or waits out TIME-WAIT. A listener stands once for each "
     "worker.\n",
     0, false, false, run_ss},
    {"link", "link", "ports: device, addresses, offloads, traffic",
     "missed: the device had no room in its queue. without buffer: the packet pool was empty.\n", 0,
     false, false, run_link},
    {"run", "run PROGRAM", "start a program whose sockets Postern serves",
     "postern run [--kernel LIST] [--both] [--socket PATH] [--] PROGRAM [ARGUMENT]...\n\n"
     "The program is not changed: a library is loaded before libc (LD_PRELOAD) and gives its TCP "
     "and\n"
     "UDP sockets to posternd. Sockets of loopback addresses and of other families stay\n"
     "the kernel's. Programs that are statically linked, set-user-ID or written in Go are not\n"
     "reached. The library attaches as the user that runs the program.\n\n"
     "  --kernel LIST  addresses and networks that stay the kernel's too: 192.0.2.1,10.0.0.0/8\n"
     "  --both         a TCP listener on a wildcard address listens on the kernel's side as well\n"
     "  --socket PATH  posternd's socket for applications; default $POSTERN_SOCKET, else\n"
     "                 /run/postern/postern.sock\n",
     SIZE_MAX, false, true, run_program},
    {"neigh", "neigh", "neighbors that are resolved, or being asked for, of both families",
     "Each worker keeps its own table.\n", 0, false, false, run_neigh},
    {"route", "route [show]", "routes: show, get, add, del, load",
     "route [show]           all routes, in the order of their destinations\n"
     "route get ADDRESS      those that packets to it take; of several, a flow keeps to one\n"
     "route add ROUTE        ROUTE: [blackhole|unreachable] NETWORK|default [via ADDRESS]\n"
     "                       [port NAME] [metric N]; equal metrics share the flows\n"
     "route del ROUTE        what is left out may be anything, if only one route is meant\n"
     "route load FILE        adds a route a line\n\n"
     "Changes are in use by all workers when the command ends, also by open connections; they "
     "last\n"
     "until posternd ends.\n",
     12, false, false, run_route},
    {"exception", "exception", "the kernel beside Postern: taps, what they may have, packets",
     "To kernel: packets that no socket wants and the port's policy allows. From kernel: what it "
     "sent\n"
     "out of the port, and of that refused: what Postern says itself, as answers to ARP. Lost: "
     "packets\n"
     "that the tap did not take. What the rate or the queue kept back is in postern drops.\n",
     0, false, false, run_exception},
    {"drops", "drops [-a]", "packets dropped, by reason",
     "Shows the reasons that occurred; -a shows all. A reason has the same name here, in the "
     "metric\n"
     "postern_drops_total and in the source.\n",
     0, true, false, run_drops},
    {"stats", "stats [--stages]", "counters of the workers, memory of the applications",
     "With more than one worker, each has its column. --stages shows instead what a worker does "
     "with\n"
     "its time: the share that it is busy, cycles of each step of its loop for a packet, measured "
     "in\n"
     "one turn of 64, and the bursts that it received by size. A packet is one that came in or "
     "went\n"
     "out, whichever were more.\n",
     0, false, false, run_stats},
    {"metrics", "metrics", "all counters in the text format of Prometheus",
     "For a textfile collector or a look. Names are postern_*_total.\n", 0, false, false,
     run_metrics},
    {"version", "version", "versions of this command and of the running daemon",
     "Succeeds without a daemon too.\n", 0, false, false, run_version},
    {"help", "help [VERB]", "this list, or more about a verb", "", 1, false, false, run_help},
};

int run_help(const Arguments& arguments, std::ostream& out) {
  if (arguments.operands.empty()) {
    out << "usage: postern VERB [-j] [--socket PATH]\n\n";
    size_t width = 0;
    for (const Verb& verb : kVerbs) width = std::max(width, verb.usage.size());
    for (const Verb& verb : kVerbs) {
      out << "  " << std::left << std::setw(static_cast<int>(width) + 2) << verb.usage
          << verb.summary << '\n';
    }
    out << "\n  -j             JSON instead of a table\n"
           "  --socket PATH  posternd's control socket; default /run/postern/control.sock\n"
           "\nExit status: 0 done, 1 the daemon cannot be asked or refused, 2 bad use or bad "
           "configuration.\n";
    return 0;
  }
  const Verb* verb = find_verb(arguments.operands.front());
  if (verb == nullptr) {
    std::cerr << "postern: there is no verb \"" << arguments.operands.front()
              << "\"; see postern help\n";
    return 2;
  }
  out << "usage: postern " << verb->usage << (verb->takes_program ? "" : " [-j] [--socket PATH]")
      << "\n\n"
      << verb->summary << "\n\n"
      << verb->help;
  return 0;
}

}  // namespace

std::span<const Verb> verbs() { return kVerbs; }

const Verb* find_verb(std::string_view name) {
  const auto* found = std::find_if(std::begin(kVerbs), std::end(kVerbs),
                                   [&](const Verb& verb) { return verb.name == name; });
  return found == std::end(kVerbs) ? nullptr : found;
}

}  // namespace postern
