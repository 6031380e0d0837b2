"""Users, their tokens and the nonces of their submissions in the database.

Owns the statements. Does not own what a token looks like.
"""

from __future__ import annotations

import time
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from fedparty.database.engine import Database
from fedparty.flow.people.users import User, UserRole
from fedparty.flow.tables import NONCES, USER_TOKENS, USERS

_USER, _TOKEN, _NONCE = USERS.c, USER_TOKENS.c, NONCES.c


class PeopleStore:
    """The users of a party.

    Parameters
    ----------
    database
        Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def users(self) -> tuple[User, ...]:
        """Return every user, by name."""

        async def work(connection: AsyncConnection) -> tuple[User, ...]:
            tokens = (
                sa.select(_TOKEN.user, sa.func.count().label("tokens"), sa.func.max(_TOKEN.expires_at).label("last"))
                .where(_TOKEN.expires_at > time.time())
                .group_by(_TOKEN.user)
                .subquery()
            )
            query = sa.select(USERS, tokens.c.tokens, tokens.c.last).outerjoin(tokens, tokens.c.user == _USER.name)
            rows = await connection.execute(query.order_by(_USER.name))
            return tuple(
                replace(_user(row), tokens=row.tokens or 0, token_expires_at=row.last if row.tokens else None)
                for row in rows
            )

        return await self._database.read(work)

    async def user(self, name: str) -> User | None:
        """Return a user, or None."""
        return await self._one(sa.select(USERS).where(_USER.name == name))

    async def owner(self, digest: str) -> User | None:
        """Return whose valid token has this digest, or None."""
        query = sa.select(USERS).join(USER_TOKENS, _TOKEN.user == _USER.name)
        return await self._one(query.where((_TOKEN.digest == digest) & (_TOKEN.expires_at > time.time())))

    async def add(self, user: User) -> None:
        """Record a user; one of that name stays as they are."""
        values = {
            "name": user.name, "role": user.role, "public_key": user.public_key, "created_at": user.created_at,
        }  # fmt: skip
        await self._write(self._database.insert_if_absent(USERS).values([values]))

    async def remove(self, name: str) -> None:
        """Forget a user and every token of theirs."""
        await self._write(sa.delete(USER_TOKENS).where(_TOKEN.user == name), sa.delete(USERS).where(_USER.name == name))

    async def add_token(self, user: str, digest: str, expires_at: float) -> None:
        """Record a token, and forget those that have expired."""
        now = time.time()
        values = {"digest": digest, "user": user, "created_at": now, "expires_at": expires_at}
        await self._write(
            sa.delete(USER_TOKENS).where(_TOKEN.expires_at <= now),
            self._database.insert_if_absent(USER_TOKENS).values([values]),
        )

    async def remove_tokens(self, user: str) -> None:
        """Forget every token of a user."""
        await self._write(sa.delete(USER_TOKENS).where(_TOKEN.user == user))

    async def use_nonce(self, user: str, nonce: str, job: str, expires_at: float) -> bool:
        """Keep a nonce until it expires; return whether it is this job's, and not one that was used before."""

        async def work(connection: AsyncConnection) -> bool:
            await connection.execute(sa.delete(NONCES).where(_NONCE.expires_at <= time.time()))
            values = {"user": user, "nonce": nonce, "job": job, "expires_at": expires_at}
            await connection.execute(self._database.insert_if_absent(NONCES).values([values]))
            is_it = (_NONCE.user == user) & (_NONCE.nonce == nonce)
            found = await connection.scalar(sa.select(_NONCE.job).where(is_it))
            return bool(found == job)

        return await self._database.write(work)

    async def _one(self, query: sa.Select[tuple[object, ...]]) -> User | None:
        async def work(connection: AsyncConnection) -> User | None:
            row = (await connection.execute(query)).first()
            return None if row is None else _user(row)

        return await self._database.read(work)

    async def _write(self, *statements: sa.Executable) -> None:
        async def work(connection: AsyncConnection) -> None:
            for statement in statements:
                await connection.execute(statement)

        await self._database.write(work)


def _user(row: sa.Row[tuple[object, ...]]) -> User:
    return User(row.name, UserRole(row.role), row.public_key, row.created_at)
