"""Everything LinkFlow knows and does: one folder per domain, with `platform` and `engine` beneath them."""
