"""A host as scanners and neighbors see it: addresses that are taken, nmap, floods of ARP."""
import re
import socket
import time

from cases_malformed import drop_counts
from harness import LINUX, POSTERN, WIRE, case, note, receive_exactly, run, wait_until

PROBED = {"arp_probes": 3}


def state(world):
    return world.show("link")[0]["address_states"][f"{POSTERN}/24"]


# proves: 5227-1
@case(seconds=60, needs=("arping",))
def an_address_is_asked_for_before_it_is_used(world):
    world.start(neighbors=PROBED)
    assert state(world) == "tentative"
    silence = run("arping", "-c", "2", "-w", "1", "-I", WIRE, POSTERN, check=False)
    assert "Received 0" in silence, silence
    begin = time.monotonic()
    wait_until(lambda: state(world) == "preferred", 10, "nobody has it")
    note(f"ours after {time.monotonic() - begin:.1f} s")
    assert "3 received" in run("ping", "-n", "-c", "3", "-i", "0.2", POSTERN)


# proves: 5227-5
@case(seconds=60, needs=("arping",))
def an_address_that_somebody_has_is_left_to_them(world):
    """The Linux end has it on another interface, and answers for it."""
    run("ip", "addr", "add", f"{POSTERN}/32", "dev", "lo")
    world.start(neighbors=PROBED)
    wait_until(lambda: state(world) == "duplicate", 10, "the conflict is seen")
    assert drop_counts(world)["arp_conflict"] >= 1
    assert "(duplicate)" in world.cli("link")
    run("ip", "addr", "del", f"{POSTERN}/32", "dev", "lo")
    silence = run("arping", "-c", "2", "-w", "2", "-I", WIRE, POSTERN, check=False)
    assert "Received 0" in silence, silence


@case(seconds=120, needs=("nmap",))
def nmap_sees_what_is_there(world):
    """Open is open, closed is closed, and a scan does not disturb who is served."""
    world.start()
    world.serve_echo()
    with world.connect(7) as sock:
        text = run("nmap", "-n", "-Pn", "-sS", "-p", "1-1000", "--max-rate", "800", POSTERN, timeout=60)
        assert re.search(r"^7/tcp +open", text, re.M), text
        assert re.search(r"999 closed", text), text
        text = run("nmap", "-n", "-Pn", "-sU", "-p", "7,9,11", "--max-rate", "50", POSTERN, timeout=60)
        assert re.search(r"^9/udp +closed", text, re.M), text
        assert not re.search(r"^7/udp +closed", text, re.M), text
        text = run("nmap", "-n", "-Pn", "-sO", "-p", "1,6,17,47,89", POSTERN, timeout=60)
        assert re.search(r"^6 +open", text, re.M), text
        for kind in ("-sN", "-sF", "-sX", "-sM"):  # segments that no peer sends honestly
            run("nmap", "-n", "-Pn", kind, "-p", "1-100", "--max-rate", "800", "--max-retries", "1",
                POSTERN, timeout=60)
        sock.sendall(b"still served")
        assert receive_exactly(sock, 12) == b"still served"
    drops = drop_counts(world)
    assert drops["tcp_no_socket"] >= 999 and drops["tcp_bad_flags"] >= 100, drops


@case(seconds=90, needs=("arping",))
def a_flood_of_arp_costs_nobody_the_neighbor(world):
    """Requests of a hundred thousand strangers: who is served stays so, the table keeps its size."""
    world.start(neighbors={"entries": 64})
    world.serve_echo()
    postern = bytes.fromhex(world.show("link")[0]["mac"].replace(":", ""))
    with world.connect(7) as sock, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((WIRE, 0))
        for i in range(100_000):
            mac = b"\x02\x66" + i.to_bytes(4, "big")
            ip = bytes([192, 0, 2, 3 + i % 250])
            raw.send(postern + mac + b"\x08\x06" + b"\0\1\x08\0\6\4\0\1" + mac + ip + bytes(6)
                     + socket.inet_aton(POSTERN))
            if i % 10_000 == 0:
                sock.sendall(b"12345678")
                assert receive_exactly(sock, 8) == b"12345678"
    assert len(world.show("neigh")) <= 64
    assert any(row["address"] == LINUX for row in world.show("neigh")), "the one in use is still known"
