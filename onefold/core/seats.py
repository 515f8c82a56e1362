"""Who votes, changed one seat at a time: the roster says who should, etcd who does, and here is the next step.

The leader's node takes these steps, each of which may be the last before a crash, or be taken twice: what is to be done
is told by how things stand, never by what was done before.

The rules:

1.  One change at a time. While the roster and etcd differ on who votes, that is brought in line before anything else.
2.  A majority of the voters after a change has in common with a majority of those before it at least one voter. So
    content that was held by a majority before one change is held by one of every majority after it; but not after two.
    Therefore: a seat is given or taken only once a majority of those who would vote then has *durable* in its folder
    whatever was committed when the last change was seen (`since`); and who gets the seat has so, too.
3.  A new voter is a learner of etcd first, so that it has the log when it gets its vote. etcd has one learner at most.
4.  What etcd does not know any more has no seat: a member whose data was lost is removed by itself, and begins again.
5.  Who leads and is to leave hands over first.
6.  Who leaves is out of etcd before it is out of the roster: it ends when the roster says so, and of two voters both
    must be there for one of them to go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from onefold.core.roster import Roster, RosterMember


class Listed(msgspec.Struct, frozen=True):
    """A member of etcd: `peer_url` tells whose it is, as it has no name before its first start."""

    id: int
    peer_url: str
    learner: bool


class AddLearner(msgspec.Struct, frozen=True):
    """etcd is to know of the member of `node`."""

    node: str


class Promote(msgspec.Struct, frozen=True):
    """etcd's learner `id`, that of `node`, is to vote."""

    node: str
    id: int


class Unlist(msgspec.Struct, frozen=True):
    """etcd is to forget the member `id`, which is nobody's, or of one that leaves."""

    id: int


class Seat(msgspec.Struct, frozen=True):
    """The roster is to say that `node` votes, or that it does not."""

    node: str
    seated: bool


class Drop(msgspec.Struct, frozen=True):
    """`node` is to be taken out of the roster."""

    node: str


class HandOver(msgspec.Struct, frozen=True):
    """Another node is to lead."""


Step = AddLearner | Promote | Unlist | Seat | Drop | HandOver


def next_step(
    me: str,
    roster: Roster,
    listed: Sequence[Listed],
    peer_urls: Mapping[str, str],
    durable: Mapping[str, int],
    since: int,
) -> Step | None:
    """What `me`, who leads, has to do next; None: nothing, or nothing yet.

    `listed` are etcd's members, `peer_urls` where that of each voter listens; `durable` how far each node's folder is
    on its disk, of those that are known; `since`: the newest index when who votes was last seen to change.
    """
    if all(member.name != me for member in roster.members):
        return None  # nobody of ours, who has no say in this
    owner = {peer_urls[member.name]: member for member in roster.members if member.name in peer_urls}
    for each in listed:
        if each.peer_url not in owner:
            return Unlist(each.id)
    state = {owner[each.peer_url].name: each for each in listed}
    for member in roster.members:
        votes = member.name in state and not state[member.name].learner
        if votes != member.seated:
            return Seat(member.name, votes)
    seated = {member.name for member in roster.members if member.seated}
    leaving = [member for member in roster.members if member.leaving]
    return _departure(me, leaving, state, seated, durable, since) or _arrival(
        roster.members, state, seated, durable, since
    )


def _departure(
    me: str,
    leaving: Sequence[RosterMember],
    state: Mapping[str, Listed],
    seated: set[str],
    durable: Mapping[str, int],
    since: int,
) -> Step | None:
    for member in leaving:
        left = seated - {member.name}
        if left and (not member.seated or _enough(left, durable, since)):
            if member.name == me:
                return HandOver()
            return Unlist(state[member.name].id) if member.name in state else Drop(member.name)
    return None


def _arrival(
    members: Sequence[RosterMember],
    state: Mapping[str, Listed],
    seated: set[str],
    durable: Mapping[str, int],
    since: int,
) -> Step | None:
    wanted = [member.name for member in members if member.voter and not member.leaving and not member.seated]
    for name in wanted:
        if name in state:  # a learner, the only one that there may be
            if durable.get(name, -1) >= since and _enough({*seated, name}, durable, since):
                return Promote(name, state[name].id)
            return None
    return AddLearner(wanted[0]) if wanted else None


def _enough(voters: set[str], durable: Mapping[str, int], since: int) -> bool:
    """Whether a majority of `voters` has durable what was there at `since`."""
    return sum(durable.get(name, -1) >= since for name in voters) > len(voters) // 2
