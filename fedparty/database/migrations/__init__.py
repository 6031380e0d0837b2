"""The migrations of the flow's database, run by `fedparty.database.migrate`."""
