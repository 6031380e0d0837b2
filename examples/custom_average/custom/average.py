"""The average of all members' numbers, told to the guest alone. The guest sees each host's sum: this is an example."""

from __future__ import annotations

from fedparty.context import Context


class Average:
    """Average of the numbers that the job gives each party."""

    def guest(self, ctx: Context) -> dict[str, float]:
        """Collect sums and counts."""
        hosts = ctx.receive("part", source="host")
        parts = [self._own(ctx), *(hosts if isinstance(hosts[0], list) else [hosts])]
        total, count = (sum(each) for each in zip(*parts, strict=True))
        ctx.log.info("%d numbers", count)
        return {"average": total / count}

    def host(self, ctx: Context) -> None:
        """Send the own sum and count."""
        ctx.send("part", self._own(ctx), to="guest")

    def _own(self, ctx: Context) -> list[float]:
        values = ctx.parameters["values"]
        return [float(sum(values)), float(len(values))]
