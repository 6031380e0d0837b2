"""``fedparty``: the one command, and the one place where errors reach a person.

Owns the list of commands, their lazy loading, and exit codes. Owns no command.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Mapping, Sequence

import click

from fedparty import __version__
from fedparty.errors import FedpartyError, NotAvailableError

INTERRUPTED = 130
_COLLECT_AFTER = 50_000
"""So many new objects; the interpreter's own 700 are for programs that last."""

COMMANDS: Mapping[str, tuple[str, str]] = {
    "generate": ("fedparty.cli.generate:generate", "Write the signed bundle of every party from parties.conf."),
    "deploy": ("fedparty.cli.deploy:deploy", "Put bundles in place, start them, and prove that they work."),
    "status": ("fedparty.cli.deploy:status", "Show every service as it is now."),
    "logs": ("fedparty.cli.deploy:logs", "Show the log of a party's services."),
    "verify": ("fedparty.cli.deploy:verify", "Prove by the toy job that running parties can compute together."),
    "login": ("fedparty.cli.login:login", "Log in to a party on another machine, its CA pinned."),
    "profile": ("fedparty.cli.profile:profile", "List, choose and remove the parties that you logged in to."),
    "job": ("fedparty.cli.job:job", "Submit, watch, stop and keep jobs."),
    "party": ("fedparty.cli.party:party", "What a party is, what it offers to jobs, and what it allows."),
    "user": ("fedparty.cli.user:user", "Users of a party: their roles, tokens and keys."),
    "audit": ("fedparty.cli.audit:audit", "Read a party's audit log, and check that nobody changed it."),
    "lab": ("fedparty.cli.lab:lab", "A federation on this machine to try things in, the real security switched on."),
    "console": ("fedparty.cli.shell.command:console", "Work with a party in a dialogue; knows FLARE's commands, too."),
    "backup": ("fedparty.cli.backup:backup", "Write all that a party must not lose into one file."),
    "restore": ("fedparty.cli.backup:restore", "Put a backup back, start the party and verify it."),
    "doctor": ("fedparty.cli.doctor:doctor", "Find what is broken between running parties, and name the remedy."),
    "images": ("fedparty.cli.images:images", "Build container images, and bring them where no registry is."),
    "component": ("fedparty.cli.component:component", "List and describe what tasks can be made of."),
    "table": ("fedparty.cli.table:table", "Bind a site's CSV or Parquet files to names for tasks."),
    "pki": ("fedparty.cli.pki:pki", "List, renew and revoke certificates."),
    "bundle": ("fedparty.cli.bundle:bundle", "Check a bundle before it is started."),
    "serve": ("fedparty.cli.serve:serve", "Run services of a party, in its home."),
    "health": ("fedparty.cli.health:health", "Tell whether the services of a party are healthy, in its home."),
    "probe": ("fedparty.cli.probe:probe", "Tell what a party sees of itself and of the others, in its home."),
    "migrate": ("fedparty.cli.migrate:migrate", "Bring a party's database to this release's schema, in its home."),
}
"""Command: (where it is, what ``fedparty --help`` says)."""

LATER: Mapping[str, str] = {
    "board": "the board",
    "storage": "storage",
}
"""Commands of later releases: what each is about."""

_OF_DEPLOY = frozenset({"status", "logs", "verify", "doctor", "images", "backup", "restore", *LATER})
"""Words that are commands of their own after ``deploy`` too."""


class LazyGroup(click.Group):
    """A group that imports a command only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now."""
        if cmd_name in LATER:
            raise comes_later(LATER[cmd_name])
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is meant: ``deploy status`` is ``status``."""
        if args[:1] == ["deploy"] and args[1:] and args[1] in _OF_DEPLOY:
            args = args[1:]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fedparty")
def cli() -> None:
    """From one parties.conf to a verified federation.

    With -v, every command shows where in the program an error came from.
    """


def comes_later(what: str) -> NotAvailableError:
    """Return the error for what this release does not have."""
    return NotAvailableError(f"{what}: comes with a later release", hint="fedparty --help lists what is there today.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    # Loading makes much and drops little: looking through it for garbage, also at the end, is half of a command's time.
    gc.set_threshold(_COLLECT_AFTER)
    atexit.register(gc.freeze)
    return call(cli, "fedparty", arguments, when_interrupted="running the same command again goes on from here")


def call(command: click.Command, name: str, arguments: Sequence[str] | None, *, when_interrupted: str = "") -> int:
    """Run a command and return its exit code; with ``-v`` an error comes with its traceback.

    Parameters
    ----------
    arguments
        None: those of this process.
    when_interrupted
        What is said after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    is_verbose = any(each in ("-v", "--verbose") for each in given)
    try:
        words = [each for each in given if each not in ("-v", "--verbose")]
        code = command.main(words, name, standalone_mode=False, obj=is_verbose)
    except FedpartyError as exc:
        if is_verbose:
            raise
        return tell(exc)
    except BrokenPipeError:  # whoever read has seen enough: | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as exc:
        if is_verbose:
            raise
        return tell(FedpartyError(": ".join(str(each) for each in (exc.filename, exc.strerror or exc) if each)))
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.secho(": ".join(each for each in ("\ninterrupted", when_interrupted) if each), err=True, fg="red")
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def tell(error: FedpartyError) -> int:
    """Print an error for a person and return its exit code."""
    click.secho(error.message, err=True, fg="red")
    if error.hint:
        click.echo(error.hint, err=True)
    return error.exit_code
