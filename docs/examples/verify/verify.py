"""A FastAPI dependency that asks authapi whose request it is. Run it: `python verify.py`."""

import asyncio
import os
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Annotated

import httpx
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request

VERIFY = os.environ.get("AUTHAPI_URL", "http://127.0.0.1:3001") + "/verify"
no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # all users share the client
client = httpx.AsyncClient(cookies=no_cookies, trust_env=False)
app = FastAPI()


async def user_id(request: Request) -> str:
    """Return the id of the user who sends a request, or answer 401 or 503."""
    sent = [pair for pair in request.headers.raw if pair[0] in (b"cookie", b"authorization")]
    try:
        async with asyncio.timeout(1):  # httpx's own limits count each read anew
            answer = await client.get(VERIFY, headers=sent)
    except (httpx.HTTPError, TimeoutError):
        raise HTTPException(503, "try again later") from None
    if answer.status_code == 401:
        raise HTTPException(401, "log in first")
    if answer.status_code != 200 or not answer.headers.get("X-Auth-User-Id"):
        raise HTTPException(503, "try again later")
    return answer.headers["X-Auth-User-Id"]


@app.get("/")
async def welcome(user: Annotated[str, Depends(user_id)]) -> dict[str, str]:
    """Answer the user's id."""
    return {"user": user}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
