"""A Flask service as in the tutorial "Authentication JWT and Cookies", on waitress.

Run as `python app.py`; DATABASE, PORT, SECRET and ARGON2_… come from the environment.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import jwt
import waitress
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from flask import Flask, Response, jsonify, make_response, request
from flask_sqlalchemy import SQLAlchemy

TOKEN_KEY = "jwt"
SECRET = os.environ["SECRET"]

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{os.environ['DATABASE']}"
db = SQLAlchemy(app)
hasher = PasswordHasher(
    time_cost=int(os.environ["ARGON2_TIME_COST"]),
    memory_cost=int(os.environ["ARGON2_MEMORY_KIB"]),
    parallelism=int(os.environ["ARGON2_LANES"]),
)


class User(db.Model):
    """A user, as in the tutorial's table."""

    id = db.Column(db.Integer, primary_key=True)
    username = db.Column(db.String(80), unique=True, nullable=False)
    email = db.Column(db.String(120), unique=True, nullable=False)
    password = db.Column(db.String(500), nullable=False)
    created_at = db.Column(db.DateTime, server_default=db.func.now())
    updated_at = db.Column(db.DateTime, server_default=db.func.now(), onupdate=db.func.now())

    def to_json(self) -> dict[str, object]:
        """Return what clients see of a user."""
        return {
            "id": self.id,
            "username": self.username,
            "email": self.email,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


def answer(code: int, message: str, user: User | None) -> Response:
    """Return the tutorial's envelope."""
    shown = user.to_json() if user else None
    body = {"code": code, "message": message, "timestamp": datetime.now(UTC), "user": shown}
    return make_response(jsonify(body), code)


def with_cookie(response: Response, user: User) -> Response:
    """Set the token of a user."""
    token = jwt.encode({"id": user.id, "username": user.username}, SECRET, algorithm="HS256")
    response.set_cookie(TOKEN_KEY, token, timedelta(days=3), httponly=True, samesite="Lax")
    return response


@app.post("/register")
def register() -> Response:
    """Add a user and log them in."""
    data = request.get_json()
    user = User(
        username=data["username"], email=data["email"], password=hasher.hash(data["password"])
    )
    db.session.add(user)
    db.session.commit()
    return with_cookie(answer(201, "User created.", user), user)


@app.post("/login")
def login() -> Response:
    """Find the user by name or else by email, verify the password, set the token."""
    data = request.get_json()
    name = data["usernameOrEmail"]
    user = User.query.filter_by(username=name).first() or User.query.filter_by(email=name).first()
    try:
        if user and hasher.verify(user.password, data["password"]):
            return with_cookie(answer(200, "Logged in.", user), user)
    except VerifyMismatchError:
        pass
    return answer(401, "Invalid credentials.", None)


@app.post("/logout")
def logout() -> Response:
    """Delete the cookie."""
    response = answer(200, "Logged Out.", None)
    response.delete_cookie(TOKEN_KEY)
    return response


@app.get("/user")
def current_user() -> Response:
    """Return the user whose id is in the token, from the database."""
    token = request.cookies.get(TOKEN_KEY)
    if not token:
        return answer(401, "You need to be authenticated.", None)
    try:
        payload = jwt.decode(token, SECRET, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        return answer(401, "Invalid token or it has expired.", None)
    user = User.query.filter_by(id=payload["id"]).first()
    return answer(200, "User.", user) if user else answer(401, "No such user.", None)


if __name__ == "__main__":
    with app.app_context():
        db.create_all()
    waitress.serve(app, host="127.0.0.1", port=int(os.environ["PORT"]))
