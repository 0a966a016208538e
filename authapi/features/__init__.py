"""The features. Each is one module; `authapi.feature` says what it may declare."""

from __future__ import annotations

from types import ModuleType

DEFAULT = (
    "audit",
    "users",
    "limits",
    "lockout",
    "database_copy",
    "accounts",
    "devices",
    "sessions",
    "renewal",
    "replaced_sessions",
    "session_list",
    "claims",
    "one_time_tokens",
    "sign_in",
    "registration",
    "login",
    "reauthentication",
    "password_change",
    "mail_limits",
    "password_reset",
    "security_notices",
    "mailed_proofs",
    "email_verification",
    "forward_auth",
    "health",
    "mail",
    "metrics",
)

# The groups of commands; and the commands, with the feature that declares each and a line of help.
# NOTE: the help must know them without the features, which import the service's libraries. A module
# that has commands alone is not in DEFAULT, so that a server does not load it.
GROUPS: dict[str, str] = {
    "user": "find and change users",
    "session": "list and end sessions",
    "audit": "read the audit log",
    "key": "rotate the signing keys",
    "mail": "look after mails that wait",
    "db": "look after the database",
}
COMMANDS: dict[str, tuple[str | ModuleType, str]] = {
    "user add": ("user_passwords", "add a user"),
    "user list": ("user_look_up", "list users"),
    "user show": ("user_look_up", "show a user, and whether they can log in"),
    "user password": ("user_passwords", "give a user another password"),
    "user rename": ("user_changes", "give a user another username"),
    "user disable": ("user_changes", "keep users from logging in"),
    "user enable": ("user_changes", "let disabled users log in again"),
    "user export": ("user_export", "write all that is kept about a user"),
    "user unlock": ("unlock", "let a user log in after too many failures"),
    "user delete": ("user_changes", "delete users"),
    "session list": ("session_commands", "list sessions"),
    "session end": ("session_commands", "end sessions"),
    "audit list": ("audit_commands", "list or follow what happened"),
    "audit prune": ("audit_commands", "delete old entries"),
    "key list": ("key_commands", "list the signing keys and what needs them"),
    "key rotate": ("key_commands", "let a new key sign"),
    "key retire": ("key_commands", "take an old key out"),
    "mail list": ("mail_commands", "list mails that wait or could not be sent"),
    "mail retry": ("mail_commands", "let dead mails be tried again"),
    "mail drop": ("mail_commands", "delete mails that were not sent"),
    "mail test": ("mail_commands", "send a mail to an address at once"),
    "mail send": ("mail_commands", "send what is due, in this process"),
    "db status": ("database_status", "show the schema's version, sizes and numbers"),
    "db check": ("database_check", "look for faults of the database"),
    "db migrate": ("database_status", "update the schema, as a start does"),
    "db backup": ("backup", "copy the database to a file, while the service runs"),
    "db restore": ("restore", "put a backup in the place of the database"),
    "db copy": ("database_copy", "move from SQLite to PostgreSQL"),
    "import": ("imports", "take in users of another system"),
    "export": ("exports", "write out all users"),
    "settings": ("settings_command", "show or check the settings, or write them to a file"),
    "hash": ("hash_command", "write the hash of a password"),
    "doctor": ("doctor", "check settings, machine, database and keys"),
    "ping": ("ping", "ask a running service whether it is ready"),
    "unlock": ("unlock", "the same as user unlock"),
}
