"""Options that several commands share.

Owns their names, their help, and how they are repeated in a command line to be copied. Owns no command.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_CONF, _OUTPUTS = "parties.conf", "outputs"


def outputs_option(function: Decorated) -> Decorated:
    """Add the folder of the bundles."""
    return click.option(
        "-o", "outputs", type=click.Path(file_okay=False, path_type=Path), default=_OUTPUTS, show_default=True,
        help="Folder of the bundles and of the federation's keys.",
    )(function)  # fmt: skip


def places(function: Decorated) -> Decorated:
    """Add the options that say which federation is meant."""
    return click.option(
        "-c", "conf", type=click.Path(path_type=Path), default=_CONF, show_default=True,
        help="The federation's parties.conf.",
    )(outputs_option(function))  # fmt: skip


def engine_option(function: Decorated) -> Decorated:
    """Add the choice of the engine."""
    return click.option(
        "--engine",
        type=click.Choice(["docker", "process"]),
        help="What runs the services; else parties.conf says.",
    )(function)


def host_key_option(function: Decorated) -> Decorated:
    """Add how a machine is believed that SSH sees for the first time."""
    return click.option(
        "--accept-host-key",
        "is_host_key_accepted",
        is_flag=True,
        help="Accept the SSH key of a machine that is seen for the first time; a changed one never.",
    )(function)


def home_option(function: Decorated) -> Decorated:
    """Add the home of a party, for commands that run in one."""
    return click.option(
        "--home",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=".",
        help="Party's home.  [default: the working directory]",
    )(function)


def repeat_places(conf: Path, outputs: Path) -> list[str]:
    """Return `places` as words of a command line; what is the default is left out."""
    options = (("-c", conf, _CONF), ("-o", outputs, _OUTPUTS))
    return [word for flag, value, default in options if str(value) != default for word in (flag, str(value))]
