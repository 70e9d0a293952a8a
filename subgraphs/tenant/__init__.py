"""Tenant: the customers, each a world of its own.

Makes a tenant when Auth asks (`auth.signup.requested.v1`) and takes it back when the sign-up is abandoned. Publishes
`tenant.tenant.provisioned.v1`, `.refused.v1`, `.renamed.v1` and `.withdrawn.v1`.
"""
