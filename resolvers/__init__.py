"""The GraphQL toolkit each subgraph schema is written with; it knows Strawberry and no subgraph."""
