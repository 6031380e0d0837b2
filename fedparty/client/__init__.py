"""The REST client of a party: submit jobs, watch them, read their logs.

    with Session.at_home(Path("outputs/deployed/confs-10000")) as session:
        job = session.wait(session.submit(description).id)

Owns the calls and their errors. Imports no service, so that a command line starts fast.
"""

from fedparty.client.session import Session
from fedparty.client.status import JobStatus, PartyStatus, Pong, TaskStatus

__all__ = ["JobStatus", "PartyStatus", "Pong", "Session", "TaskStatus"]
