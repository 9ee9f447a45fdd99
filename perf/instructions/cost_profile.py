"""Where the instructions of a scenario go: callgrind's own costs, by what the functions are for."""
import collections
import re

# The first that matches a function (its object file and name) is what it is for.
PARTS = (
    ('device and its buffers', r'librte|rte_|Worker::Impl|TransmitQueue|Port::'),
    ('checksums', r'checksum|add_tail|judged_good'),
    ('parsing', r'wire::parse|parse_common|parse_tcp|parse_any'),
    ('headers written', r'build_|write_|begin_ip|describe_common|udp_common|udp_frame|udp_payload'),
    ('whose packet: flow, socket, address', r'Flow|UdpTable|InterfaceTable|dispatch|receive_some|'
     r'check_link|ListenerTable|find_socket'),
    ('next hop: route, neighbor', r'RouteTable|NeighborTable|next_hop|udp_route|find_path'),
    ('TCP: segments in', r'StackCore::tcp_segment|fast_path|on_segment|acknowledg|accept_in_order|sample_rtt|end_round|grow|'
     r'take_cumulative|cubic|slow_start|tune_receive|update_window'),
    ('TCP: segments out', r'next_segment|send_plain|send_new|new_data_length|build|select_window|append_range|'
     r'restart_after_idle'),
    ('TCP: timers and the rest', r'TcpConnection|TimerWheel'),
    ("application's rings: commands, events", r'WorkerApps|Channel|event|tell|publish|touched|'
     r'Worker::turn'),
    ("application's memory: chunks, extents", r'RxChain|ChunkPool|TxQueue|TxExtent|copy_payload|memcpy|'
     r'memmove|memset|udp_deliver'),
    ('sockets', r'StackCore|Stack::|Slab'),
)


def own_costs(path):
    """Function -> its own cost. A line behind `calls=` is the callee's."""
    costs = collections.Counter()
    function, of_call, library = None, False, ''
    for line in path.read_text(errors='replace').splitlines():
        if line.startswith('ob='):
            library = line.rsplit('/', 1)[-1]
        elif line.startswith('fn='):
            name = line[3:]
            function = f'{library} {name}' if name.startswith('0x') else name
        elif line.startswith('calls='):
            of_call = True
        elif re.match(r'[+\-*\d]', line) and function is not None:
            if not of_call:
                costs[function] += int(line.split()[-1])
            of_call = False
    return costs


def part_of(function):
    return next((part for part, names in PARTS if re.search(names, function)), 'else')


def short(function):
    """The name alone: no arguments, no templates, no namespace of ours."""
    function = re.sub(r'\(anonymous namespace\)::', '', function)
    function = function.split('(')[0].split('<')[0]
    return re.sub(r'^.*\b(?=postern::)', '', function).replace('postern::', '').strip()


def profile(path, units):
    """[(part, instructions a unit, its three largest functions)], the largest first."""
    parts, members = collections.Counter(), collections.defaultdict(collections.Counter)
    for function, cost in own_costs(path).items():
        part = part_of(function)
        parts[part] += cost
        members[part][short(function)] += cost
    return [(part, cost / units, [(name, n / units) for name, n in members[part].most_common(3)])
            for part, cost in parts.most_common()]
