"""The words of the console: those of NVIDIA FLARE's console, and which of our commands each one runs.

Owns the table; docs/console.md shows it (a test holds them together). Does not own running anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedparty.errors import NotAvailableError


@dataclass(frozen=True)
class Word:
    """A word of FLARE's console.

    Attributes
    ----------
    runs
        The command of ours, as the words after ``fedparty``; what follows the word in the console follows these.
    text
        What it does, for people.
    without
        What is run instead where nothing follows the word.
    """

    runs: tuple[str, ...]
    text: str
    without: tuple[str, ...] = ()

    def command(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """Return the whole command."""
        if self.without and not arguments:
            return self.without
        return (*self.runs, *arguments)


WORDS: Mapping[str, Word] = {
    "check_status": Word(("party", "status"), "What the party is, and whether it answers."),
    "list_jobs": Word(("job", "list"), "The jobs that the party knows, newest first."),
    "submit_job": Word(("job", "submit"), "Submit a job folder."),
    "abort_job": Word(("job", "stop"), "Stop a job at every party."),
    "get_job_meta": Word(("job", "show"), "What a job is, and how far it is."),
    "get_job_log": Word(("job", "logs"), "The log of a job; -f follows it."),
    "download_job": Word(("job", "download"), "Fetch what a job left behind, into job-ID or a folder."),
    "clone_job": Word(("job", "rerun"), "Submit the same again, as a job of its own."),
    "delete_job": Word(("job", "delete"), "Remove a job that has ended."),
    "show_stats": Word(("job", "show"), "How far each task of a job is."),
    "show_errors": Word(
        ("job", "show"),
        "What went wrong in a job; without one, which jobs failed.",
        ("job", "list", "--status", "failed"),
    ),
    "sys_info": Word(("party", "resources"), "What the party's machine has, and what is free."),
    "report_resources": Word(("party", "resources"), "What the party offers to jobs, and what is free."),
    "report_version": Word(("--version",), "The release of fedparty."),
    "show_scopes": Word(("party", "policy"), "What the site allows."),
}
"""FLARE's word: what it runs here."""

_MACHINE = "That is for who runs the machine"
ABSENT: Mapping[str, str] = {
    "download_job_components": "download_job fetches all that a job left behind.",
    "configure_job_log": "A component's log is as verbose as it logs; log_level in parties.conf is for the services.",
    "reset_errors": "Errors belong to their jobs and go with them: delete_job.",
    "report_env": "sys_info tells what the machine has; fedparty doctor tells what is wrong with it.",
    "restart": f"{_MACHINE}: fedparty deploy PARTY; a lab: fedparty lab up.",
    "shutdown": f"{_MACHINE}: fedparty deploy PARTY --delete; a lab: fedparty lab down.",
    "enable_client": f"{_MACHINE}: fedparty pki renew PARTY lets a revoked party in again.",
    "disable_client": f"{_MACHINE}: fedparty pki revoke PARTY shuts a party out.",
    "remove_client": f"{_MACHINE}: fedparty pki revoke PARTY; a lab: fedparty lab party remove PARTY.",
    "ls": "Nobody looks into another's files; download_job fetches what a job left behind.",
    "cat": "Nobody looks into another's files; get_job_log shows a job's log.",
    "head": "Nobody looks into another's files; get_job_log shows a job's log.",
    "tail": "Nobody looks into another's files; get_job_log -f follows a job's log.",
    "grep": "Nobody looks into another's files; get_job_log shows a job's log.",
    "pwd": "Nobody looks into another's files; lpwd tells where this console runs.",
    "timeout": "A call waits as long as it must; Ctrl-C ends it, and the party goes on.",
}
"""FLARE's words that nothing here answers to: what to do instead."""


def translate(words: Sequence[str]) -> tuple[str, ...]:
    """Return the command that a line of the console means, as the words after ``fedparty``.

    Raises
    ------
    NotAvailableError
        It is one of FLARE's that has no counterpart; the hint says what to do instead.
    """
    first, *rest = words
    if first in ABSENT:
        raise NotAvailableError(f"{first}: there is no such command here", hint=ABSENT[first])
    return WORDS[first].command(rest) if first in WORDS else tuple(words)
