"""User: people, the organisation they work in, and the role they have there.

Makes the first person, organisation and membership when Tenant has made the tenant
(`tenant.tenant.provisioned.v1`), and takes them back when the sign-up is abandoned (`auth.signup.abandoned.v1`).
Publishes `user.member.added.v1`, `user.member.refused.v1`, `user.member.changed.v1`, `user.profile.changed.v1`.
"""
