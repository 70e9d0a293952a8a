"""The ground every subgraph stands on: domain words, settings, database, bus, security, server, command line."""
