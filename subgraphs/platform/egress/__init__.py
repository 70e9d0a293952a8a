"""The one way out: an HTTP client that checks where it is sent.

Workflows name the addresses they call, so each call passes a guard: names are resolved here, every address is compared
with the special-purpose registries of IANA, and the address that was checked is the one that is dialled. Redirects go
through the same guard. An operator may open single private targets (`LINKFLOW_EGRESS_ALLOW=host:port,…`).
"""

from subgraphs.platform.egress.addresses import Guard, Resolver, public
from subgraphs.platform.egress.client import Answer, Egress
from subgraphs.platform.egress.faults import EgressFailed, EgressRefused

__all__ = ["Answer", "Egress", "EgressFailed", "EgressRefused", "Guard", "Resolver", "public"]
