"""A taken port: the next one, or who holds it."""

from __future__ import annotations

import os
import socket

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
