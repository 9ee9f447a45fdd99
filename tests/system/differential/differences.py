"""Where Postern is meant to differ from the kernel, and why. Anything else that differs is a fault.

Each entry: an expression for "state / call" or "sequence / name", what must be found in the results
of the kernel and of Postern (expressions, None for anything), and the reason.
"""

DIFFERENCES = [
    (r".* / recv errqueue", r"EAGAIN", r"ENOTSUP",
     "there is no error queue: MSG_ERRQUEUE is refused rather than for ever empty"),
    (r".* / (set unknown ip option|get unknown level|get nodelay)", r"ENOTSUP|ENOPROTOOPT",
     r"ENOPROTOOPT",
     "an option that is not served is ENOPROTOOPT at every level, as POSIX has it"),
    (r".* / bind foreign address", r"EADDRNOTAVAIL", r"EINVAL",
     "two errors at once, a bound socket and a foreign address: the state is looked at first"),
    (r"udp_.* / connect port 0", r"^\['0'", r"EINVAL",
     "the kernel associates with port 0 and then refuses to send there"),
    (r"(udp_)?(fresh|bound|bound_to_any|bound_with_datagram|bound_with_empty_datagram|dissolved) / "
     r"shutdown.*", r"ENOTCONN", r"ENOTCONN",
     "the kernel shuts the socket down although it refuses to; a refused call changes nothing here"),
    (r"udp_shut_for_reading / .*", r"EAGAIN", r"0 b''",
     "a non-blocking receive of a socket that is shut for reading tells the end, as a blocking one "
     "does and as it does for streams"),
    (r"(listening|listening_with_one_pending|listener_shut|connecting) / shutdown.*", r"IN\|OUT\|RDHUP",
     r"'OUT\|(ERR\|)?HUP'",
     "a second shutdown is refused by both; here it changes nothing"),
    (r"peer_has_shut.* / shutdown twice", r"'0', 'ENOTCONN'", r"'0', '0'",
     "as below: the first shutdown ends the connection"),
    (r"both_have_shut / (shutdown.*|getpeername|bind.*)", None, None,
     "the kernel forgets the peer as soon as the connection is in TIME-WAIT: shutdown and "
     "getpeername say ENOTCONN there, and bind works again; here the peer stays known"),
    (r"peer_has_reset.* / bind.*", r"^\['(0|EADDRINUSE|EADDRNOTAVAIL)'", r"^\['EINVAL'",
     "the kernel binds a socket anew when its connection was reset; here that takes a new connect"),
    (r"(listen.*|accepted) / connect nowhere", r"^\['0'", r"ENOTSUP",
     "AF_UNSPEC ends neither a listener nor an accepted connection: close it"),
    (r"(connecting|refused|refused_and_told) / getsockname", r"SUBJECT:ephemeral", r"0\.0\.0\.0:0",
     "the worker that will own the connection chooses the port, when the connect reaches it"),
    (r"sequence / connected_udp_hears_its_peer_only", r"^\[\"6 b'friend'", r"stranger.*friend",
     "a datagram that comes before the worker has read the connect is still delivered: connect of a "
     "datagram socket does not wait for it"),
    (r"listener_shut / .*connect.*", r"EINPROGRESS|EINVAL|EAFNOSUPPORT|ECONNREFUSED", r"EISCONN",
     "a listener that was shut stays a listener: it can listen again, not connect"),
]
