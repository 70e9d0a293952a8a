"""Runs code nobody trusts: WebAssembly guests in locked worker processes behind one unix socket.

An island: it imports nothing of LinkFlow and nothing of LinkFlow imports it; the protocol/ folder is all they share.
"""
