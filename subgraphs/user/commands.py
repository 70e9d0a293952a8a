"""What a caller may do to their profile and to the members of their organisation."""

from __future__ import annotations

from uuid import UUID

from subgraphs.platform.domain import Caller, Event, Forbidden, Missing
from subgraphs.user.domain import LastOwner, Person, Profile, Stores, checked_role
from subgraphs.user.events import Events


async def update_profile(
    profile: Profile, *, caller: Caller, stores: Stores, events: Events
) -> tuple[Person, Event | None]:
    """Changes the caller's own profile; returns them, and what was published if the name changed."""
    person, tenant = caller.signed_in()
    wanted = profile.checked()
    async with stores(tenant) as store:
        changed = await store.change_profile(person, wanted)
        if changed is None:
            raise Missing("You are not known here any more.")
        told = events.profile_changed(changed, tenant) if wanted.name is not None else None
        if told:
            store.publish(told)
    return changed, told


async def change_member_role(
    id: UUID, role: str, *, caller: Caller, stores: Stores, events: Events
) -> tuple[Person, Event | None]:
    """Gives a member another role. Only owners make and unmake owners, and one always remains.

    Raises Forbidden, Missing, Invalid, LastOwner. Returns the member, and what was published if anything changed.
    """
    tenant = caller.must("user:write")
    wanted = checked_role(role)
    async with stores(tenant) as store:
        known = await store.roles_locked(id)
        if known is None:
            raise Missing("There is no such member.", field="userId")
        present, owners = known
        if "owner" in (present, wanted) and "tenant:own" not in caller.scopes:
            raise Forbidden(
                "Only an owner makes or unmakes owners.", code="scope_missing", next_step="Ask an owner to do it."
            )
        if present == "owner" and wanted != "owner" and owners == 1:
            raise LastOwner
        changed = await store.change_role(id, wanted)
        if changed is None:
            raise Missing("There is no such member.", field="userId")
        told = events.member_changed(changed, tenant) if wanted != present else None
        if told:
            store.publish(told)
    return changed, told
