"""Changes of emails, as tests make them."""

from conftest import USER

NEW = "new@example.com"


def ask(client, token, email=NEW):
    return client.request_as(token, "POST", "/user/email", {"email": email})


def confirm(client, token, body):
    return client.request_as(token, "POST", "/user/email/confirm", body)


def mail_to(client, address):
    """Send what is due, and return the one message to an address."""
    (message,) = [each for each in client.mails() if each["To"] == address]
    return message


def email_of(client, token):
    return client.get_as(token).json["user"]["email"]


def change_password(client, token):
    body = {"current_password": USER["password"], "new_password": "a better password"}
    return client.request_as(token, "PUT", "/user/password", body)
