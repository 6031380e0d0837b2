"""The jobs' own code, as this party's flow keeps it.

Owns which archives are kept, by their digest, and for how long. Does not own who may bring one or run it
(`fedparty.flow.admission`), nor what may be in it (`fedparty.jobs.code`).
"""

from fedparty.flow.codes.codes import Codes

__all__ = ["Codes"]
