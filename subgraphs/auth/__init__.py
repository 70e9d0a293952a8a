"""Auth: who somebody is. Accounts, sessions, signing keys, and the identity every other subgraph believes.

Owns the sign-up saga (auth, tenant, user, back to auth). Publishes `auth.signup.requested.v1`, `.completed.v1`,
`.abandoned.v1`, `auth.session.started.v1`, `.revoked.v1`, `auth.refresh.reused.v1` and `auth.account.changed.v1`.
Listens to `user.member.added.v1`, `user.member.changed.v1`, `user.profile.changed.v1`, `tenant.tenant.refused.v1` and
`user.member.refused.v1`.
"""
