"""A service of fastapi-users as in its full example, with a cookie instead of the bearer token.

Run by uvicorn; DATABASE, SECRET and ARGON2_… come from the environment. DATABASE is a SQLite file,
or a URL of PostgreSQL: then tokens are in the database, where they can be revoked.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import (
    AuthenticationBackend,
    CookieTransport,
    JWTStrategy,
    Strategy,
)
from fastapi_users.authentication.strategy.db import AccessTokenDatabase, DatabaseStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users.password import PasswordHelper
from fastapi_users_db_sqlalchemy.access_token import (
    SQLAlchemyAccessTokenDatabase,
    SQLAlchemyBaseAccessTokenTableUUID,
)
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

DATABASE, SECRET = os.environ["DATABASE"], os.environ["SECRET"]
ON_SERVER = DATABASE.startswith("postgresql://")
LIFETIME = 259_200  # seconds

engine = create_async_engine(
    DATABASE.replace("://", "+asyncpg://", 1) if ON_SERVER else f"sqlite+aiosqlite:///{DATABASE}"
)
new_session = async_sessionmaker(engine, expire_on_commit=False)
hasher = Argon2Hasher(
    time_cost=int(os.environ["ARGON2_TIME_COST"]),
    memory_cost=int(os.environ["ARGON2_MEMORY_KIB"]),
    parallelism=int(os.environ["ARGON2_LANES"]),
)


class Base(DeclarativeBase):
    """The tables."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """The table of users."""


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    """The table of tokens."""


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """The manager of users."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


async def get_session() -> AsyncIterator[AsyncSession]:
    """Yield a database session for one request."""
    async with new_session() as session:
        yield session


async def get_user_db(
    session: Annotated[AsyncSession, Depends(get_session)],
) -> AsyncIterator[SQLAlchemyUserDatabase[User, uuid.UUID]]:
    """Yield the users in that session."""
    yield SQLAlchemyUserDatabase(session, User)


async def get_user_manager(
    user_db: Annotated[SQLAlchemyUserDatabase[User, uuid.UUID], Depends(get_user_db)],
) -> AsyncIterator[UserManager]:
    """Yield the manager of those users."""
    yield UserManager(user_db, PasswordHelper(PasswordHash((hasher,))))


async def get_tokens(
    session: Annotated[AsyncSession, Depends(get_session)],
) -> AsyncIterator[SQLAlchemyAccessTokenDatabase[AccessToken]]:
    """Yield the tokens in that session."""
    yield SQLAlchemyAccessTokenDatabase(session, AccessToken)


def get_signed() -> Strategy[User, uuid.UUID]:
    """Return how signed tokens are made and read."""
    return JWTStrategy(SECRET, lifetime_seconds=LIFETIME)


def get_stored(
    tokens: Annotated[AccessTokenDatabase[AccessToken], Depends(get_tokens)],
) -> Strategy[User, uuid.UUID]:
    """Return how tokens of the database are made and read."""
    return DatabaseStrategy(tokens, lifetime_seconds=LIFETIME)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Make the tables before the first request."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield


backend = AuthenticationBackend(
    name="database" if ON_SERVER else "jwt",
    transport=CookieTransport(cookie_max_age=LIFETIME, cookie_secure=False),
    get_strategy=get_stored if ON_SERVER else get_signed,
)
users = FastAPIUsers[User, uuid.UUID](get_user_manager, [backend])
app = FastAPI(lifespan=lifespan)
app.include_router(users.get_auth_router(backend), prefix="/auth")
app.include_router(
    users.get_register_router(schemas.BaseUser[uuid.UUID], schemas.BaseUserCreate), prefix="/auth"
)
app.include_router(
    users.get_users_router(schemas.BaseUser[uuid.UUID], schemas.BaseUserUpdate), prefix="/users"
)
