"""The commands that make a cluster of several machines: who belongs to it, and whose tokens its API honours."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder to keep identical; made if it is not there.")]
Node = Annotated[
    Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
    typer.Option("--config", metavar="FILE", help="This node's settings. [default: of the node here]"),
]
Name = Annotated[str, typer.Option("--name", help="This node's name. [default: the machine's]")]
State = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--state", metavar="DIR", help="For all else. [default: .onefold/NAME beside the folder]"),
]
Other = Annotated[str, typer.Argument(metavar="NODE", help="The node's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
TokenName = Annotated[str, typer.Argument(metavar="NAME", help="What it is for.")]

token_app = typer.Typer(help="Tokens for the API and the web page.", no_args_is_help=True)


def init(
    directory: Folder,
    listen: Annotated[
        str,
        typer.Option("--listen", metavar="ADDRESS", help="Where the others reach this machine: host, or host:port."),
    ],
    name: Name = "",
    state: State = None,
    writers: Annotated[
        str, typer.Option("--writers", metavar="leader|any", help="Whose edits are replicated.")
    ] = "leader",
) -> None:
    """Begin a cluster of one, which other machines can join.

    Example: onefold init /srv/www --name web1 --listen 10.0.0.1
    """
    from onefold.errors import BadSetting
    from onefold.found import init as make

    if writers not in ("leader", "any"):
        raise BadSetting(f"--writers is {writers!r}", "give leader or any")
    begun = make(directory, name or _machine(), listen, state, writers)
    config = begun.config
    typer.echo(f"{config.folder} begins the cluster {config.folder_id}, with {config.name} at {config.listen}.")
    if begun.secret:
        typer.echo(f"\nThe administrator's token, shown this once (it is kept in {config.state / 'token'}):\n")
        typer.echo(f"  {begun.secret}\n")
    typer.echo(f"Run it:              onefold run --config {config.path}")
    typer.echo(f"Let others join:     onefold invite --config {config.path}")


def invite(
    replica: Annotated[bool, typer.Option("--replica", help="It holds the folder, without a vote.")] = False,
    name: Annotated[str, typer.Option("--name", help="Only a node of this name may use it.")] = "",
    expires: Annotated[str, typer.Option("--expires", metavar="TIME", help="As in 30m, 1h, 2d.")] = "1h",
    config: Node = None,
) -> None:
    """Print an invitation: a text with which one other machine can join, once.

    Example: onefold invite --expires 30m
    """
    from onefold import manage
    from onefold.find import find

    invited = manage.invite(find(config, None), replica, name, expires)
    typer.echo(invited.ticket)
    if sys.stdout.isatty():
        typer.echo(f"\nOn the other machine: onefold join {invited.ticket} DIR --name {name or 'NAME'}", err=True)
    _warn(invited.warning)


def join(
    invitation: Annotated[str, typer.Argument(metavar="INVITATION", help="What `onefold invite` printed.")],
    directory: Folder,
    name: Name = "",
    listen: Annotated[
        str,
        typer.Option(
            "--listen", metavar="ADDRESS", help="Where the others reach this machine. [default: as they see it]"
        ),
    ] = "",
    state: State = None,
) -> None:
    """Make this machine a node of the cluster that the invitation is of. Run it again if it was interrupted.

    Example: onefold join onefold-join-… /srv/www --name web2
    """
    from onefold.join import join as enter

    config = enter(invitation, directory, name or _machine(), listen, state)
    typer.echo(f"{config.name} has joined the cluster {config.folder_id}; the others reach it at {config.listen}.")
    typer.echo(f"Run it:  onefold run --config {config.path}")


def leave(
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove its state directory, strays and keys included.")
    ] = False,
    config: Node = None,
) -> None:
    """Take this node out of its cluster, and stop it. The folder stays as it is."""
    from onefold import manage
    from onefold.find import find

    node = find(config, None)
    kept = manage.leave(node, purge)
    typer.echo(f"{node.name} has left the cluster {node.folder_id}; {kept}")


def remove(
    node: Other,
    force: Annotated[bool, typer.Option("--force", help="Though it runs.")] = False,
    config: Node = None,
) -> None:
    """Take a dead node out of the cluster. It can come back only by another invitation."""
    from onefold import manage
    from onefold.find import find

    here = find(config, None)
    manage.remove(here, node, force)
    typer.echo(f"{node} is out of the cluster")
    _warn(manage.warning(here))


def revoke(node: Other, config: Node = None) -> None:
    """Let a node in nowhere any more, from now on, and take it out: its key was stolen, say."""
    from onefold import manage
    from onefold.find import find

    here = find(config, None)
    manage.revoke(here, node)
    typer.echo(f"{node} is let in nowhere any more, and out of the cluster")
    _warn(manage.warning(here))


def members(as_json: AsJson = False, config: Node = None) -> None:
    """All nodes: where they are, and what they are now."""
    from onefold import manage
    from onefold.find import find

    found = manage.listed(find(config, None))
    if as_json:
        typer.echo(json.dumps({"members": found}))
        return
    wide = max(len(str(each["name"])) for each in found)
    for each in found:
        notes = ["joining"] if each["voter"] and not each["seated"] else []
        notes += ["leaving"] if each["leaving"] else []
        note = f" ({', '.join(notes)})" if notes else ""
        typer.echo(f"{each['name']:<{wide}}  {each['role']}{note}  {each['address']}")


@token_app.command("add")
def token_add(
    name: TokenName,
    role: Annotated[str, typer.Option("--role", metavar="read|write|admin", help="What it allows.")] = "read",
    config: Node = None,
) -> None:
    """Make a token, and print its secret, which is shown this once."""
    from onefold import manage
    from onefold.find import find

    typer.echo(manage.add_token(find(config, None), name, role))


@token_app.command("list")
def token_list(as_json: AsJson = False, config: Node = None) -> None:
    """The tokens there are: what each is for, and what it allows."""
    from onefold import manage
    from onefold.find import find

    found = manage.tokens(find(config, None))
    if as_json:
        typer.echo(json.dumps({"tokens": found}))
        return
    for each in found:
        typer.echo(f"{each['role']:<5}  {each['name']}")


@token_app.command("drop")
def token_drop(name: TokenName, config: Node = None) -> None:
    """Drop a token: no node honours it any more."""
    from onefold import manage
    from onefold.find import find

    manage.drop_token(find(config, None), name)
    typer.echo(f"the token {name} is dropped")


def register(app: typer.Typer) -> None:
    """Give `app` these commands."""
    for command in (init, invite, join, leave, remove, revoke, members):
        app.command()(command)
    app.add_typer(token_app, name="token")


def _machine() -> str:
    """The machine's name, as far as it can be a node's."""
    return socket.gethostname().partition(".")[0]


def _warn(text: str) -> None:
    if text:
        typer.echo(f"onefold: {text}", err=True)
