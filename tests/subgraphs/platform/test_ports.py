"""A taken port: the next one, or who holds it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from subgraphs.platform import ports


def test_the_next_free_port_is_taken_unless_it_was_fixed() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        held = holder.getsockname()[1]
        assert ports.choose("LINKFLOW_PORT", held, fixed=False) > held
        with pytest.raises(ports.PortTaken) as refused:
            ports.choose("LINKFLOW_PORT", held, fixed=True)
        assert f"pid {os.getpid()}" in refused.value.message
        assert "LINKFLOW_PORT" in str(refused.value.next_step)
    assert ports.choose("LINKFLOW_PORT", held, fixed=True) == held


def test_a_port_is_not_given_twice() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert ports.choose("LINKFLOW_PORT", port, fixed=False, taken=[port]) != port


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be an ordinary user for a moment")
def test_a_port_of_the_system_is_not_said_to_be_taken() -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
        pytest.skip("every user may have every port here")
    os.seteuid(65534)
    try:
        with pytest.raises(ports.PortTaken) as refused:
            ports.choose("LINKFLOW_PORT", 81, fixed=True)
    finally:
        os.seteuid(0)
    assert refused.value.code == "port_forbidden"
