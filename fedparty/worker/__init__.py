"""The launcher of tasks: a fork server with its imports warm, one fresh process per task, the service around them.

Owns processes, their folders and their ends. Does not own jobs (`flow`), objects (`federation`) or what a task computes
(`components`).

    service ── gRPC to flow            launcher ── which task is in which state
       └─ forkserver (a process) ── forks ── task (a process each) ── context ── the component
"""
