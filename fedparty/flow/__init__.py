"""The job server of a party: accepts jobs, runs them across parties, and runs this party's part of other parties' jobs.

Two sides that meet in one database. As *initiator*: `scheduler`, `run`, `peers`, `notices`. As *site*: `coordination`,
`site`, `launcher`, `resources`. Owns the life of jobs. Does not own what tasks compute (`components`), their processes
(`worker`), nor what they send each other (`federation`).
"""
